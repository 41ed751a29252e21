//! Finding the token to use, as `acquire_token_silent` of the MSAL libraries does.

use std::cmp::Reverse;
use std::time::Duration;

use super::blob::TokenCacheBlob;
use super::environment::same_environment;
use super::scopes;
use super::views::{AccessToken, Account, IdToken, RefreshToken};

/// Which access token is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessTokenQuery<'a> {
    /// Whose; empty for a token of the app itself.
    pub home_account_id: &'a str,
    /// Issued to which client.
    pub client_id: &'a str,
    /// The host of the identity provider, or an alias of it.
    pub environment: &'a str,
    /// The tenant that issued it, as the blob spells it.
    pub realm: &'a str,
    /// What it must allow, ignoring case; one scope or several separated by spaces in each string. OpenID Connect's
    /// own scopes are not looked for, as servers may leave them out of their answers.
    pub scopes: &'a [&'a str],
    /// What it was had for, in on-behalf-of and long-running sessions; `None` never finds a token of such a session.
    pub assertion_hash: Option<&'a str>,
    /// How long it must still be valid; the MSAL libraries ask for five minutes.
    pub min_remaining: Duration,
}

/// An access token that can be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundAccessToken<'a> {
    /// The token.
    pub token: AccessToken<'a>,
    /// Whether `refresh_on` is past: use the token, and renew it in the background.
    pub is_refresh_due: bool,
}

/// Whose refresh token or id token is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialQuery<'a> {
    /// Whose.
    pub home_account_id: &'a str,
    /// Issued to which client; for a refresh token another of its family will do.
    pub client_id: &'a str,
    /// The host of the identity provider, or an alias of it.
    pub environment: &'a str,
    /// What it was had for, in on-behalf-of and long-running sessions; `None` never finds a token of such a session.
    pub assertion_hash: Option<&'a str>,
}

impl TokenCacheBlob {
    /// A bearer access token that matches the query and is valid at `now` (Unix seconds).
    ///
    /// Several may match in a blob that was not tidied: then one whose issue time is in the past with the latest
    /// expiry is taken; a query for nothing but OpenID Connect's scopes prefers a token that is for no API.
    #[must_use]
    pub fn find_access_token(&self, query: &AccessTokenQuery<'_>, now: i64) -> Option<FoundAccessToken<'_>> {
        let until = now.saturating_add(seconds(query.min_remaining));
        let found = self.access_tokens().filter(|token| query.matches(token) && is_usable(token, now, until));
        let token = found.max_by_key(|token| (query.prefers(token), token.expires_on))?;
        Some(FoundAccessToken { token, is_refresh_due: token.refresh_on.is_some_and(|due| due <= now) })
    }

    /// The refresh token to use, if there is one.
    ///
    /// Of several the one with the greatest `last_modification_time`, unless one without that field exists and an
    /// access token was cached more than a second later: then a library that writes no such field came last.
    /// Tokens of the client's family count when the client's metadata names the family. Where there is none for the
    /// wanted assertion hash, one without a hash counts: MSAL Node writes the hash to its access tokens only.
    #[must_use]
    pub fn find_refresh_token(&self, query: &CredentialQuery<'_>) -> Option<RefreshToken<'_>> {
        let unbound = CredentialQuery { assertion_hash: None, ..*query };
        self.refresh_token_of(query, query).or_else(|| self.refresh_token_of(&unbound, query))
    }

    fn refresh_token_of(&self, query: &CredentialQuery<'_>, cached: &CredentialQuery<'_>) -> Option<RefreshToken<'_>> {
        let family = self.family_of(query.client_id, query.environment);
        let candidates: Vec<_> = self.refresh_tokens().filter(|token| query.matches(token, family)).collect();
        let newest = newest_refresh_token(&candidates, self.last_cached(cached))?;
        candidates.get(newest).copied()
    }

    /// The id token of the user in a realm.
    #[must_use]
    pub fn find_id_token(&self, query: &CredentialQuery<'_>, realm: &str) -> Option<IdToken<'_>> {
        self.id_tokens().rev().find(|token| {
            token.home_account_id == query.home_account_id
                && token.client_id.eq_ignore_ascii_case(query.client_id)
                && token.realm.eq_ignore_ascii_case(realm)
                && token.assertion_hash == query.assertion_hash
                && same_environment(token.environment, query.environment)
        })
    }

    /// The account of the user, in the realm if there is one for it, else in any.
    #[must_use]
    pub fn find_account(&self, home_account_id: &str, environment: &str, realm: &str) -> Option<Account<'_>> {
        let accounts = || {
            self.accounts().rev().filter(|account| {
                account.home_account_id == home_account_id && same_environment(account.environment, environment)
            })
        };
        accounts().find(|account| account.realm.eq_ignore_ascii_case(realm)).or_else(|| accounts().next())
    }

    /// The family of clients that a client belongs to.
    pub(super) fn family_of(&self, client_id: &str, environment: &str) -> Option<&str> {
        let of_client = |metadata: &super::views::AppMetadata<'_>| {
            metadata.client_id.eq_ignore_ascii_case(client_id) && same_environment(metadata.environment, environment)
        };
        self.app_metadata().filter(of_client).find_map(|metadata| metadata.family_id)
    }

