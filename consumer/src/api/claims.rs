//! Claims: accounts that are a worker's for a while.
//!
//! The index is given `{name of the token}/{name of the worker}`, so that nobody goes on with the claims of another
//! token, whatever names and fences they know.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use common::account::{CacheKey, ClientId, TenantId};
use common::index::{Claim, ClaimRequest, Fence, HeldClaim, WorkerId};
use jiff::Timestamp;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Inner;
use super::caller::{self, Allowed};
use super::due::DueView;
use super::extract::Body;
use super::openapi::{BodyRefusals, Refusals, Stale};
use super::problem::Problem;
use super::schemas;
use super::token_file::MOST_NAME_BYTES;
use crate::view::AccountView;

/// The longest name of a worker: with the name of its token it makes a name of the index.
pub(super) const MOST_WORKER_BYTES: usize = WorkerId::MAX_BYTES - MOST_NAME_BYTES - 1;
/// The most claims that are given back at once.
const MOST_RELEASED: usize = ClaimRequest::MAX_LIMIT;

/// What to claim.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimsAsked {
    #[schema(value_type = schemas::WorkerName)]
    worker: String,
    /// How many accounts at most.
    #[schema(minimum = 1, maximum = 1000)]
    limit: usize,
    /// For how long.
    #[schema(minimum = 1, maximum = 3600)]
    lease_seconds: u32,
    /// Only accounts of this home tenant.
    #[schema(value_type = Option<schemas::TenantId>)]
    tenant: Option<TenantId>,
    /// Only accounts of this app.
    #[schema(value_type = Option<schemas::ClientId>)]
    client: Option<ClientId>,
}

/// The accounts that are the worker's now.
#[derive(Serialize, ToSchema)]
pub(super) struct ClaimsGiven<'a> {
    claims: Vec<ClaimView<'a>>,
}

/// An account that is the worker's for a while.
#[derive(Serialize, ToSchema)]
#[schema(as = Claim)]
struct ClaimView<'a> {
    #[schema(value_type = schemas::CacheKey)]
    cache_key: &'a CacheKey,
    /// To be shown with everything about the claim: higher than that of every earlier claim of the account.
    #[schema(value_type = schemas::Fence)]
    fence: Fence,
    /// Until when it is the worker's.
    lease_until: Timestamp,
    due: DueView,
    /// How often it failed in a row before, in ways that pass by themselves.
    attempts: u32,
    account: AccountView<'a>,
}

impl<'a> ClaimView<'a> {
    fn of(claim: &'a Claim) -> Self {
        Self {
            cache_key: &claim.held.cache_key,
            fence: claim.held.fence,
            lease_until: claim.lease_until,
            due: (&claim.due).into(),
            attempts: claim.attempts,
            account: AccountView::of(&claim.account),
        }
    }
}

/// Claim accounts that are due: in each tenant the most overdue first, and the tenants in turn
///
/// There may be fewer than the limit, and none, although more are due: then ask again in a while. An answer that was
/// lost on the way has claimed; such leases end by themselves.
#[utoipa::path(
    post, path = "/v1/claims", tag = "claims", request_body = ClaimsAsked,
    responses((status = 200, description = "What was claimed.", body = ClaimsGiven), BodyRefusals, Refusals),
    security(("bearer" = ["claim"]))
)]
pub(super) async fn claim(
    State(api): State<Arc<Inner>>,
    caller: Allowed<caller::Claim>,
    Body(asked): Body<ClaimsAsked>,
) -> Result<Response, Problem> {
    let request = ClaimRequest {
        worker: worker(&caller, &asked.worker)?,
        limit: asked.limit,
        lease: lease(asked.lease_seconds),
        tenant: None,
        client: asked.client,
        rates: api.settings.claim_rates,
    };
    let mut tenants = caller.narrowed(asked.tenant);
    // Who is restricted to several has them in another order each time, so that none waits for another one's work.
    tenants.shuffle(&mut rand::rng());
    let mut claims: Vec<Claim> = Vec::new();
    for tenant in tenants {
        let room = request.limit.saturating_sub(claims.len());
        if room == 0 && !claims.is_empty() {
            break;
        }
        let request = ClaimRequest { tenant, limit: room, ..request.clone() };
        match api.stores.claims.claim(&request).await {
            Ok(more) => claims.extend(more),
            Err(error) if claims.is_empty() => return Err(error.into()),
            // What is claimed already must not be lost on the way.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "only some tenants were claimed from");
                break;
            }
        }
    }
    Ok(Json(ClaimsGiven { claims: claims.iter().map(ClaimView::of).collect() }).into_response())
}

