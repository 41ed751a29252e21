//! What a doctor should know about a readable blob: entries left alone, and spellings some MSAL library chokes on.

use std::fmt;

use super::blob::{Body, TokenCacheBlob};
use super::entity::{Entry, Field};
use super::json::name;
use super::section::Section;

/// Something unusual in a blob that could be parsed.
///
/// Entries are named by their place, not by their key or content: in a damaged blob a key may be anything, a token too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oddity {
    /// The section it is in.
    pub section: Section,
    /// Which entry of the section, from 1; `None` for the section itself.
    pub entry: Option<usize>,
    /// What is unusual.
    pub kind: OddityKind,
}

/// What is unusual about an entry or a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OddityKind {
    /// The section is `null`; it is read as empty.
    NullSection,
    /// The entry is not a JSON object; it is kept and not used.
    NotAnObject,
    /// A field has the wrong type; the entry is kept and not used.
    WrongType {
        /// The field.
        field: &'static str,
    },
    /// A field is missing without which the entry means nothing; it is kept and not used.
    MissingField {
        /// The field.
        field: &'static str,
    },
    /// The credential is bound to something this library does not know; it is kept and not used.
    Extended,
    /// The `credential_type` is not the section's; the entry is kept and not used.
    UnknownCredentialType,
    /// A time is a JSON number: read here, but MSAL.NET rejects the whole blob.
    NumberForTime {
        /// The field.
        field: &'static str,
    },
    /// A field is `null`: read here as absent, but MSAL Python and MSAL Go can break on it.
    NullField {
        /// The field.
        field: &'static str,
    },
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            Some(entry) => write!(f, "{} entry {entry}: {}", self.section, self.kind),
            None => write!(f, "{}: {}", self.section, self.kind),
        }
    }
}

impl fmt::Display for OddityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NullSection => f.write_str("is null and read as empty"),
            Self::NotAnObject => f.write_str("is not a JSON object and is left alone"),
            Self::WrongType { field } => {
                write!(f, "{field} has the wrong type; the entry is left alone")
            }
            Self::MissingField { field } => {
                write!(f, "{field} is missing; the entry is left alone")
            }
            Self::Extended => f.write_str("is bound to an extension and is left alone"),
            Self::UnknownCredentialType => f.write_str("has an unknown credential type and is left alone"),
            Self::NumberForTime { field } => {
                write!(f, "{field} is a number, which MSAL.NET rejects")
            }
            Self::NullField { field } => {
                write!(f, "{field} is null, on which MSAL Python and MSAL Go can break")
            }
        }
    }
}

impl TokenCacheBlob {
    /// What is unusual in this blob, in its order; empty for what MSAL libraries write today.
    pub fn oddities(&self) -> impl Iterator<Item = Oddity> {
        self.slots()
            .iter()
            .filter_map(|slot| match &slot.body {
                Body::Known { section, entries, .. } => Some((*section, slot.is_null(), entries)),
                Body::Opaque(_) => None,
            })
            .flat_map(|(section, is_null, entries)| {
                let null = is_null.then_some(Oddity { section, entry: None, kind: OddityKind::NullSection });
                let within = entries.iter().enumerate().flat_map(move |(index, entry)| {
                    oddities_of(section, entry).into_iter().map(move |kind| Oddity {
                        section,
                        entry: Some(index + 1),
                        kind,
                    })
                });
                null.into_iter().chain(within)
            })
    }
}

fn oddities_of(section: Section, entry: &Entry) -> Vec<OddityKind> {
    let known = |key: &str| Field::named(&name(key)).filter(|field| section.reads(*field));
    let members = entry.members();
    let spellings = members.iter().filter_map(|(key, raw)| spelling(known(key)?, raw));
    entry.skipped().into_iter().chain(spellings).collect()
}

fn spelling(field: Field, raw: &str) -> Option<OddityKind> {
    // MSAL Python itself writes the app's own tokens with a null account.
    if raw == "null" && field != Field::HomeAccountId {
        return Some(OddityKind::NullField { field: field.name() });
    }
    let is_number = raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    (field.is_time() && is_number).then_some(OddityKind::NumberForTime { field: field.name() })
}