    /// When an access token of the account and client was cached last.
    pub(super) fn last_cached(&self, query: &CredentialQuery<'_>) -> Option<i64> {
        self.access_tokens().filter(|token| query.owns(token)).filter_map(|token| token.cached_at).max()
    }
}

impl AccessTokenQuery<'_> {
    fn matches(&self, token: &AccessToken<'_>) -> bool {
        token.home_account_id == self.home_account_id
            && token.client_id.eq_ignore_ascii_case(self.client_id)
            && token.realm.eq_ignore_ascii_case(self.realm)
            && token.assertion_hash == self.assertion_hash
            && same_environment(token.environment, self.environment)
            && scopes::covers(token.target, self.scopes)
            && token.is_bearer()
    }

    fn prefers(&self, token: &AccessToken<'_>) -> Reverse<bool> {
        let is_for_no_api = self.scopes.iter().all(|scopes| scopes::is_only_oidc(scopes));
        Reverse(is_for_no_api && !scopes::is_only_oidc(token.target))
    }
}

impl CredentialQuery<'_> {
    fn matches(&self, token: &RefreshToken<'_>, family: Option<&str>) -> bool {
        let is_own = token.client_id.eq_ignore_ascii_case(self.client_id);
        let is_of_family = family.is_some() && token.family_id == family;
        (is_own || is_of_family)
            && token.home_account_id == self.home_account_id
            && token.assertion_hash == self.assertion_hash
            && same_environment(token.environment, self.environment)
    }

    pub(super) fn owns(&self, token: &AccessToken<'_>) -> bool {
        token.home_account_id == self.home_account_id
            && token.client_id.eq_ignore_ascii_case(self.client_id)
            && token.assertion_hash == self.assertion_hash
            && same_environment(token.environment, self.environment)
    }
}

/// Which refresh token was written last among those of one account and client, given when an access token of theirs was
/// cached last; of equals it is the later in the blob.
pub(super) fn newest_refresh_token(candidates: &[RefreshToken<'_>], last_cached: Option<i64>) -> Option<usize> {
    let written = |token: &RefreshToken<'_>| refresh_token_rank(token.last_modification_time, last_cached);
    (0..candidates.len()).max_by_key(|place| written(&candidates[*place]))
}

/// When a refresh token was written, and whether it says so itself.
///
/// One that does not say so counts as written a second before the last access token of its account and client, and
/// on a tie the one that says so wins: that is "unless an access token was cached more than a second later".
pub(super) fn refresh_token_rank(last_modification_time: Option<i64>, last_cached: Option<i64>) -> (i64, bool) {
    let assumed = last_cached.map_or(i64::MIN, |cached| cached.saturating_sub(1));
    (last_modification_time.unwrap_or(assumed), last_modification_time.is_some())
}

fn is_usable(token: &AccessToken<'_>, now: i64, until: i64) -> bool {
    token.expires_on >= until && token.expires_on > now && token.cached_at.is_none_or(|cached| cached <= now)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
