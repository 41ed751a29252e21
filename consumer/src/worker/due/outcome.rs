//! The state machine: what became of a claimed account, and what that does to it.
//!
//! | outcome | told to the log | the claim | due next |
//! |---|---|---|---|
//! | hydrated | `hydrated` | settled | by the new expiry |
//! | still valid | – | settled | when the token it found is no longer valid for long enough |
//! | needs the user: `undecryptable`, `malformed_cache`, `no_refresh_token`, `interaction_required`, `revoked` | `acquisition-failed`, `reauthentication-required` | settled: parked | after the user's next activity |
//! | gone: `cache_missing`, removed meanwhile | `acquisition-failed`, `reauthentication-required` where it was not removed | gone: retired | after the user's next activity |
//! | `throttled` | `acquisition-failed` | failed; the whole tenant is left alone until `Retry-After` | after that, with jitter |
//! | `identity_provider_unavailable`, `store_unavailable`, a crash | `acquisition-failed` | failed | after a back-off with full jitter |
//! | the job failed, panicked or timed out | – | failed, and scheduled at once | after a back-off with full jitter |
//! | left alone: the tenant is paused | – | given back | when the pause is over |
//! | the claim was lost | – | – | whatever its new holder says |

use std::time::Duration;

use common::event::{FailureReason, Recovery};
use common::index::Completion;
use jiff::Timestamp;

use crate::worker::{AccountOutcome, Skipped};

/// How long a tenant is left alone where its provider did not say.
pub(super) const PAUSE_UNSAID: Duration = Duration::from_secs(30);

/// What is done with a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// It is completed.
    Complete(Completion),
    /// It is completed, and its tenant left alone.
    Throttled {
        /// `Retry-After`, where it was given.
        until: Option<Timestamp>,
    },
    /// It is completed as failed, and due again for the job.
    JobAgain,
    /// It is given back.
    Release,
    /// It is somebody else's.
    Nothing,
}

/// The table above. `until` is when the provider may be asked again, or when the token that was found needs renewal.
pub(crate) fn settlement(outcome: AccountOutcome, until: Option<Timestamp>) -> Settlement {
    match outcome {
        AccountOutcome::Hydrated => Settlement::Complete(Completion::Settled { next: None }),
        AccountOutcome::StillValid => Settlement::Complete(Completion::Settled { next: until }),
        AccountOutcome::NoToken(FailureReason::CacheMissing) => Settlement::Complete(Completion::Gone),
        AccountOutcome::NoToken(FailureReason::Throttled) => Settlement::Throttled { until },
        AccountOutcome::NoToken(reason) => match reason.recovery() {
            Recovery::UserActivity => Settlement::Complete(Completion::Settled { next: None }),
            Recovery::Retry => Settlement::Complete(Completion::Failed { not_before: until }),
        },
        AccountOutcome::Skipped(Skipped::Removed) => Settlement::Complete(Completion::Gone),
        AccountOutcome::Skipped(_) => Settlement::Complete(Completion::Settled { next: until }),
        AccountOutcome::JobFailed | AccountOutcome::JobPanicked | AccountOutcome::JobTimedOut => Settlement::JobAgain,
        AccountOutcome::Crashed => Settlement::Complete(Completion::Failed { not_before: None }),
        AccountOutcome::LeftAlone => Settlement::Release,
        AccountOutcome::ClaimLost => Settlement::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_leads_where_the_contract_says() {
        let settled = Settlement::Complete(Completion::Settled { next: None });
        let failed = Settlement::Complete(Completion::Failed { not_before: None });
        for reason in FailureReason::ALL {
            let expected = match reason {
                FailureReason::CacheMissing => Settlement::Complete(Completion::Gone),
                FailureReason::Undecryptable
                | FailureReason::MalformedCache
                | FailureReason::NoRefreshToken
                | FailureReason::InteractionRequired
                | FailureReason::Revoked => settled,
                FailureReason::Throttled => Settlement::Throttled { until: None },
                FailureReason::IdentityProviderUnavailable | FailureReason::StoreUnavailable => failed,
            };
            assert_eq!(settlement(AccountOutcome::NoToken(reason), None), expected, "{reason:?}");
        }
    }

    #[test]
    fn a_provider_s_retry_after_is_kept_to() {
        let until = Some(Timestamp::UNIX_EPOCH);
        let away = AccountOutcome::NoToken(FailureReason::IdentityProviderUnavailable);
        assert_eq!(settlement(away, until), Settlement::Complete(Completion::Failed { not_before: until }));
        let throttled = AccountOutcome::NoToken(FailureReason::Throttled);
        assert_eq!(settlement(throttled, until), Settlement::Throttled { until });
    }

    #[test]
    fn a_lost_claim_is_left_to_its_holder() {
        assert_eq!(settlement(AccountOutcome::ClaimLost, None), Settlement::Nothing);
    }
}
