//! The blob: sections and entries in their order, each with its own text.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::entity::Entry;
use super::error::BlobError;
use super::json::{Scanner, SharedText, last_wins, name, quoted, validate};
use super::section::Section;
use crate::token_cache::encryption::is_envelope;

/// The first bytes of everything ASP.NET Core Data Protection encrypts.
pub(in crate::token_cache) const DATA_PROTECTION: [u8; 4] = [0x09, 0xF0, 0xC9, 0xF0];

/// How much a blob may be before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest size, in bytes.
    pub max_bytes: usize,
    /// The deepest nesting of objects and arrays, from 3 on: the blob, a section and an entity are three levels.
    pub max_depth: usize,
}

impl Default for Limits {
    /// 1 MiB and 32 levels; a real blob has some kilobytes and five levels.
    fn default() -> Self {
        Self { max_bytes: 1 << 20, max_depth: 32 }
    }
}

/// One user's token cache, as MSAL libraries share it.
///
/// Cloning shares the text. `Debug` shows counts, never content.
#[derive(Clone, Default)]
pub struct TokenCacheBlob {
    /// The text as it was parsed, for as long as nothing was changed.
    original: Option<Arc<str>>,
    slots: Vec<Slot>,
}

/// One member of the blob.
#[derive(Clone)]
pub(super) struct Slot {
    /// The name with its quotes.
    pub(super) key: SharedText,
    pub(super) body: Body,
}

#[derive(Clone)]
pub(super) enum Body {
    /// A section this library reads, with its text for as long as no entry was changed.
    Known { section: Section, text: Option<SharedText>, entries: Vec<Entry> },
    /// Anything else.
    Opaque(SharedText),
}

impl TokenCacheBlob {
    /// A cache that holds nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads a blob within the default [`Limits`].
    ///
    /// Nothing, white space, `{}` and missing or `null` sections are an empty cache; of a duplicated key the last
    /// value counts. Entries that cannot be understood are kept and not used; [`oddities`](Self::oddities) lists them.
    ///
    /// # Errors
    ///
    /// [`BlobError`], if the bytes are no token cache.
    pub fn parse(bytes: &[u8]) -> Result<Self, BlobError> {
        Self::parse_within(bytes, Limits::default())
    }

    /// Reads a blob like [`parse`](Self::parse), within limits of your own.
    ///
    /// # Errors
    ///
    /// [`BlobError`], if the bytes are no token cache.
    pub fn parse_within(bytes: &[u8], limits: Limits) -> Result<Self, BlobError> {
        if bytes.starts_with(&DATA_PROTECTION) {
            return Err(BlobError::DataProtection);
        }
        if is_envelope(bytes) {
            return Err(BlobError::Encrypted);
        }
        if bytes.len() > limits.max_bytes {
            return Err(BlobError::TooLarge { bytes: bytes.len(), limit: limits.max_bytes });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| BlobError::NotUtf8 { offset: e.valid_up_to() })?;
        match is_blank(text) {
            true => Ok(Self { original: Some(text.into()), slots: Vec::new() }),
            false => Self::read(text.into(), limits),
        }
    }

    fn read(text: Arc<str>, limits: Limits) -> Result<Self, BlobError> {
        validate(&text).map_err(|error| BlobError::Malformed { line: error.line(), column: error.column() })?;
        let source = SharedText::whole(Arc::clone(&text));
        let mut scanner = Scanner::new(&text);
        let mut slots = Vec::with_capacity(Section::ALL.len() + 1);
        let whole = scanner.object(|scanner, key| slots.push((key, Slot::read(&source, scanner, key))));
        if whole.is_none() {
            return Err(BlobError::WrongType { section: None });
        }
        if scanner.deepest() > limits.max_depth {
            return Err(BlobError::TooDeep { limit: limits.max_depth });
        }
        let slots = last_wins(slots).into_iter().map(|(_, slot)| slot).collect::<Result<_, _>>()?;
        Ok(Self { original: Some(text), slots })
    }

