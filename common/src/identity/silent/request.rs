//! What is asked for, and what comes of it.

use std::time::Duration;

use crate::account::{CacheKey, HomeAccountId, TenantId};
use crate::identity::{AccessToken, Scopes};

/// How long a token has still to be valid to be handed out: what the MSAL libraries ask for.
const MIN_REMAINING: Duration = Duration::from_secs(300);

/// One access token for one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SilentRequest {
    /// Where the account's blob is.
    pub cache_key: CacheKey,
    /// Whose token.
    pub home_account_id: HomeAccountId,
    /// For what.
    pub scopes: Scopes,
    /// From which tenant: the one of the settings, or under a multi-tenant authority the account's home, where this
    /// is not set. A guest's token is from the tenant they are a guest in.
    pub tenant: Option<TenantId>,
    /// In an on-behalf-of or long-running session: what its tokens were had for, which is its cache key.
    pub session: Option<String>,
    /// What else matters.
    pub options: SilentOptions,
}

/// What else matters to a silent acquisition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SilentOptions {
    /// Refresh, even if a valid token is at hand: an API has refused it.
    pub force_refresh: bool,
    /// How long the token has still to be valid.
    pub min_remaining: Duration,
}

impl Default for SilentOptions {
    /// No forced refresh, five minutes.
    fn default() -> Self {
        Self { force_refresh: false, min_remaining: MIN_REMAINING }
    }
}

impl SilentRequest {
    /// A token of a signed-in user, from the tenant of the settings or the user's home.
    pub fn new(cache_key: CacheKey, home_account_id: HomeAccountId, scopes: Scopes) -> Self {
        let options = SilentOptions::default();
        Self { cache_key, home_account_id, scopes, tenant: None, session: None, options }
    }

    /// The same within the session that the cache key stands for.
    #[must_use]
    pub fn in_session(mut self) -> Self {
        self.session = Some(self.cache_key.as_str().to_owned());
        self
    }

    /// The same with a refresh in any case.
    #[must_use]
    pub fn forced(mut self) -> Self {
        self.options.force_refresh = true;
        self
    }
}

/// An access token that can be used now.
#[derive(Debug, Clone)]
pub struct Acquired {
    /// The token.
    pub token: AccessToken,
    /// Where it came from.
    pub source: TokenSource,
}

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenSource {
    /// From the blob: nothing was written.
    Cache,
    /// From the blob, and it is due to be renewed, which goes on in the background.
    CacheRefreshDue,
    /// From the provider, and it is in the blob now.
    Refreshed,
}
