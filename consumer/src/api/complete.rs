//! The end of a claim: what became of the account, for the log and for the claims.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use common::account::CacheKey;
use common::event::{AccountDetails, AccountHint, AcquisitionFailure, Activity, ErrorCode, EventDraft, FailureReason};
use common::index::{AccountActivity, Fence, HeldClaim};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Inner;
use super::caller::{Allowed, Claim};
use super::claims::{done, worker};
use super::extract::Body;
use super::openapi::{BodyRefusals, Refusals, Stale};
use super::problem::Problem;
use super::schemas;
use crate::worker::{AccountOutcome, Skipped, settlement};

/// How far ahead a `Retry-After` may be.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// How far ahead a worker may say that there is nothing to do.
const LONGEST_REST: Duration = Duration::from_secs(100 * 24 * 60 * 60);
/// How long a claim is held while its outcome is told.
const TELLING: Duration = Duration::from_secs(60);

/// What became of a claimed account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CompletionAsked {
    #[schema(value_type = schemas::WorkerName)]
    worker: String,
    #[schema(value_type = schemas::CacheKey)]
    cache_key: CacheKey,
    #[schema(value_type = schemas::Fence)]
    fence: Fence,
    outcome: Outcome,
}

/// How it ended.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "result", rename_all = "snake_case", deny_unknown_fields)]
enum Outcome {
    /// The account has what it needs.
    Hydrated {
        /// Of a worker that has renewed the shared cache by itself: the soonest expiry of an access token in it, in Unix
        /// seconds. The index learns of it. To be left out where the token was handed out by this API.
        access_token_expires_on: Option<i64>,
        /// When the new refresh token dies, in Unix seconds, where that is known.
        refresh_token_expires_on: Option<i64>,
        /// When there may be something to do again, as far as the worker knows: the `renew_from` of a token that was
        /// handed out. At most 100 days ahead.
        due_again_at: Option<Timestamp>,
    },
    /// It has not.
    Failed {
        /// Why there is no token. To be left out where there was one and the work with it failed: then the account is
        /// tried again, with a token that is valid.
        #[schema(value_type = Option<schemas::FailureReason>)]
        reason: Option<FailureReason>,
        /// The provider's `error` code.
        #[schema(value_type = Option<schemas::ErrorCode>)]
        error: Option<ErrorCode>,
        /// The provider's `suberror` code.
        #[schema(value_type = Option<schemas::ErrorCode>)]
        suberror: Option<ErrorCode>,
        /// When the provider may be asked again, in Unix seconds, at most a day ahead. With the reason `throttled` the
        /// whole tenant is left alone until then, by all workers.
        retry_after: Option<i64>,
        /// Whether the log knows it already, because the token was to be handed out by this API.
        #[serde(default)]
        is_told: bool,
    },
    /// There is nothing to work on any more.
    Gone,
}

/// End a claim with what became of the account
///
/// What is said of the account's tokens goes to the log first. An account that failed in a way that passes by itself is
/// due again after a random wait that doubles with each attempt; one that needs its user waits for the user.
#[utoipa::path(
    post, path = "/v1/claims/complete", tag = "claims", request_body = CompletionAsked,
    responses((status = 204, description = "The claim is ended."), Stale, BodyRefusals, Refusals),
    security(("bearer" = ["claim"]))
)]
pub(super) async fn complete(
    State(api): State<Arc<Inner>>,
    caller: Allowed<Claim>,
    Body(asked): Body<CompletionAsked>,
) -> Result<Response, Problem> {
    let CompletionAsked { worker: name, cache_key, fence, outcome } = asked;
    let until = outcome.until(Timestamp::now())?;
    let held = HeldClaim { cache_key, worker: worker(&caller, &name)?, fence };
    let account = outcome.tell(&api, &held).await?;
    let tenant = account.as_ref().and_then(AccountActivity::tenant_id);
    settlement(outcome.of_account(), until).apply(api.stores.claims.as_ref(), &held, tenant).await?;
    Ok(done())
}

impl Outcome {
    /// The word for it in the table of what outcomes lead to.
    fn of_account(&self) -> AccountOutcome {
        match self {
            Self::Hydrated { access_token_expires_on: Some(_), .. } => AccountOutcome::Hydrated,
            Self::Hydrated { access_token_expires_on: None, .. } => AccountOutcome::StillValid,
            Self::Failed { reason: Some(reason), .. } => AccountOutcome::NoToken(*reason),
            Self::Failed { reason: None, .. } => AccountOutcome::JobFailed,
            Self::Gone => AccountOutcome::Skipped(Skipped::Removed),
        }
    }

    fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        let within = |at: &Timestamp, most| at.duration_since(now).unsigned_abs() <= most;
        match self {
            Self::Hydrated { due_again_at: Some(at), .. } if !within(at, LONGEST_REST) => {
                Err(Problem::malformed("outcome.due_again_at: give a time at most 100 days from now"))
            }
            Self::Hydrated { due_again_at, .. } => Ok(*due_again_at),
            Self::Failed { reason: None, retry_after: Some(_), .. } => {
                Err(Problem::malformed("outcome.retry_after is the provider's, and goes with a reason"))
            }
            Self::Failed { retry_after: Some(seconds), .. } => {
                let at = Timestamp::from_second(*seconds).ok().filter(|at| within(at, LONGEST_PAUSE));
                let wrong = || Problem::malformed("outcome.retry_after: give Unix seconds at most a day from now");
                at.map(Some).ok_or_else(wrong)
            }
            Self::Failed { .. } | Self::Gone => Ok(None),
        }
    }

    /// Brings what is to be said of the account into the outbox, under a claim that is held for long enough to do so.
    async fn tell(&self, api: &Inner, held: &HeldClaim) -> Result<Option<AccountActivity>, Problem> {
        api.stores.claims.renew(held, TELLING).await?;
        let account = api.stores.index.get(&held.cache_key).await?;
        // An account that was removed meanwhile is nothing to speak of.
        let details = account.as_ref().and_then(|account| account.details.as_ref());
        if let Some(activity) = details.and_then(|details| self.news(&details.value)) {
            let event = EventDraft::new(api.settings.source.clone(), held.cache_key.clone(), activity);
            api.stores.cache.outbox.append(&event).await?;
        }
        Ok(account)
    }

    /// What the log is told of the account, of which so much is known.
    fn news(&self, known: &AccountDetails) -> Option<Activity> {
        match self {
            Self::Hydrated { access_token_expires_on, refresh_token_expires_on, .. } => {
                Some(Activity::Hydrated(AccountDetails {
                    access_token_expires_on: Some((*access_token_expires_on)?),
                    refresh_token_expires_on: *refresh_token_expires_on,
                    ..known.clone()
                }))
            }
            Self::Failed { is_told: true, .. } | Self::Gone => None,
            Self::Failed { reason, error, suberror, retry_after, .. } => {
                Some(Activity::AcquisitionFailed(AcquisitionFailure {
                    reason: (*reason)?,
                    error: error.clone(),
                    suberror: suberror.clone(),
                    retry_after: *retry_after,
                    account: AccountHint::from(known),
                }))
            }
        }
    }
}
