//! How many accounts there are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use common::account::TenantId;
use common::index::Counts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Inner;
use super::caller::{Allowed, Read};
use super::extract::Asked;
use super::openapi::Refusals;
use super::problem::Problem;
use super::schemas;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CountParams {
    /// Only accounts of this home tenant.
    #[param(value_type = Option<schemas::TenantId>)]
    tenant: Option<TenantId>,
}

/// How many accounts there are in each state.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = Counts)]
pub(super) struct CountsView {
    /// Those that are listed: all but the removed ones.
    listed: u64,
    /// No failure is in force.
    ready: u64,
    /// A failure is in force that passes by itself.
    backing_off: u64,
    /// A failure is in force that needs the user.
    parked: u64,
    /// Their cache is gone.
    removed: u64,
}

impl CountsView {
    fn add(&mut self, counts: &Counts) {
        self.listed += counts.listed;
        self.ready += counts.by_state.ready;
        self.backing_off += counts.by_state.backing_off;
        self.parked += counts.by_state.parked;
        self.removed += counts.by_state.removed;
    }
}

/// How many accounts there are, by state
#[utoipa::path(
    get, path = "/v1/counts", tag = "accounts", params(CountParams),
    responses((status = 200, description = "How many there are.", body = CountsView), Refusals),
    security(("bearer" = ["read"]))
)]
pub(super) async fn counts(
    State(api): State<Arc<Inner>>,
    caller: Allowed<Read>,
    Asked(asked): Asked<CountParams>,
) -> Result<Json<CountsView>, Problem> {
    let mut sum = CountsView::default();
    for tenant in caller.narrowed(asked.tenant) {
        sum.add(&api.stores.index.counts(tenant.as_ref()).await?);
    }
    Ok(Json(sum))
}
