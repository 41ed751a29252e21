//! An entity about to be written: its fields over what the entity it replaces had besides.

use std::collections::HashSet;

use super::entity::{Entry, Field};
use super::json::{name, quoted};
use super::section::Section;

/// The fields of an entity to write; times are decimal strings, and nothing is ever `null`.
#[derive(Default)]
pub(super) struct Draft {
    fields: Vec<(Field, Option<String>)>,
}

impl Draft {
    pub(super) fn text(mut self, field: Field, text: &str) -> Self {
        self.fields.push((field, Some(quoted(text))));
        self
    }

    pub(super) fn time(self, field: Field, seconds: i64) -> Self {
        self.text(field, &seconds.to_string())
    }

    /// Writes the field if there is something to write, else removes what the replaced entity had.
    pub(super) fn text_or_none(mut self, field: Field, text: Option<&str>) -> Self {
        self.fields.push((field, text.map(quoted)));
        self
    }

    /// Writes the field if there is something to write, else keeps what the replaced entity had.
    pub(super) fn text_or_kept(self, field: Field, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(field, text),
            None => self,
        }
    }

    /// Writes the assertion hash in both spellings, since each library reads only its own.
    pub(super) fn assertion_hash(self, hash: Option<&str>) -> Self {
        self.text_or_none(Field::AssertionHash, hash).text_or_none(Field::AssertionHashCamel, hash)
    }

    /// The entity as JSON: the members of the replaced one with these fields put in, then the fields it did not have.
    fn over(&self, section: Section, replaced: Option<&Entry>) -> String {
        let mut members: Vec<(String, String)> = Vec::new();
        for (key, raw) in replaced.map(Entry::members).unwrap_or_default() {
            if let Some(text) = self.member(section, &name(key), raw) {
                members.push((key.to_owned(), text));
            }
        }
        let had: HashSet<String> = members.iter().map(|(key, _)| name(key).into_owned()).collect();
        for (field, text) in &self.fields {
            if let Some(text) = text.as_ref().filter(|_| !had.contains(field.name())) {
                members.push((quoted(field.name()), text.clone()));
            }
        }
        let members: Vec<String> = members.iter().map(|(key, text)| format!("{key}:{text}")).collect();
        format!("{{{}}}", members.join(","))
    }

    /// What becomes of a member of the replaced entity: foreign ones stay as they are.
    fn member(&self, section: Section, key: &str, raw: &str) -> Option<String> {
        let Some(field) = Field::named(key).filter(|field| section.reads(*field)) else {
            return Some(raw.to_owned());
        };
        match self.fields.iter().find(|(written, _)| *written == field) {
            Some((_, text)) => text.clone(),
            None if raw == "null" => None,
            None if field.is_time() && !raw.starts_with('"') => Some(format!("\"{raw}\"")),
            None => Some(raw.to_owned()),
        }
    }

    /// Puts the entity under `key` in the place of those it supersedes; `replaced` among them lends its other fields.
    pub(super) fn put(
        &self,
        section: Section,
        key: &str,
        entries: &mut Vec<Entry>,
        replaced: Option<usize>,
        superseded: &[usize],
    ) {
        let text = self.over(section, replaced.and_then(|place| entries.get(place)));
        let place = replaced.or(superseded.first().copied());
        let mut written = Some(Entry::new(section, &free_key(key, entries, superseded), &text));
        let mut kept = Vec::with_capacity(entries.len() + 1);
        for (index, entry) in entries.drain(..).enumerate() {
            if Some(index) == place {
                kept.extend(written.take());
            } else if superseded.binary_search(&index).is_err() {
                kept.push(entry);
            }
        }
        kept.extend(written);
        *entries = kept;
    }
}

/// The key, quoted, with a number after it if an entry that stays has it already.
fn free_key(key: &str, entries: &[Entry], superseded: &[usize]) -> String {
    let staying = entries.iter().enumerate().filter(|(index, _)| superseded.binary_search(index).is_err());
    let taken: HashSet<_> = staying.map(|(_, entry)| entry.key_name()).collect();
    unused(key, |key| taken.contains(key))
}

/// The key, quoted, with a number after it if it is taken.
pub(super) fn unused(key: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(key) {
        return quoted(key);
    }
    let numbered = (1_u64..).map(|number| format!("{key}-{number}"));
    numbered.into_iter().find(|key| !is_taken(key)).map_or_else(|| quoted(key), |key| quoted(&key))
}