    /// The blob as bytes: those it was parsed from if nothing was changed, else compact JSON around the kept texts.
    #[must_use]
    pub fn serialize(&self) -> Cow<'_, [u8]> {
        match self.text() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }
    }

    pub(super) fn text(&self) -> Cow<'_, str> {
        match &self.original {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(self.write()),
        }
    }

    /// Whether the blob was changed since it was parsed (or was never parsed).
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.original.is_none()
    }

    /// Whether there is no entry in any section, known or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| match &slot.body {
            Body::Known { entries, .. } => entries.is_empty(),
            Body::Opaque(_) => false,
        })
    }

    /// Whether nothing of a user or of the app is left, as after a library removed the last account: no account and
    /// no token, understood or not, and nothing unknown. What only describes the app may be left.
    #[must_use]
    pub fn is_emptied(&self) -> bool {
        self.slots.iter().all(|slot| match &slot.body {
            Body::Known { section: Section::AppMetadata, .. } => true,
            Body::Known { entries, .. } => entries.is_empty(),
            Body::Opaque(text) => matches!(text.as_str(), "{}" | "[]" | "null"),
        })
    }

    fn write(&self) -> String {
        write_object(self.slots.iter().map(|slot| (slot.key.as_str(), slot.text())))
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// All entries of a section, usable or not, in their order.
    pub(super) fn entries(&self, section: Section) -> &[Entry] {
        self.slots.iter().find_map(|slot| slot.entries_of(section)).unwrap_or_default()
    }

    /// The blob of these members, as a changed one.
    pub(super) fn of(slots: Vec<Slot>) -> Self {
        Self { original: None, slots }
    }

    /// Changes the entries of a section; the blob counts as changed from here on.
    pub(super) fn change(&mut self, section: Section, change: impl FnOnce(&mut Vec<Entry>)) {
        self.original = None;
        match self.slots.iter_mut().find_map(|slot| slot.entries_mut(section)) {
            Some(entries) => change(entries),
            None => {
                let mut entries = Vec::new();
                change(&mut entries);
                self.slots.push(Slot::new(section, entries));
            }
        }
    }

    /// The entries of a section that can be used, in their order.
    pub(super) fn usable(&self, section: Section) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries(section).iter().filter(|entry| entry.is_usable())
    }
}

impl fmt::Debug for TokenCacheBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TokenCacheBlob");
        for section in Section::ALL {
            shown.field(section.name(), &self.entries(section).len());
        }
        shown.finish_non_exhaustive()
    }
}

impl Slot {
    fn read(source: &SharedText, scanner: &mut Scanner<'_>, key: &str) -> Result<Self, BlobError> {
        let body = match Section::named(&name(key)) {
            Some(section) => read_section(section, source, scanner)?,
            None => Body::Opaque(source.part(scanner.value())),
        };
        Ok(Self { key: source.part(key), body })
    }

    /// A section with these entries.
    pub(super) fn new(section: Section, entries: Vec<Entry>) -> Self {
        let key = SharedText::whole(quoted(section.name()).into());
        Self { key, body: Body::Known { section, text: None, entries } }
    }

    fn entries_mut(&mut self, wanted: Section) -> Option<&mut Vec<Entry>> {
        match &mut self.body {
            Body::Known { section, text, entries } if *section == wanted => {
                *text = None;
                Some(entries)
            }
            _ => None,
        }
    }

    pub(super) fn entries_of(&self, wanted: Section) -> Option<&[Entry]> {
        match &self.body {
            Body::Known { section, entries, .. } if *section == wanted => Some(entries),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.body, Body::Known { text: Some(text), .. } if text.as_str() == "null")
    }

    pub(super) fn text(&self) -> Cow<'_, str> {
        match &self.body {
            Body::Opaque(text) | Body::Known { text: Some(text), .. } => Cow::Borrowed(text.as_str()),
            Body::Known { entries, .. } => {
                let members = entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str().into()));
                Cow::Owned(write_object(members))
            }
        }
    }
}

fn read_section(section: Section, source: &SharedText, scanner: &mut Scanner<'_>) -> Result<Body, BlobError> {
    let mut entries = Vec::new();
    let mut members = Vec::with_capacity(16);
    let text = scanner.object(|scanner, key| {
        members.clear();
        let object = scanner.object(|scanner, name| members.push((name, scanner.value())));
        let entry = match object {
            Some(text) => Entry::read(section, source, key, text, Some(&members)),
            None => Entry::read(section, source, key, scanner.value(), None),
        };
        entries.push((key, entry));
    });
    let text = match text {
        Some(text) => text,
        None => Some(scanner.value())
            .filter(|value| *value == "null")
            .ok_or(BlobError::WrongType { section: Some(section) })?,
    };
    let entries = last_wins(entries).into_iter().map(|(_, entry)| entry).collect();
    Ok(Body::Known { section, text: Some(source.part(text)), entries })
}

pub(super) fn write_object<'a>(members: impl Iterator<Item = (&'a str, Cow<'a, str>)>) -> String {
    let mut text = String::from("{");
    for (key, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(key);
        text.push(':');
        text.push_str(&value);
    }
    text.push('}');
    text
}

pub(super) fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}
