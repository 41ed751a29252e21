//! What the event says of a blob.

use common::account::{CacheKey, ClientId, Environment, HomeAccountId, InvalidText, Username};
use common::event::{AccountDetails, Properties, UsernamePolicy};
use common::token_cache::msal::{BlobError, BlobSummary, TokenCacheBlob};

/// Why nobody can say whose cache a blob is.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableBlob {
    /// It is not a token cache, or encrypted by somebody else.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// It is JSON, and holds nothing that says whose it is.
    #[error("the blob holds entries, and none of them names an account; is it an MSAL token cache?")]
    NobodyNamed,
    /// It names a user in a way no event can carry.
    #[error("the account's {field} {source}")]
    Identity {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        source: InvalidText,
    },
}

/// Whom a blob is about.
pub(super) enum About {
    /// A user, with what the event says of them.
    User(Box<AccountDetails>),
    /// The app itself.
    App,
    /// Nobody any more: it holds no account and no token.
    Nobody,
}

pub(super) fn about(
    blob: &TokenCacheBlob,
    key: &CacheKey,
    usernames: &UsernamePolicy,
    now: i64,
) -> Result<About, UnreadableBlob> {
    let summary = blob.summary(key.as_str(), now);
    if summary.is_app_only {
        return Ok(About::App);
    }
    match summary.home_account_id {
        None if blob.is_emptied() => Ok(About::Nobody),
        None => Err(UnreadableBlob::NobodyNamed),
        Some(home_account_id) => Ok(About::User(Box::new(details(home_account_id, &summary, usernames)?))),
    }
}

fn details(
    home_account_id: &str,
    summary: &BlobSummary<'_>,
    usernames: &UsernamePolicy,
) -> Result<AccountDetails, UnreadableBlob> {
    let wrong = |field| move |source| UnreadableBlob::Identity { field, source };
    Ok(AccountDetails {
        home_account_id: HomeAccountId::new(home_account_id).map_err(wrong("home_account_id"))?,
        object_id: summary.object_id.and_then(|id| id.parse().ok()),
        tenant_id: summary.tenant_id.and_then(|id| id.parse().ok()),
        environment: Environment::new(summary.environment.unwrap_or_default()).map_err(wrong("environment"))?,
        client_id: ClientId::new(summary.client_id.unwrap_or_default()).map_err(wrong("client_id"))?,
        // A name that no contract can carry is left out; the account is found by its other ids.
        username: summary.username.and_then(|name| Username::new(name).ok()).and_then(|name| usernames.apply(&name)),
        access_token_expires_on: summary.access_token_expires_on,
        refresh_token_expires_on: None,
        has_refresh_token: summary.has_refresh_token,
        properties: Properties::default(),
    })
}
