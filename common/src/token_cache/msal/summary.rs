//! Whose blob it is and how it stands, for the event of a cache write.

use super::blob::TokenCacheBlob;
use super::section::Section;
use super::views::{AccessToken, Account};

/// What an activity event says about a blob; borrowed, without any secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobSummary<'a> {
    /// The user the blob is about; `None` when it is about no user.
    pub home_account_id: Option<&'a str>,
    /// The user's object id in the home tenant; at ADFS and generic OpenID providers the whole home account id.
    pub object_id: Option<&'a str>,
    /// The user's home tenant; at ADFS and generic OpenID providers the realm, if there is one.
    pub tenant_id: Option<&'a str>,
    /// The host of the identity provider.
    pub environment: Option<&'a str>,
    /// The tenant that issued the user's newest token, as the blob spells it (`common` is possible).
    pub realm: Option<&'a str>,
    /// The client whose refresh token, or else newest access token, the blob holds for the user.
    pub client_id: Option<&'a str>,
    /// What the user signs in with.
    pub username: Option<&'a str>,
    /// For on-behalf-of and long-running sessions: what the user's newest token was had for.
    pub assertion_hash: Option<&'a str>,
    /// The soonest expiry among the user's access tokens that are valid; the last one where none is. Unix seconds.
    pub access_token_expires_on: Option<i64>,
    /// Whether one of the user's access tokens has not expired.
    pub has_valid_access_token: bool,
    /// Whether the user has a refresh token.
    pub has_refresh_token: bool,
    /// Whether the blob holds access tokens of the app itself and nothing of a user.
    pub is_app_only: bool,
}

impl TokenCacheBlob {
    /// Says whose blob this is and how it stands at `now`.
    ///
    /// A blob may hold several users: an app's whole cache, or the partition of an on-behalf-of session. The user is
    /// then the one whose home account id is the cache key, else the one written last, by the times of the access and
    /// refresh tokens, else the one that comes last in the blob. Without an Account entry, the tokens say who it is.
    #[must_use]
    pub fn summary(&self, cache_key: &str, now: i64) -> BlobSummary<'_> {
        match self.user(cache_key) {
            Some(home_account_id) => self.summary_of(home_account_id, now),
            None => BlobSummary { is_app_only: self.access_tokens().next().is_some(), ..BlobSummary::default() },
        }
    }

    fn user(&self, cache_key: &str) -> Option<&str> {
        let users = || self.users();
        let owner = users().find(|(user, _)| *user == cache_key);
        // `max_by_key` takes the last of equals: Accounts come first in the order, tokens after them.
        owner.or_else(|| users().max_by_key(|(_, written)| *written)).map(|(user, _)| user)
    }

    /// Every mention of a user, with the time it was written where there is one.
    fn users(&self) -> impl Iterator<Item = (&str, Option<i64>)> {
        let accounts = self.accounts().map(|account| (account.home_account_id, None));
        let ids = self.id_tokens().map(|token| (token.home_account_id, None));
        let refresh = self.refresh_tokens().map(|token| (token.home_account_id, token.last_modification_time));
        let access = self.access_tokens().map(|token| (token.home_account_id, token.cached_at));
        accounts.chain(ids).chain(refresh).chain(access).filter(|(user, _)| !user.is_empty())
    }

    fn summary_of<'a>(&'a self, user: &'a str, now: i64) -> BlobSummary<'a> {
        let newest = self.tokens_of(user).max_by_key(|token| token.cached_at);
        let account = self.account_of(user, newest.as_ref());
        let realm = self.realm_of(user, account.as_ref(), newest.as_ref());
        let (object_id, tenant_id) = identity(user, account.as_ref(), realm);
        let refresh = self.refresh_tokens().filter(|token| token.home_account_id == user);
        let refresh = refresh.max_by_key(|token| token.last_modification_time);
        let account_environment = account.map(|account| account.environment);
        BlobSummary {
            home_account_id: Some(user),
            object_id: Some(object_id),
            tenant_id,
            environment: account_environment
                .or(newest.map(|token| token.environment))
                .or(refresh.map(|token| token.environment))
                .or_else(|| self.environment_of(user)),
            realm,
            client_id: refresh
                .map(|token| token.client_id)
                .or(newest.map(|token| token.client_id))
                .or_else(|| self.client_of(user)),
            username: account.map(|account| account.username).and_then(not_empty),
            assertion_hash: newest
                .and_then(|token| token.assertion_hash)
                .or(refresh.and_then(|token| token.assertion_hash)),
            access_token_expires_on: self.next_expiry(user, now),
            has_valid_access_token: self.tokens_of(user).any(|token| token.expires_on > now),
            has_refresh_token: refresh.is_some(),
            is_app_only: false,
        }
    }

    /// Blobs may keep tokens that expired long ago: they say nothing of when the account needs anything.
    fn next_expiry(&self, user: &str, now: i64) -> Option<i64> {
        let expiries = || self.tokens_of(user).map(|token| token.expires_on);
        expiries().filter(|at| *at > now).min().or_else(|| expiries().max())
    }

    fn tokens_of(&self, user: &str) -> impl Iterator<Item = AccessToken<'_>> {
        self.access_tokens().filter(move |token| token.home_account_id == user)
    }

    /// The user's account in the tenant of the newest token, else any; the last one written wins.
    fn account_of(&self, user: &str, newest: Option<&AccessToken<'_>>) -> Option<Account<'_>> {
        let accounts = || self.accounts().rev().filter(|account| account.home_account_id == user);
        let in_realm = newest.and_then(|token| accounts().find(|account| account.realm == token.realm));
        in_realm.or_else(|| accounts().next())
    }

    fn realm_of<'a>(
        &'a self,
        user: &str,
        account: Option<&Account<'a>>,
        newest: Option<&AccessToken<'a>>,
    ) -> Option<&'a str> {
        let token = newest.map(|token| token.realm).and_then(not_empty);
        let account = account.map(|account| account.realm).and_then(not_empty);
        token.or(account).or_else(|| {
            let mut ids = self.id_tokens().rev().filter(|token| token.home_account_id == user);
            ids.find_map(|token| not_empty(token.realm))
        })
    }

    fn environment_of(&self, user: &str) -> Option<&str> {
        self.id_tokens().rev().find(|token| token.home_account_id == user).map(|token| token.environment)
    }

    /// The client of the user's id token, else the only client the blob knows of.
    fn client_of(&self, user: &str) -> Option<&str> {
        let id = self.id_tokens().rev().find(|token| token.home_account_id == user);
        let only = || match self.entries(Section::AppMetadata).len() {
            1 => self.app_metadata().next().map(|metadata| metadata.client_id),
            _ => None,
        };
        id.map(|token| token.client_id).or_else(only)
    }
}

/// Splits `uid.utid`; what is no such pair is an object id by itself, in the tenant of the realm.
fn identity<'a>(user: &'a str, account: Option<&Account<'a>>, realm: Option<&'a str>) -> (&'a str, Option<&'a str>) {
    let is_foreign = account.is_some_and(|account| {
        ["ADFS", "Generic"].iter().any(|kind| account.authority_type.eq_ignore_ascii_case(kind))
    });
    match user.split_once('.') {
        Some((uid, utid)) if is_pair(uid, utid) && !is_foreign => (uid, Some(utid)),
        _ => (user, realm),
    }
}

fn is_pair(uid: &str, utid: &str) -> bool {
    !uid.is_empty() && !utid.is_empty() && !utid.contains('.')
}

fn not_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
