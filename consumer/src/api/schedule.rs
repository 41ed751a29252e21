//! Making an account due, or claimable again, by hand or for a job.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use common::index::{JobReason, Schedule};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Inner;
use super::account::known;
use super::caller::{Admin, Allowed, Claim};
use super::claims::done;
use super::extract::{Body, OfAccount};
use super::openapi::{BodyRefusals, Missing, Refusals};
use super::problem::Problem;
use super::schemas;

/// When an account is to be due.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleAsked {
    /// The time; null takes back what was asked for before.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    at: Option<Timestamp>,
    /// Why: one line, shown with the account while it is due for this. What was said before, where it is left out.
    #[schema(value_type = Option<schemas::JobReason>)]
    reason: Option<JobReason>,
}

/// Make an account due at a time, if it is not due before
///
/// One time for each account, the last one given. An account that waits for its user is not claimed at that time either.
#[utoipa::path(
    post, path = "/v1/accounts/{cache_key}/schedule", tag = "claims", request_body = ScheduleAsked,
    params(("cache_key" = schemas::CacheKey, Path)),
    responses((status = 204, description = "It is due then."), Missing, BodyRefusals, Refusals),
    security(("bearer" = ["claim"]))
)]
pub(super) async fn schedule(
    State(api): State<Arc<Inner>>,
    caller: Allowed<Claim>,
    OfAccount(key): OfAccount,
    Body(asked): Body<ScheduleAsked>,
) -> Result<Response, Problem> {
    if asked.at.is_none() && asked.reason.is_some() {
        return Err(Problem::malformed("a reason goes with a time; give `at`, or leave the reason out"));
    }
    known(&api, &caller, &key).await?;
    let schedule = asked.at.map(|at| Schedule { at, reason: asked.reason });
    api.stores.claims.schedule(&key, schedule.as_ref()).await?;
    Ok(done())
}

/// Let an account be claimed that a failure, a back-off or a completion holds back
///
/// A claim that is held stays; and an account that waits for its user goes on to do so.
#[utoipa::path(
    delete, path = "/v1/accounts/{cache_key}/hold", tag = "claims",
    params(("cache_key" = schemas::CacheKey, Path)),
    responses((status = 204, description = "Nothing but a claim holds it."), Missing, Refusals),
    security(("bearer" = ["admin"]))
)]
pub(super) async fn forget_hold(
    State(api): State<Arc<Inner>>,
    caller: Allowed<Admin>,
    OfAccount(key): OfAccount,
) -> Result<Response, Problem> {
    known(&api, &caller, &key).await?;
    api.stores.claims.forget_hold(&key).await?;
    Ok(done())
}
