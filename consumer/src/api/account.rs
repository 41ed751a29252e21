//! One account: what the index knows of it, and its removal.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use common::account::CacheKey;
use common::event::{AccountHint, Activity, EventDraft};
use common::index::AccountActivity;
use serde::Serialize;
use utoipa::ToSchema;

use super::Inner;
use super::caller::{Admin, Allowed, Read};
use super::extract::OfAccount;
use super::openapi::{Missing, Refusals};
use super::problem::{Kind, Problem};
use super::schemas;
use crate::view::AccountView;

/// The account under a key, if the caller may know of it: one of another tenant is not there.
pub(super) async fn known<U>(api: &Inner, caller: &Allowed<U>, key: &CacheKey) -> Result<AccountActivity, Problem> {
    let account = api.stores.index.get(key).await?;
    account.filter(|account| caller.knows(account)).ok_or_else(|| Kind::NotFound.into())
}

/// All the index knows of one account, listed or not
#[utoipa::path(
    get, path = "/v1/accounts/{cache_key}", tag = "accounts",
    params(("cache_key" = schemas::CacheKey, Path)),
    responses((status = 200, description = "The account.", body = AccountView), Missing, Refusals),
    security(("bearer" = ["read"]))
)]
pub(super) async fn show(
    State(api): State<Arc<Inner>>,
    caller: Allowed<Read>,
    OfAccount(key): OfAccount,
) -> Result<Response, Problem> {
    let account = known(&api, &caller, &key).await?;
    Ok(Json(AccountView::of(&account)).into_response())
}

/// What a removal did.
#[derive(Serialize, ToSchema)]
pub(super) struct Removal {
    #[schema(value_type = schemas::CacheKey)]
    cache_key: CacheKey,
    /// Whether there was a token cache, which is gone now.
    had_cache: bool,
}

/// Remove an account's token cache, as a sign-out does
///
/// The index follows when the event has come through the log. What erases an account from everything, with a receipt,
/// is the command `consumer account erase`.
#[utoipa::path(
    delete, path = "/v1/accounts/{cache_key}", tag = "accounts",
    params(("cache_key" = schemas::CacheKey, Path)),
    responses((status = 202, description = "Its cache is gone, and the log will tell the index.", body = Removal), Missing, Refusals),
    security(("bearer" = ["admin"]))
)]
pub(super) async fn remove(
    State(api): State<Arc<Inner>>,
    caller: Allowed<Admin>,
    OfAccount(key): OfAccount,
) -> Result<Response, Problem> {
    let account = known(&api, &caller, &key).await?;
    let details = account.details.as_ref().map(|details| AccountHint::from(&details.value));
    let removed = Activity::Removed(details.unwrap_or_default());
    let event = EventDraft::new(api.settings.source.clone(), key.clone(), removed);
    let had_cache = api.stores.cache.store.remove(&key, Some(&event)).await?;
    tracing::info!(cache_key = %key, caller = caller.name(), "an account was removed");
    Ok((axum::http::StatusCode::ACCEPTED, Json(Removal { cache_key: key, had_cache })).into_response())
}