/// A claim that is held.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RenewalAsked {
    #[schema(value_type = schemas::WorkerName)]
    worker: String,
    #[schema(value_type = schemas::CacheKey)]
    cache_key: CacheKey,
    #[schema(value_type = schemas::Fence)]
    fence: Fence,
    /// For how long from now.
    #[schema(minimum = 1, maximum = 3600)]
    lease_seconds: u32,
}

/// The claim goes on.
#[derive(Serialize, ToSchema)]
pub(super) struct Renewal {
    /// Until when it is held now.
    lease_until: Timestamp,
    /// Until when the identity provider asked for the account's tenant to be left alone, if it did.
    paused_until: Option<Timestamp>,
}

/// Hold a claim for longer
#[utoipa::path(
    post, path = "/v1/claims/renew", tag = "claims", request_body = RenewalAsked,
    responses((status = 200, description = "It is held.", body = Renewal), Stale, BodyRefusals, Refusals),
    security(("bearer" = ["claim"]))
)]
pub(super) async fn renew(
    State(api): State<Arc<Inner>>,
    caller: Allowed<caller::Claim>,
    Body(asked): Body<RenewalAsked>,
) -> Result<Json<Renewal>, Problem> {
    let held = HeldClaim { worker: worker(&caller, &asked.worker)?, cache_key: asked.cache_key, fence: asked.fence };
    let renewed = api.stores.claims.renew(&held, lease(asked.lease_seconds)).await?;
    Ok(Json(Renewal { lease_until: renewed.lease_until, paused_until: renewed.paused_until }))
}

/// Claims to give back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseAsked {
    #[schema(value_type = schemas::WorkerName)]
    worker: String,
    #[schema(max_items = 1000)]
    claims: Vec<ClaimNamed>,
}

/// Names a claim.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ClaimNamed {
    #[schema(value_type = schemas::CacheKey)]
    cache_key: CacheKey,
    #[schema(value_type = schemas::Fence)]
    fence: Fence,
}

/// What was given back.
#[derive(Serialize, ToSchema)]
pub(super) struct Released {
    /// How many of them were still held.
    released: usize,
}

/// Give claims back undone: they are due again at once
#[utoipa::path(
    post, path = "/v1/claims/release", tag = "claims", request_body = ReleaseAsked,
    responses((status = 200, description = "Those that were held are free.", body = Released), BodyRefusals, Refusals),
    security(("bearer" = ["claim"]))
)]
pub(super) async fn release(
    State(api): State<Arc<Inner>>,
    caller: Allowed<caller::Claim>,
    Body(asked): Body<ReleaseAsked>,
) -> Result<Json<Released>, Problem> {
    if asked.claims.len() > MOST_RELEASED {
        return Err(Problem::malformed(format!("claims: give at most {MOST_RELEASED}")));
    }
    let worker = worker(&caller, &asked.worker)?;
    let held = asked.claims.into_iter().map(|ClaimNamed { cache_key, fence }| HeldClaim {
        cache_key,
        worker: worker.clone(),
        fence,
    });
    let held: Vec<HeldClaim> = held.collect();
    Ok(Json(Released { released: api.stores.claims.release(&held).await? }))
}

/// The worker as the index knows it.
pub(super) fn worker<U>(caller: &Allowed<U>, name: &str) -> Result<WorkerId, Problem> {
    if name.is_empty() || name.len() > MOST_WORKER_BYTES {
        return Err(Problem::malformed(format!("worker: give 1 to {MOST_WORKER_BYTES} bytes")));
    }
    let id = WorkerId::new(format!("{}/{name}", caller.name()));
    id.map_err(|error| Problem::malformed(format!("worker: {error}")))
}

pub(super) fn lease(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// Nothing is to be said.
pub(super) fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
