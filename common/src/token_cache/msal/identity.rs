//! Which entries are the same credential, whatever their keys, and which of two was written later.

use std::collections::HashMap;

use super::blob::TokenCacheBlob;
use super::entity::{Entry, Field};
use super::environment::canonical_environment;
use super::query::refresh_token_rank;
use super::scopes;
use super::section::Section;
use super::views::AccessToken;

/// What makes two entries of one section the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// The fields that the MSAL libraries match on.
    Fields(Vec<String>),
    /// The key, of an entry this library does not use.
    Key(String),
}

/// When an entry was written, as far as can be told: greater is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(i64, i64, bool);

/// Account, client, cloud and assertion: what one refresh token is for.
pub(super) fn owner(entry: &Entry) -> Vec<String> {
    vec![
        entry.text_or_empty(Field::HomeAccountId).to_owned(),
        entry.text_or_empty(Field::ClientId).to_lowercase(),
        canonical_environment(entry.text_or_empty(Field::Environment)),
        entry.assertion_hash().unwrap_or_default().to_owned(),
    ]
}

/// Owner and realm: within these no two access tokens may have a scope in common.
pub(super) fn audience(entry: &Entry) -> Vec<String> {
    let mut fields = owner(entry);
    fields.push(entry.text_or_empty(Field::Realm).to_lowercase());
    fields
}

impl Identity {
    pub(super) fn of(section: Section, entry: &Entry) -> Self {
        if !entry.is_usable() || is_bound_token(section, entry) {
            return Self::Key(entry.key_name().into_owned());
        }
        Self::Fields(match section {
            Section::AccessToken => {
                let mut fields = audience(entry);
                fields.push(scopes::canonical(entry.text_or_empty(Field::Target)));
                fields
            }
            Section::IdToken | Section::Account => audience(entry),
            Section::RefreshToken | Section::AppMetadata => owner(entry),
        })
    }

    pub(super) fn is_foreign(&self) -> bool {
        matches!(self, Self::Key(_))
    }
}

/// Whether it is an access token that needs a key to be used, of which there may be one for every key.
fn is_bound_token(section: Section, entry: &Entry) -> bool {
    section == Section::AccessToken && !AccessToken::of(entry).is_bearer()
}

/// When each account and client of a blob was written last; it dates the entries that carry no time.
pub(super) struct Freshness<'a> {
    by_owner: HashMap<Vec<String>, i64>,
    by_user: HashMap<&'a str, i64>,
}

impl<'a> Freshness<'a> {
    pub(super) fn of(blob: &'a TokenCacheBlob) -> Self {
        let mut this = Self { by_owner: HashMap::new(), by_user: HashMap::new() };
        for entry in blob.usable(Section::AccessToken) {
            if let Some(cached) = entry.seconds(Field::CachedAt) {
                raise(this.by_owner.entry(owner(entry)).or_insert(cached), cached);
                this.raise_user(entry, cached);
            }
        }
        for entry in blob.usable(Section::RefreshToken) {
            if let Some(modified) = entry.seconds(Field::LastModificationTime) {
                this.raise_user(entry, modified);
            }
        }
        this
    }

    fn raise_user(&mut self, entry: &'a Entry, time: i64) {
        raise(self.by_user.entry(entry.text_or_empty(Field::HomeAccountId)).or_insert(time), time);
    }

    pub(super) fn rank(&self, section: Section, entry: &Entry) -> Rank {
        let owner_last = || self.by_owner.get(&owner(entry)).copied();
        match section {
            Section::AccessToken => Rank(time(entry, Field::CachedAt), time(entry, Field::ExpiresOn), false),
            Section::RefreshToken => {
                let (written, says_so) = refresh_token_rank(entry.seconds(Field::LastModificationTime), owner_last());
                Rank(written, 0, says_so)
            }
            Section::IdToken => Rank(owner_last().unwrap_or(i64::MIN), 0, false),
            Section::Account => {
                let user = entry.text_or_empty(Field::HomeAccountId);
                Rank(self.by_user.get(user).copied().unwrap_or(i64::MIN), 0, false)
            }
            Section::AppMetadata => Rank(0, 0, !entry.text_or_empty(Field::FamilyId).is_empty()),
        }
    }
}

fn time(entry: &Entry, field: Field) -> i64 {
    entry.seconds(field).unwrap_or(i64::MIN)
}

fn raise(time: &mut i64, to: i64) {
    *time = (*time).max(to);
}
