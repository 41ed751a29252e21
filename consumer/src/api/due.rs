//! Which accounts are due, and what keeps them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use common::account::{ClientId, TenantId};
use common::index::{Cursor, Due, DueAccount, DueReason, DueRequest, Hold, JobReason, WorkerId};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Inner;
use super::caller::{Allowed, Read};
use super::extract::Asked;
use super::list::limit;
use super::openapi::Refusals;
use super::problem::Problem;
use super::schemas;
use super::tenants::{Found, tenant_by_tenant};
use crate::view::AccountView;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DueParams {
    /// Due at or before this time; now, where it is left out.
    until: Option<Timestamp>,
    /// Only accounts of this home tenant.
    #[param(value_type = Option<schemas::TenantId>)]
    tenant: Option<TenantId>,
    /// Only accounts of this app.
    #[param(value_type = Option<schemas::ClientId>)]
    client: Option<ClientId>,
    /// How many accounts at most. A page may be shorter, and even empty, and still have a next one.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Where to go on: the `next` of the page before, with the same parameters beside it.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

/// When an account is due, and why.
#[derive(Serialize, ToSchema)]
#[schema(as = Due)]
pub(super) struct DueView {
    /// From when on.
    at: Timestamp,
    #[schema(value_type = schemas::DueReason)]
    reason: DueReason,
    /// What the job said that scheduled it; null where it said nothing, or the account is due by itself.
    #[schema(value_type = Option<schemas::JobReason>)]
    scheduled_for: Option<JobReason>,
}

impl From<&Due> for DueView {
    fn from(due: &Due) -> Self {
        Self { at: due.at, reason: due.reason, scheduled_for: due.scheduled_for.clone() }
    }
}

/// One account that is due.
#[derive(Serialize, ToSchema)]
#[schema(as = DueAccount)]
struct DueAccountView<'a> {
    account: AccountView<'a>,
    due: DueView,
    /// What keeps it from being claimed now, if anything does.
    hold: Option<HoldView<'a>>,
}

/// Why an account is not claimed although it is due.
#[derive(Serialize, ToSchema)]
#[schema(as = Hold)]
struct HoldView<'a> {
    until: Timestamp,
    /// Whose claim it is; null where it backs off or settles, and for tokens that are restricted to tenants.
    #[schema(value_type = Option<String>)]
    worker: Option<&'a WorkerId>,
    /// How often it failed in a row.
    attempts: u32,
}

/// Some of the accounts that are due.
#[derive(Serialize, ToSchema)]
pub(super) struct DuePage<'a> {
    accounts: Vec<DueAccountView<'a>>,
    /// Where to go on; null on the last page.
    next: Option<String>,
}

/// Accounts that are due, claimed or not, the most overdue first
///
/// For a token that is restricted to several tenants the list goes tenant by tenant.
#[utoipa::path(
    get, path = "/v1/due", tag = "claims", params(DueParams),
    responses((status = 200, description = "Accounts that are due.", body = DuePage), Refusals),
    security(("bearer" = ["read"]))
)]
pub(super) async fn due(
    State(api): State<Arc<Inner>>,
    caller: Allowed<Read>,
    Asked(asked): Asked<DueParams>,
) -> Result<Response, Problem> {
    let found = find(&api, &caller, &asked).await?;
    let sees_workers = caller.tenants().is_none();
    let accounts = found.rows.iter().map(|row| DueAccountView::of(row, sees_workers)).collect();
    Ok(Json(DuePage { accounts, next: found.next }).into_response())
}

async fn find(api: &Inner, caller: &Allowed<Read>, asked: &DueParams) -> Result<Found<DueAccount>, Problem> {
    let (limit, until) = (limit(asked.limit)?, asked.until.unwrap_or_else(Timestamp::now));
    let request = |tenant: Option<TenantId>, cursor: Option<Cursor>, limit: usize| DueRequest {
        until,
        tenant,
        client: asked.client.clone(),
        limit,
        cursor,
    };
    let claims = &api.stores.claims;
    if caller.tenants().is_none() {
        let cursor = asked.cursor.as_deref().map(str::parse).transpose()?;
        let page = claims.due(&request(asked.tenant.clone(), cursor, limit)).await?;
        return Ok(Found { rows: page.accounts, next: page.next.map(|next| next.to_string()) });
    }
    let tenants: Vec<TenantId> = caller.narrowed(asked.tenant.clone()).into_iter().flatten().collect();
    let fetch = |tenant, cursor, limit| {
        let request = request(Some(tenant), cursor, limit);
        async move {
            let page = claims.due(&request).await?;
            Ok((page.accounts, page.next))
        }
        .boxed()
    };
    tenant_by_tenant(&tenants, asked.cursor.as_deref(), limit, &fetch).await
}

impl<'a> DueAccountView<'a> {
    fn of(row: &'a DueAccount, sees_workers: bool) -> Self {
        let hold = row.hold.as_ref().map(|Hold { until, worker, attempts }| HoldView {
            until: *until,
            worker: worker.as_ref().filter(|_| sees_workers),
            attempts: *attempts,
        });
        Self { account: AccountView::of(&row.account), due: (&row.due).into(), hold }
    }
}
