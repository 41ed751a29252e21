//! JSON taken apart into pieces that keep their text; `serde_json` says what is JSON, the rest only finds places in it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::ops::Range;
use std::sync::Arc;

use serde::de::IgnoredAny;

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

/// Checks that a text is JSON.
pub(super) fn validate(text: &str) -> serde_json::Result<()> {
    serde_json::from_str::<IgnoredAny>(text).map(|_| ())
}

/// Walks once through a text that was validated, taking the objects of interest apart.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    deepest: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut this = Self { text, at: 0, depth: 0, deepest: 0 };
        this.skip_space();
        this
    }

    /// The deepest nesting of objects and arrays seen so far.
    pub(super) fn deepest(&self) -> usize {
        self.deepest
    }

    /// Takes the object that comes next apart, handing each quoted key to `member`, which must take the value; yields
    /// the object's text, or `None`, with nothing taken, if the next value is no object.
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, &'a str)) -> Option<&'a str> {
        if self.peek() != Some(b'{') {
            return None;
        }
        let start = self.at;
        self.open();
        while self.peek() == Some(b'"') {
            let key = self.value();
            self.skip_separator(b':');
            member(self, key);
            self.skip_separator(b',');
        }
        self.close();
        self.text.get(start..self.at)
    }

    /// Takes the value that comes next as it is.
    pub(super) fn value(&mut self) -> &'a str {
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{' | b'[') => self.skip_nested(),
            _ => self.skip_while(|byte| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')),
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn open(&mut self) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.at += 1;
        self.skip_space();
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.at += 1;
    }

    fn skip_nested(&mut self) {
        let outside = self.depth;
        while let Some(byte) = self.peek() {
            match byte {
                b'{' | b'[' => self.open(),
                b'}' | b']' => self.close(),
                b'"' => self.skip_string(),
                _ => self.at += 1,
            }
            if self.depth == outside {
                return;
            }
        }
    }

    fn skip_string(&mut self) {
        self.at += 1;
        loop {
            self.skip_while(|byte| !matches!(byte, b'"' | b'\\'));
            match self.peek() {
                Some(b'\\') => self.at += 2,
                Some(_) => return self.at += 1,
                None => return,
            }
        }
    }

    fn skip_separator(&mut self, separator: u8) {
        self.skip_space();
        if self.peek() == Some(separator) {
            self.at += 1;
            self.skip_space();
        }
    }

    fn skip_space(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    }

    fn skip_while(&mut self, is_skipped: impl Fn(u8) -> bool) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| !is_skipped(*byte)).unwrap_or(rest.len());
    }
}

/// The members of a valid JSON object, each with its quoted key, duplicates resolved; `None` if it is no object.
pub(super) fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut members = Vec::new();
    Scanner::new(text).object(|scanner, key| members.push((key, scanner.value())))?;
    Some(last_wins(members))
}

/// Resolves duplicated keys as all MSAL libraries do: the last value, at the first place.
pub(super) fn last_wins<T>(members: Vec<(&str, T)>) -> Vec<(&str, T)> {
    if is_unambiguous(&members) {
        return members;
    }
    let mut places: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(members.len());
    let mut kept: Vec<(&str, T)> = Vec::with_capacity(members.len());
    for (key, value) in members {
        match places.entry(name(key)) {
            MapEntry::Occupied(place) => kept[*place.get()].1 = value,
            MapEntry::Vacant(place) => {
                place.insert(kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

/// Whether the few plain keys of an ordinary object are seen to differ without hashing them.
fn is_unambiguous<T>(members: &[(&str, T)]) -> bool {
    const FEW: usize = 24;
    let keys = || members.iter().map(|(key, _)| key);
    members.len() <= FEW
        && keys().all(|key| !key.contains('\\'))
        && keys().enumerate().all(|(i, key)| keys().take(i).all(|earlier| earlier != key))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn of_a_duplicated_key_the_last_value_stands_at_the_first_place() {
        let members = members(r#" { "a" : 1 , "b":2,"\u0061":[3 ] } "#).unwrap();
        assert_eq!(members, [("\"a\"", "[3 ]"), ("\"b\"", "2")]);
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        let deepest = |text| {
            let mut scanner = Scanner::new(text);
            assert_eq!(scanner.value(), text.trim());
            scanner.deepest()
        };
        assert_eq!(deepest(r#"{"a":"[[[{{\"[[\\"}"#), 1);
        assert_eq!(deepest(r#" {"a":[1,{ "b" : [] }, []]} "#), 4);
        assert_eq!(deepest("\"{\""), 0);
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for text in ["5", "[{}]", "null", "\"{}\"", ""] {
            assert_eq!(members(text), None, "{text}");
        }
    }

    #[test]
    fn a_lone_surrogate_is_no_text() {
        assert_eq!(string(r#""\ud800""#), None);
        assert_eq!(name(r#""\ud800""#), r#""\ud800""#);
        assert_eq!(string(r#""\u0041b""#).as_deref(), Some("Ab"));
    }
}
