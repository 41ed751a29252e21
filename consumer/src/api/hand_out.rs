//! Access tokens for claims that are held, where the operator wants them handed out at all.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use common::account::{CacheKey, TenantId};
use common::event::{FailureReason, Recovery};
use common::index::{Fence, HeldClaim};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::Inner;
use super::account::known;
use super::caller::{Allowed, Token};
use super::claims::{lease, worker};
use super::extract::Body;
use super::openapi::{BodyRefusals, Refusals, Stale};
use super::problem::{Kind, Problem};
use super::schemas;
use crate::worker::{AccountOutcome, HandedOver, NoToken, pause};

/// When to come back where the provider has not said so.
const SOON: Duration = Duration::from_secs(10);

/// A claim that is held, and goes on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenAsked {
    #[schema(value_type = schemas::WorkerName)]
    worker: String,
    #[schema(value_type = schemas::CacheKey)]
    cache_key: CacheKey,
    #[schema(value_type = schemas::Fence)]
    fence: Fence,
    /// For how long from now the claim is renewed.
    #[schema(minimum = 1, maximum = 3600)]
    lease_seconds: u32,
    /// Whether to refresh in any case: to be set where the account is due as `refresh_token_idle`, since a refresh token
    /// is kept alive by being used.
    #[serde(default)]
    force_refresh: bool,
}

/// An access token of the account's user. A secret.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenGiven {
    access_token: String,
    token_type: &'static str,
    /// When it expires.
    expires_at: Timestamp,
    /// When the account is to be worked on again for its token: the `due_again_at` of the claim's completion.
    renew_from: Option<Timestamp>,
    /// Until when the claim is held.
    lease_until: Timestamp,
}

/// Have an access token for a claim that is held
///
/// Off unless the server is told to hand tokens out. A token that is about to expire is refreshed first, and the user's
/// cache is written back; the log is told of that, and of a failure.
#[utoipa::path(
    post, path = "/v1/claims/token", tag = "claims", request_body = TokenAsked,
    responses(
        (status = 200, description = "The token, not to be stored.", body = TokenGiven),
        (status = 404, description = "Tokens are not handed out here, or there is no such account.",
         body = super::problem::ProblemDocument, content_type = "application/problem+json"),
        Stale, BodyRefusals, Refusals
    ),
    security(("bearer" = ["token"]))
)]
pub(super) async fn hand_out(
    State(api): State<Arc<Inner>>,
    caller: Allowed<Token>,
    Body(asked): Body<TokenAsked>,
) -> Result<Json<TokenGiven>, Problem> {
    let not_here = || Problem::from(Kind::NotFound).because("tokens are not handed out here");
    let elsewhere = api.elsewhere.clone().ok_or_else(not_here)?;
    let held = HeldClaim { worker: worker(&caller, &asked.worker)?, cache_key: asked.cache_key, fence: asked.fence };
    let (lease, renewed_at) = (lease(asked.lease_seconds), Instant::now());
    let renewed = api.stores.claims.renew(&held, lease).await?;
    let account = known(&api, &caller, &held.cache_key).await?;
    // A task of its own, so that a refresh that was begun is written back even if nobody waits for it any more.
    let task = {
        let (held, account) = (held.clone(), account.clone());
        async move { elsewhere.token(held, (lease, renewed_at), &account, asked.force_refresh).await }
    };
    let handed_over = api.refreshes.spawn(task).await.map_err(|_| Kind::Internal)?;
    let HandedOver { token, renew_from } = match handed_over {
        Ok(handed_over) => handed_over,
        Err(why) => return Err(refused(&api, why, account.tenant_id()).await),
    };
    Ok(Json(TokenGiven {
        access_token: token.expose().to_owned(),
        token_type: "Bearer",
        expires_at: token.expires_on(),
        renew_from,
        lease_until: renewed.lease_until,
    }))
}

/// Says why there is no token, and leaves the tenant alone if the provider asked for that.
async fn refused(api: &Inner, NoToken { outcome, until }: NoToken, tenant: Option<&TenantId>) -> Problem {
    match outcome {
        AccountOutcome::ClaimLost => Kind::StaleFence.into(),
        AccountOutcome::LeftAlone => later(FailureReason::Throttled, until),
        AccountOutcome::NoToken(reason) => {
            if reason == FailureReason::Throttled
                && let Err(error) = pause(api.stores.claims.as_ref(), tenant, until).await
            {
                return error.into();
            }
            match reason.recovery() {
                Recovery::Retry => later(reason, until),
                Recovery::UserActivity => Problem::from(Kind::NoToken).with_reason(reason),
            }
        }
        // It was removed, or parked, or is another app's.
        _ => Kind::NoToken.into(),
    }
}

fn later(reason: FailureReason, until: Option<Timestamp>) -> Problem {
    let wait = until.map(|until| until.duration_since(Timestamp::now()).try_into().unwrap_or(Duration::ZERO));
    Problem::from(Kind::NoTokenNow).with_reason(reason).retry_after(wait.unwrap_or(SOON))
}
