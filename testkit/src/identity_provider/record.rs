//! A record of every secret that was seen, so that a test can look for them where none must be.

use std::collections::BTreeSet;

use serde_json::Value;

use super::form::Form;

/// How many are recorded; a test that sees more has to be made smaller, since what is not recorded is not found.
const MOST_SECRETS: usize = 50_000;
/// What the token endpoint gives out.
const ISSUED: [&str; 3] = ["access_token", "refresh_token", "id_token"];
/// What clients show it.
const PRESENTED: [&str; 6] =
    ["client_secret", "client_assertion", "assertion", "code", "code_verifier", "refresh_token"];

/// The secrets that were issued and presented.
#[derive(Debug, Default)]
pub(super) struct Record {
    is_kept: bool,
    secrets: BTreeSet<String>,
}

impl Record {
    pub(super) fn new(is_kept: bool) -> Self {
        Self { is_kept, secrets: BTreeSet::new() }
    }

    pub(super) fn note_issued(&mut self, answer: &Value) {
        ISSUED.iter().filter_map(|name| answer[name].as_str()).for_each(|secret| self.note(secret));
    }

    pub(super) fn note_presented(&mut self, form: &Form) {
        PRESENTED.iter().filter_map(|name| form.get(name)).for_each(|secret| self.note(secret));
    }

    fn note(&mut self, secret: &str) {
        if self.is_kept && !secret.is_empty() {
            assert!(self.secrets.len() < MOST_SECRETS, "more than {MOST_SECRETS} secrets were seen");
            self.secrets.insert(secret.to_owned());
        }
    }

    pub(super) fn secrets(&self) -> impl Iterator<Item = &String> {
        self.secrets.iter()
    }
}
