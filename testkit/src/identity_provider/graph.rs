//! `GET /graph/me`: a protected resource, answering for a live access token.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::fault::{End, Endpoint, Target};
use super::state::Provider;
use super::token::dropped;

pub(super) async fn me(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Response {
    let Some(claims) = bearer(&headers).and_then(|token| provider.live_claims(token)) else {
        return unauthorized();
    };
    let tenant_id = claims["tid"].as_str().unwrap_or_default();
    let username = claims["preferred_username"].as_str();
    let effects = provider.strike(Target { endpoint: Endpoint::Graph, tenant_id, username });
    tokio::time::sleep(effects.delay).await;
    match effects.end {
        Some(End::Refuse(error)) => error.to_response(provider.clock.now(), &uuid::Uuid::now_v7().to_string()),
        Some(End::Drop | End::LoseAnswer) => dropped(),
        None => Json(json!({
            "id": claims["oid"],
            "sub": claims["sub"],
            "displayName": claims["name"],
            "userPrincipalName": claims["preferred_username"],
            "mail": claims["preferred_username"],
        }))
        .into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn unauthorized() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)];
    let body = json!({"error": {"code": "InvalidAuthenticationToken", "message": "The access token is missing, expired or revoked."}});
    (StatusCode::UNAUTHORIZED, challenge, Json(body)).into_response()
}
