//! One entity of a section: the fields this library reads, and why it may have to be left alone.

use std::borrow::Cow;

use super::json::{SharedText, members, name, string};
use super::oddity::OddityKind;
use super::section::Section;

/// A field of an entity that this library reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    HomeAccountId,
    Environment,
    Realm,
    ClientId,
    Secret,
    CredentialType,
    Target,
    CachedAt,
    ExpiresOn,
    ExtendedExpiresOn,
    RefreshOn,
    TokenType,
    LocalAccountId,
    Username,
    AuthorityType,
    Name,
    ClientInfo,
    FamilyId,
    LastModificationTime,
    AssertionHash,
    /// Node's spelling of [`Field::AssertionHash`].
    AssertionHashCamel,
}

const NAMES: [(&str, Field); 21] = [
    ("home_account_id", Field::HomeAccountId),
    ("environment", Field::Environment),
    ("realm", Field::Realm),
    ("client_id", Field::ClientId),
    ("secret", Field::Secret),
    ("credential_type", Field::CredentialType),
    ("target", Field::Target),
    ("cached_at", Field::CachedAt),
    ("expires_on", Field::ExpiresOn),
    ("extended_expires_on", Field::ExtendedExpiresOn),
    ("refresh_on", Field::RefreshOn),
    ("token_type", Field::TokenType),
    ("local_account_id", Field::LocalAccountId),
    ("username", Field::Username),
    ("authority_type", Field::AuthorityType),
    ("name", Field::Name),
    ("client_info", Field::ClientInfo),
    ("family_id", Field::FamilyId),
    ("last_modification_time", Field::LastModificationTime),
    ("user_assertion_hash", Field::AssertionHash),
    ("userAssertionHash", Field::AssertionHashCamel),
];

impl Field {
    pub(super) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, field)| *field == self).map_or("", |(name, _)| name)
    }

    /// Whether the field holds Unix seconds.
    pub(super) fn is_time(self) -> bool {
        matches!(
            self,
            Self::CachedAt | Self::ExpiresOn | Self::ExtendedExpiresOn | Self::RefreshOn | Self::LastModificationTime
        )
    }
}

/// Fields that bind a credential to something this library does not know of.
fn is_extension(name: &str) -> bool {
    matches!(name, "ext" | "ext_cache_key" | "additionalCacheKeyComponents")
}

/// One `key: entity` of a known section.
#[derive(Clone)]
pub(super) struct Entry {
    /// The key with its quotes.
    pub(super) key: SharedText,
    pub(super) value: SharedText,
    fields: Vec<(Field, Value)>,
    skipped: Option<OddityKind>,
}

#[derive(Clone)]
enum Value {
    Text(SharedText),
    Unescaped(Box<str>),
    Seconds(i64),
}

impl Entry {
    /// An entity with this key and text, both JSON.
    pub(super) fn new(section: Section, key: &str, value: &str) -> Self {
        let text = format!("{key}:{value}");
        let source = SharedText::whole(text.as_str().into());
        let (key, value) = (source.as_str().get(..key.len()), source.as_str().get(key.len() + 1..));
        let value = value.unwrap_or_default();
        Self::read(section, &source, key.unwrap_or_default(), value, members(value).as_deref())
    }

    /// Reads an entity whose key, text and members are parts of `source`; without members it is no object.
    pub(super) fn read(
        section: Section,
        source: &SharedText,
        key: &str,
        value: &str,
        members: Option<&[(&str, &str)]>,
    ) -> Self {
        let mut entry = Self { key: source.part(key), value: source.part(value), fields: Vec::new(), skipped: None };
        match members {
            Some(members) => entry.read_fields(section, source, members),
            None => entry.skipped = Some(OddityKind::NotAnObject),
        }
        entry
    }

    fn read_fields(&mut self, section: Section, source: &SharedText, members: &[(&str, &str)]) {
        self.fields.reserve(members.len().min(NAMES.len()));
        for (key, raw) in members {
            self.read_field(section, source, &name(key), raw);
        }
        if self.skipped.is_none() {
            self.skipped = self.unusable(section);
        }
    }

    fn read_field(&mut self, section: Section, source: &SharedText, name: &str, raw: &str) {
        if is_extension(name) && section.is_credential() && !matches!(raw, "null" | "\"\"") {
            self.skipped = Some(OddityKind::Extended);
            return;
        }
        let Some(field) = Field::named(name).filter(|field| section.reads(*field)) else {
            return;
        };
        // A repeated field replaces the earlier one, also when it is null.
        if self.fields.iter().any(|(earlier, _)| *earlier == field) {
            self.fields.retain(|(earlier, _)| *earlier != field);
        }
        match Value::read(field, source, raw) {
            Ok(Some(value)) => self.fields.push((field, value)),
            Ok(None) => {}
            Err(()) => self.skipped = Some(OddityKind::WrongType { field: field.name() }),
        }
    }

