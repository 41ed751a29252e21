//! What the event says of a blob.

use common::account::CacheKey;
use common::event::{AccountDetails, UsernamePolicy};
use common::token_cache::msal::{BlobError, TokenCacheBlob, UnspeakableAccount};

/// Why nobody can say whose cache a blob is.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableBlob {
    /// It is not a token cache, or encrypted by somebody else.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// It is JSON, and holds nothing that says whose it is.
    #[error("the blob holds entries, and none of them names an account; is it an MSAL token cache?")]
    NobodyNamed,
    /// See [`UnspeakableAccount`].
    #[error(transparent)]
    Account(#[from] UnspeakableAccount),
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
    match summary.account_details(usernames)? {
        None if blob.is_emptied() => Ok(About::Nobody),
        None => Err(UnreadableBlob::NobodyNamed),
        Some(details) => Ok(About::User(Box::new(details))),
    }
}
