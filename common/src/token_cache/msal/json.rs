//! JSON objects as lists of members whose keys and values keep their text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A piece of a text that several owners share.
#[derive(Clone)]
pub(super) struct SharedText {
    source: Arc<str>,
    range: Range<usize>,
}

impl SharedText {
    pub(super) fn whole(source: Arc<str>) -> Self {
        let range = 0..source.len();
        Self { source, range }
    }

    /// The part of this text that `part` points at; `part` must have been borrowed from it.
    pub(super) fn part(&self, part: &str) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(self.source.as_ptr().addr());
        Self { source: Arc::clone(&self.source), range: start..start.wrapping_add(part.len()) }
    }

    pub(super) fn as_str(&self) -> &str {
        self.source.get(self.range.clone()).unwrap_or_default()
    }
}

/// The members of one JSON object in the order of the text, each key with its quotes.
pub(super) struct Members<'a>(pub(super) Vec<(&'a str, &'a str)>);

impl<'a> Members<'a> {
    pub(super) fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The members with every duplicated key resolved as all MSAL libraries do: the last value, at the first place.
    pub(super) fn last_wins(mut self) -> Vec<(&'a str, &'a str)> {
        if self.is_unambiguous() {
            return self.0;
        }
        let mut places: HashMap<Cow<'a, str>, usize> = HashMap::with_capacity(self.0.len());
        let mut kept: Vec<(&str, &str)> = Vec::with_capacity(self.0.len());
        for (key, value) in self.0.drain(..) {
            match places.get(&name(key)) {
                Some(&place) => kept[place].1 = value,
                None => {
                    places.insert(name(key), kept.len());
                    kept.push((key, value));
                }
            }
        }
        kept
    }

    /// Whether the few plain keys of an ordinary object are seen to differ without hashing them.
    fn is_unambiguous(&self) -> bool {
        const FEW: usize = 24;
        let keys = || self.0.iter().map(|(key, _)| key);
        self.0.len() <= FEW
            && keys().all(|key| !key.contains('\\'))
            && keys().enumerate().all(|(i, key)| keys().take(i).all(|earlier| earlier != key))
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.push((key.get(), value.get()));
        }
        Ok(Members(members))
    }
}

/// The name a quoted key stands for; a key that is no Unicode text stands for its own spelling.
pub(super) fn name(key: &str) -> Cow<'_, str> {
    string(key).unwrap_or(Cow::Borrowed(key))
}

/// The content of a JSON string; `None` if the value is not a string or holds a lone surrogate.
pub(super) fn string(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(value).ok().map(Cow::Owned)
}

/// A text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether two JSON texts say the same: white space, escapes and the order of members apart.
///
/// Texts that cannot be compared, as those with lone surrogates, are the same only if they are spelled the same.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    a == b || canonical(a) == canonical(b)
}

/// One spelling for all texts that say the same; a text that cannot be compared is its own.
pub(super) fn canonical(text: &str) -> Cow<'_, str> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(mut value) => {
            value.sort_all_objects();
            Cow::Owned(value.to_string())
        }
        Err(_) => Cow::Borrowed(text),
    }
}

/// Whether the nesting of objects and arrays goes beyond `limit`. The text need not be valid JSON.
pub(super) fn is_deeper_than(text: &str, limit: usize) -> bool {
    let mut rest = text.as_bytes();
    let mut depth = 0_usize;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => rest = after_string(rest),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

/// What follows the string whose opening quote was just read.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        let skipped = if rest[end] == b'"' { 1 } else { 2 };
        rest = rest.get(end + skipped..).unwrap_or_default();
        if skipped == 1 {
            return rest;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn of_a_duplicated_key_the_last_value_stands_at_the_first_place() {
        let members = Members::parse(r#"{"a":1,"b":2,"\u0061":3}"#).unwrap().last_wins();
        assert_eq!(members, [("\"a\"", "3"), ("\"b\"", "2")]);
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        assert!(!is_deeper_than(r#"{"a":"[[[{{\"[[\\"}"#, 1));
        assert!(is_deeper_than(r#"{"a":[1]}"#, 1));
    }

    #[test]
    fn a_lone_surrogate_is_no_text() {
        assert_eq!(string(r#""\ud800""#), None);
        assert_eq!(name(r#""\ud800""#), r#""\ud800""#);
        assert_eq!(string(r#""\u0041b""#).as_deref(), Some("Ab"));
    }
}