    /// Why an entity whose fields all have their types cannot be used.
    fn unusable(&self, section: Section) -> Option<OddityKind> {
        if section.is_credential() && !self.is_of_type(section) {
            return Some(OddityKind::UnknownCredentialType);
        }
        let missing = section.required().iter().find(|field| !self.has(**field))?;
        Some(OddityKind::MissingField { field: missing.name() })
    }

    fn is_of_type(&self, section: Section) -> bool {
        self.text(Field::CredentialType).is_none_or(|kind| kind.eq_ignore_ascii_case(section.name()))
    }

    fn has(&self, field: Field) -> bool {
        self.value(field).is_some()
    }

    fn value(&self, field: Field) -> Option<&Value> {
        self.fields.iter().find(|(known, _)| *known == field).map(|(_, value)| value)
    }

    pub(super) fn is_spelled_like(&self, other: &Self) -> bool {
        self.key.as_str() == other.key.as_str() && self.value.as_str() == other.value.as_str()
    }

    /// The key without its quotes.
    pub(super) fn key_name(&self) -> Cow<'_, str> {
        name(self.key.as_str())
    }

    /// Why the entity is kept but not used, if so.
    pub(super) fn skipped(&self) -> Option<OddityKind> {
        self.skipped
    }

    pub(super) fn is_usable(&self) -> bool {
        self.skipped.is_none()
    }

    /// A text field; absent, null and (in a skipped entity) mistyped ones are `None`.
    pub(super) fn text(&self, field: Field) -> Option<&str> {
        match self.value(field)? {
            Value::Text(text) => Some(text.as_str()),
            Value::Unescaped(text) => Some(text),
            Value::Seconds(_) => None,
        }
    }

    /// A text field that is empty when absent.
    pub(super) fn text_or_empty(&self, field: Field) -> &str {
        self.text(field).unwrap_or_default()
    }

    /// A time in Unix seconds.
    pub(super) fn seconds(&self, field: Field) -> Option<i64> {
        match self.value(field)? {
            Value::Seconds(seconds) => Some(*seconds),
            Value::Text(_) | Value::Unescaped(_) => None,
        }
    }

    pub(super) fn assertion_hash(&self) -> Option<&str> {
        let hash = self.text(Field::AssertionHash).or_else(|| self.text(Field::AssertionHashCamel));
        hash.filter(|hash| !hash.is_empty())
    }

    /// The members of the entity, duplicates resolved; empty if it is not an object.
    pub(super) fn members(&self) -> Vec<(&str, &str)> {
        members(self.value.as_str()).unwrap_or_default()
    }
}

impl Value {
    /// `Ok(None)` is a field that is there and says nothing; `Err` one of the wrong type.
    fn read(field: Field, source: &SharedText, raw: &str) -> Result<Option<Self>, ()> {
        if raw == "null" {
            return Ok(None);
        }
        if field.is_time() {
            return seconds(raw).map(|time| time.map(Self::Seconds));
        }
        match string(raw).ok_or(())? {
            Cow::Borrowed(text) => Ok(Some(Self::Text(source.part(text)))),
            Cow::Owned(text) => Ok(Some(Self::Unescaped(text.into()))),
        }
    }
}

/// Reads Unix seconds written as a string or as a number, with or without a fraction.
fn seconds(raw: &str) -> Result<Option<i64>, ()> {
    let text = if raw.starts_with('"') { string(raw).ok_or(())? } else { Cow::Borrowed(raw) };
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Ok(Some(whole));
    }
    match text.parse::<f64>() {
        // Beyond 2^53 a fraction is no time of this world, and the conversion stays exact below it.
        Ok(number) if number.abs() <= 9_007_199_254_740_992.0 => Ok(Some(number.floor() as i64)),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_strings_and_numbers_and_floored() {
        assert_eq!(seconds("\"1795400000\""), Ok(Some(1_795_400_000)));
        assert_eq!(seconds("1795400000.9"), Ok(Some(1_795_400_000)));
        assert_eq!(seconds("\"1.7954e9\""), Ok(Some(1_795_400_000)));
        assert_eq!(seconds("\"\""), Ok(None));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for raw in ["\"soon\"", "true", "{}", "1e999", "\"NaN\"", "99999999999999999999", "\"\\ud800\""] {
            assert_eq!(seconds(raw), Err(()), "{raw}");
        }
    }

    #[test]
    fn every_field_is_found_by_its_name() {
        for (name, field) in NAMES {
            assert_eq!((Field::named(name), field.name()), (Some(field), name));
        }
    }
}
