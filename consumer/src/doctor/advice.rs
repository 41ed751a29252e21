//! What to do about what was found.

use common::event::{FailureReason, Recovery};

use super::finding::{Finding, Level};

pub(super) fn index_away(error: &String) -> Finding {
    Finding::new(Level::Note, format!("the index does not answer: {error}"), "check --index-url (ACTIVITY_INDEX_URL)")
}

/// What to do when there was no token for this reason.
pub(super) fn after(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::CacheMissing => {
            "the user has to sign in again; if that keeps happening, look whether caches expire too soon, and whether \
             app and worker have the same TOKEN_CACHE_INSTANCE_NAME"
        }
        FailureReason::Undecryptable => {
            "give the worker the key the blob is encrypted with, or let the app write blobs that both can read"
        }
        FailureReason::MalformedCache => {
            "find out who writes under this key; the user's next sign-in makes the cache anew"
        }
        FailureReason::NoRefreshToken => {
            "the app has to ask for offline_access when the user signs in, and for this app's client id"
        }
        FailureReason::InteractionRequired => {
            "the provider wants the user: consent, MFA or a policy; they have to sign in again in the app"
        }
        FailureReason::Revoked => "the refresh token is dead: the user has to sign in again",
        FailureReason::Throttled => "nothing: it is tried again when the provider's pause is over",
        FailureReason::IdentityProviderUnavailable => {
            "if it does not pass, check that the worker reaches the provider, and that the app's secret or certificate \
             is right and has not expired"
        }
        FailureReason::StoreUnavailable => "if it does not pass, check --cache-url (TOKEN_CACHE_URL) and the server",
    }
}

/// How bad it is that there is no token for this reason.
pub(super) fn level(reason: FailureReason) -> Level {
    match reason.recovery() {
        Recovery::UserActivity => Level::Obstacle,
        Recovery::Retry => Level::Wait,
    }
}
