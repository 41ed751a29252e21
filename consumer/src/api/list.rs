//! Lists of accounts.
//!
//! Those of a caller that is restricted to tenants go tenant by tenant; but for the list of one user's accounts, which
//! is short: there its cursor says how many were seen.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use common::account::{ClientId, TenantId, Username};
use common::index::{AccountActivity, AccountState, Cursor, Filter, InvalidCursor, ListRequest, Query};
use common::settings::moment;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::{IntoParams, ToSchema};

use super::Inner;
use super::caller::{Allowed, Read};
use super::extract::Asked;
use super::openapi::Refusals;
use super::problem::Problem;
use super::schemas;
use super::tenants::{Found, Place, tenant_by_tenant};
use crate::view::AccountView;

/// The largest page.
const MAX_PAGE: usize = 1_000;
/// The page of who asks for none.
const USUAL_PAGE: usize = 100;
/// How far into one user's accounts a restricted caller may go.
const MOST_SKIPPED: usize = 10_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Last activity at or after this, newest first: a time, or how long ago (`2h`). One of the three is needed.
    #[param(value_type = Option<String>, example = "2h")]
    active_since: Option<Moment>,
    /// Last activity at or before this, longest idle first: a time, or how long ago (`7d`).
    #[param(value_type = Option<String>, example = "7d")]
    idle_since: Option<Moment>,
    /// All accounts of this username, newest first.
    #[param(value_type = Option<schemas::Username>)]
    user: Option<Username>,
    /// Only accounts of this home tenant.
    #[param(value_type = Option<schemas::TenantId>)]
    tenant: Option<TenantId>,
    /// Only accounts of this app.
    #[param(value_type = Option<schemas::ClientId>)]
    client: Option<ClientId>,
    /// Only accounts in this state.
    #[param(value_type = Option<schemas::AccountState>)]
    state: Option<AccountState>,
    /// How many accounts at most. A page may be shorter, and even empty, and still have a next one.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Where to go on: the `next` of the page before, with the same parameters beside it.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

/// A time, or how long ago.
struct Moment(Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        moment(&String::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}

/// Some accounts of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountPage<'a> {
    accounts: Vec<AccountView<'a>>,
    /// Where to go on; null on the last page.
    next: Option<String>,
}

/// Accounts by activity or by user
///
/// For a token that is restricted to several tenants the list goes tenant by tenant, each in the order of the query.
#[utoipa::path(
    get, path = "/v1/accounts", tag = "accounts", params(ListParams),
    responses((status = 200, description = "Some of the accounts.", body = AccountPage), Refusals),
    security(("bearer" = ["read"]))
)]
pub(super) async fn list(
    State(api): State<Arc<Inner>>,
    caller: Allowed<Read>,
    Asked(asked): Asked<ListParams>,
) -> Result<Response, Problem> {
    let listing = Listing { limit: limit(asked.limit)?, query: asked.query(&api)?, asked, api: &api, caller: &caller };
    let found = listing.find().await?;
    let accounts = found.rows.iter().map(AccountView::of).collect();
    Ok(Json(AccountPage { accounts, next: found.next }).into_response())
}

/// How many of something, from what was asked.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(USUAL_PAGE);
    let is_sound = (1..=MAX_PAGE).contains(&limit);
    is_sound.then_some(limit).ok_or_else(|| Problem::malformed(format!("limit: give 1 to {MAX_PAGE}")))
}

impl ListParams {
    fn query(&self, api: &Inner) -> Result<Query, Problem> {
        match (&self.active_since, &self.idle_since, &self.user) {
            (Some(Moment(since)), None, None) => Ok(Query::ActiveSince(*since)),
            (None, Some(Moment(since)), None) => Ok(Query::IdleSince(*since)),
            (None, None, Some(user)) => {
                let left_out = || Problem::malformed("user: usernames are omitted here, so none can be looked for");
                api.settings.usernames.apply(user).map(Query::User).ok_or_else(left_out)
            }
            _ => Err(Problem::malformed("give one of active_since, idle_since and user")),
        }
    }
}

struct Listing<'a> {
    api: &'a Inner,
    caller: &'a Allowed<Read>,
    asked: ListParams,
    query: Query,
    limit: usize,
}

impl Listing<'_> {
    async fn find(&self) -> Result<Found<AccountActivity>, Problem> {
        match (&self.query, self.caller.tenants()) {
            (_, None) => self.of_all().await,
            (Query::User(_), Some(_)) => self.of_user().await,
            (_, Some(_)) => self.of_tenants().await,
        }
    }

    async fn of_all(&self) -> Result<Found<AccountActivity>, Problem> {
        let cursor: Option<Cursor> = self.asked.cursor.as_deref().map(str::parse).transpose()?;
        let page = self.api.stores.index.list(&self.request(self.asked.tenant.clone(), cursor, self.limit)).await?;
        Ok(Found { rows: page.accounts, next: page.next.map(|next| next.to_string()) })
    }

    async fn of_tenants(&self) -> Result<Found<AccountActivity>, Problem> {
        let tenants: Vec<TenantId> = self.caller.narrowed(self.asked.tenant.clone()).into_iter().flatten().collect();
        let index = &self.api.stores.index;
        let fetch = |tenant, cursor, limit| {
            let request = self.request(Some(tenant), cursor, limit);
            async move {
                let page = index.list(&request).await?;
                Ok((page.accounts, page.next))
            }
            .boxed()
        };
        tenant_by_tenant(&tenants, self.asked.cursor.as_deref(), self.limit, &fetch).await
    }

    async fn of_user(&self) -> Result<Found<AccountActivity>, Problem> {
        let skipped = self.skipped()?;
        let wanted = skipped + self.limit;
        let mut accounts = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.api.stores.index.list(&self.request(self.asked.tenant.clone(), cursor, MAX_PAGE)).await?;
            accounts.extend(page.accounts.into_iter().filter(|account| self.caller.knows(account)));
            cursor = page.next;
            if cursor.is_none() || accounts.len() > wanted {
                break;
            }
        }
        let next = (accounts.len() > wanted).then(|| Place::Skipped { skipped: wanted }.to_text());
        Ok(Found { rows: accounts.into_iter().skip(skipped).take(self.limit).collect(), next })
    }

    fn skipped(&self) -> Result<usize, Problem> {
        match self.asked.cursor.as_deref().map(str::parse).transpose()? {
            None => Ok(0),
            Some(Place::Skipped { skipped }) if skipped <= MOST_SKIPPED => Ok(skipped),
            Some(_) => Err(InvalidCursor.into()),
        }
    }

    fn request(&self, tenant: Option<TenantId>, cursor: Option<Cursor>, limit: usize) -> ListRequest {
        let filter = Filter { tenant, client: self.asked.client.clone(), state: self.asked.state };
        ListRequest { query: self.query.clone(), filter, limit, cursor }
    }
}
