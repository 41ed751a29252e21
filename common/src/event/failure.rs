//! Why a token could not be had, and what may be done about it.

use serde::{Deserialize, Serialize};

use super::AccountHint;
use crate::account::identifier;

identifier!(
    /// An OAuth `error` or `suberror` code, such as `invalid_grant`. Never a description: those name users.
    ErrorCode,
    128
);

/// Why a token could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// No blob is stored under the cache key.
    CacheMissing,
    /// The blob cannot be decrypted, or was encrypted by somebody else.
    Undecryptable,
    /// The blob is not an MSAL cache.
    MalformedCache,
    /// The blob holds no refresh token for this account and client.
    NoRefreshToken,
    /// The provider wants the user: consent, MFA, a conditional access policy.
    InteractionRequired,
    /// The refresh token is revoked or expired.
    Revoked,
    /// The provider asked to be left alone for a while.
    Throttled,
    /// The provider did not answer, or answered with its own failure.
    IdentityProviderUnavailable,
    /// The token cache did not answer. Never said of a missing token.
    StoreUnavailable,
}

/// What makes a token possible again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Only the user's next activity; until then the account is parked.
    UserActivity,
    /// Trying again later, with jittered backoff.
    Retry,
}

impl FailureReason {
    /// Every reason there is.
    pub const ALL: [Self; 9] = [
        Self::CacheMissing,
        Self::Undecryptable,
        Self::MalformedCache,
        Self::NoRefreshToken,
        Self::InteractionRequired,
        Self::Revoked,
        Self::Throttled,
        Self::IdentityProviderUnavailable,
        Self::StoreUnavailable,
    ];

    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CacheMissing => "cache_missing",
            Self::Undecryptable => "undecryptable",
            Self::MalformedCache => "malformed_cache",
            Self::NoRefreshToken => "no_refresh_token",
            Self::InteractionRequired => "interaction_required",
            Self::Revoked => "revoked",
            Self::Throttled => "throttled",
            Self::IdentityProviderUnavailable => "identity_provider_unavailable",
            Self::StoreUnavailable => "store_unavailable",
        }
    }

    /// What makes a token possible again after this.
    pub fn recovery(self) -> Recovery {
        match self {
            Self::CacheMissing
            | Self::Undecryptable
            | Self::MalformedCache
            | Self::NoRefreshToken
            | Self::InteractionRequired
            | Self::Revoked => Recovery::UserActivity,
            Self::Throttled | Self::IdentityProviderUnavailable | Self::StoreUnavailable => Recovery::Retry,
        }
    }
}

/// The `data` of a `tokencache.acquisition-failed.v1` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct AcquisitionFailure {
    /// Why.
    pub reason: FailureReason,
    /// The provider's `error` code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorCode>,
    /// The provider's `suberror` code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suberror: Option<ErrorCode>,
    /// When the provider may be asked again, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<i64>,
    /// The account it is about, as far as the worker knew it.
    #[serde(flatten)]
    pub account: AccountHint,
}
