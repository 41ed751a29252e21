//! The admin endpoints under `/dev`, for tests in other languages.
//!
//! | request | body | does |
//! |---|---|---|
//! | `GET /dev/faults` | | the faults in force |
//! | `POST /dev/faults` | a [`FaultRule`] | adds one |
//! | `DELETE /dev/faults` | | clears all |
//! | `GET /dev/counts` | | `{"tenants": {tenant id: `[`TokenRequests`](super::TokenRequests)`}, "families_revoked": n}` |
//! | `POST /dev/clock` | `{"advance_seconds": n}` | moves the clock ahead |
//! | `POST /dev/users` | `{"tenant_id", "username", "name", "guest_in": [tenant id]}` | registers a user |
//! | `POST /dev/revoke` | `{"username"}` | revokes all tokens of a user |
//! | `POST /dev/validate` | `{"access_token"}` | the claims, or 404 |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fault::FaultRule;
use super::state::Provider;
use super::user::User;

pub(super) fn routes() -> Router<Arc<Provider>> {
    Router::new()
        .route("/dev/faults", get(list_faults).post(add_fault).delete(clear_faults))
        .route("/dev/counts", get(counts))
        .route("/dev/clock", post(advance))
        .route("/dev/users", post(register))
        .route("/dev/revoke", post(revoke))
        .route("/dev/validate", post(validate))
}

async fn list_faults(State(provider): State<Arc<Provider>>) -> Json<Vec<FaultRule>> {
    Json(provider.state().faults.rules().to_vec())
}

async fn add_fault(State(provider): State<Arc<Provider>>, Json(rule): Json<FaultRule>) -> StatusCode {
    provider.state().faults.add(rule);
    StatusCode::NO_CONTENT
}

async fn clear_faults(State(provider): State<Arc<Provider>>) -> StatusCode {
    provider.state().faults.clear();
    StatusCode::NO_CONTENT
}

async fn counts(State(provider): State<Arc<Provider>>) -> Json<Value> {
    let state = provider.state();
    Json(json!({"tenants": state.requests, "families_revoked": state.families.revoked()}))
}

#[derive(Deserialize)]
struct Advance {
    advance_seconds: u64,
}

async fn advance(State(provider): State<Arc<Provider>>, Json(body): Json<Advance>) -> StatusCode {
    provider.clock.advance(Duration::from_secs(body.advance_seconds));
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct NewUser {
    tenant_id: String,
    username: String,
    name: String,
    #[serde(default)]
    guest_in: Vec<String>,
}

async fn register(State(provider): State<Arc<Provider>>, Json(body): Json<NewUser>) -> Json<Value> {
    let user = User::new(&body.tenant_id, &body.username, &body.name);
    let user = body.guest_in.iter().fold(user, |user, tenant_id| user.guest_in(tenant_id));
    let home_account_id = user.home_account_id();
    provider.state().add_user(user);
    Json(json!({"home_account_id": home_account_id}))
}

#[derive(Deserialize)]
struct Revoke {
    username: String,
}

async fn revoke(State(provider): State<Arc<Provider>>, Json(body): Json<Revoke>) -> Json<Value> {
    let revoked = provider.state().families.revoke_user(&body.username);
    Json(json!({"families_revoked": revoked}))
}

#[derive(Deserialize)]
struct Validate {
    access_token: String,
}

async fn validate(State(provider): State<Arc<Provider>>, Json(body): Json<Validate>) -> Response {
    match provider.live_claims(&body.access_token) {
        Some(claims) => Json(claims).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
