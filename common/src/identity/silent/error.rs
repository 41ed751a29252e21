//! Why there is no token, in the words of the contract.

use std::sync::Arc;

use jiff::Timestamp;

use super::writer::Denied;
use crate::backend::BackendError;
use crate::event::{AccountHint, AcquisitionFailure, FailureReason};
use crate::identity::{ClaimsChallenge, GrantError};
use crate::token_cache::encryption::UndecryptableBlob;
use crate::token_cache::msal::{BlobError, BlobErrorKind};

/// There is no token. Cheap to clone: everybody who waited for it gets the same.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcquireError {
    /// No blob is stored under the cache key.
    #[error("no token cache is stored under this key; the user has to sign in")]
    CacheMissing,
    /// The blob was removed meanwhile: the user signed out. It stays removed, and nobody gets what was refreshed.
    #[error("the token cache was removed meanwhile; the user signed out")]
    Removed,
    /// The blob cannot be read.
    #[error("the stored token cache cannot be read")]
    Blob(#[from] BlobError),
    /// The blob is encrypted, or should be, and does not open.
    #[error("the stored token cache cannot be decrypted")]
    Undecryptable(#[from] UndecryptableBlob),
    /// The blob is about other accounts and not about this one.
    #[error("the token cache under this key is another account's")]
    OtherAccount,
    /// The blob holds no refresh token for this account and client.
    #[error("the token cache holds no refresh token for this account and client; the user has to sign in")]
    NoRefreshToken,
    /// The provider gave no token.
    #[error("no token from the identity provider")]
    Provider(#[from] GrantError),
    /// The store did not do what it was asked.
    #[error("the token cache is not available")]
    Store(#[source] Arc<BackendError>),
    /// Others kept changing the blob; the refreshed token could not be written.
    #[error("the token cache changed {0} times while the refreshed token was being written; try again")]
    Contended(u32),
    /// Another process has the right to refresh this blob, and has had it for longer than a refresh takes.
    #[error("another process refreshes this token cache; try again")]
    Busy,
    /// Whoever acts may not, just now.
    #[error("not refreshed")]
    Denied(#[from] Denied),
    /// The refresh was cut short with this program.
    #[error("the refresh was cut short")]
    Interrupted,
}

impl From<BackendError> for AcquireError {
    fn from(error: BackendError) -> Self {
        Arc::new(error).into()
    }
}

impl From<Arc<BackendError>> for AcquireError {
    fn from(error: Arc<BackendError>) -> Self {
        match UndecryptableBlob::of(&error) {
            Some(reason) => Self::Undecryptable(reason.clone()),
            None => Self::Store(error),
        }
    }
}

impl AcquireError {
    /// The word of the contract for it.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::CacheMissing | Self::Removed => FailureReason::CacheMissing,
            Self::Blob(error) => match error.kind() {
                BlobErrorKind::Undecryptable => FailureReason::Undecryptable,
                BlobErrorKind::Malformed => FailureReason::MalformedCache,
            },
            Self::Undecryptable(_) => FailureReason::Undecryptable,
            Self::OtherAccount => FailureReason::MalformedCache,
            Self::NoRefreshToken => FailureReason::NoRefreshToken,
            Self::Provider(error) => error.reason(),
            Self::Denied(Denied::Paused { .. }) => FailureReason::Throttled,
            Self::Store(_) | Self::Contended(_) | Self::Busy | Self::Interrupted | Self::Denied(Denied::ClaimLost) => {
                FailureReason::StoreUnavailable
            }
        }
    }

    /// Whether the same may succeed later with nothing changed here and without the user.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Provider(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::Contended(_) | Self::Busy | Self::Interrupted | Self::Denied(_) => true,
            Self::CacheMissing
            | Self::Removed
            | Self::Blob(_)
            | Self::Undecryptable(_)
            | Self::OtherAccount
            | Self::NoRefreshToken => false,
        }
    }

    /// When the provider may be asked again, where it said so.
    pub fn retry_after(&self) -> Option<Timestamp> {
        match self {
            Self::Provider(error) => error.retry_after(),
            Self::Denied(Denied::Paused { until }) => Some(*until),
            _ => None,
        }
    }

    /// What the next authorization request has to carry, where the provider said so.
    pub fn claims(&self) -> Option<&ClaimsChallenge> {
        match self {
            Self::Provider(error) => error.claims(),
            _ => None,
        }
    }

    /// The failure as an event tells it: the reason and the provider's codes, and nothing else of its answer.
    pub fn failure(&self, account: AccountHint) -> AcquisitionFailure {
        let answer = match self {
            Self::Provider(error) => error.answer().cloned().unwrap_or_default(),
            _ => Default::default(),
        };
        AcquisitionFailure {
            reason: self.reason(),
            error: answer.error,
            suberror: answer.suberror,
            retry_after: self.retry_after().map(Timestamp::as_second),
            account,
        }
    }
}
