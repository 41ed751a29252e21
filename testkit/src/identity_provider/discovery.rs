//! The configuration document, the signing keys, instance discovery and sign-out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use serde_json::{Value, json};

use super::fault::{End, Endpoint, Target};
use super::form::Form;
use super::state::Provider;
use super::tenant::TenantSegment;
use super::token::dropped;

pub(super) async fn configuration(State(provider): State<Arc<Provider>>, Path(segment): Path<String>) -> Response {
    guarded(&provider, Endpoint::Discovery, &segment, |tenant| configuration_of(&provider, tenant)).await
}

pub(super) async fn keys(State(provider): State<Arc<Provider>>, Path(segment): Path<String>) -> Response {
    guarded(&provider, Endpoint::Keys, &segment, |_| {
        let keys: Vec<Value> = provider.keys().iter().map(|key| key.to_jwk()).collect();
        json!({ "keys": keys })
    })
    .await
}

/// What MSAL asks an authority it does not know; all names of this provider are one cloud.
pub(super) async fn instance(State(provider): State<Arc<Provider>>, Path(segment): Path<String>) -> Json<Value> {
    let aliases = ["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"];
    Json(json!({
        "tenant_discovery_endpoint": format!("{}/{segment}/v2.0/.well-known/openid-configuration", provider.base_url),
        "api-version": "1.1",
        "metadata": [{
            "preferred_network": "login.microsoftonline.com",
            "preferred_cache": "login.windows.net",
            "aliases": aliases,
        }],
    }))
}

pub(super) async fn logout(RawQuery(query): RawQuery) -> Response {
    let form = Form::parse(query.unwrap_or_default().as_bytes());
    match form.get("post_logout_redirect_uri").filter(|uri| url::Url::parse(uri).is_ok()) {
        Some(uri) => Redirect::to(uri).into_response(),
        None => Html("<!doctype html><title>Signed out</title><p>You are signed out.</p>").into_response(),
    }
}

async fn guarded(
    provider: &Provider,
    endpoint: Endpoint,
    segment: &str,
    document: impl FnOnce(&TenantSegment) -> Value,
) -> Response {
    let effects = provider.strike(Target { endpoint, tenant_id: segment, username: None });
    tokio::time::sleep(effects.delay).await;
    let refusal = match effects.end {
        Some(End::Refuse(error)) => error,
        Some(End::Drop | End::LoseAnswer) => return dropped(),
        None => match TenantSegment::parse(segment) {
            Ok(tenant) => return Json(document(&tenant)).into_response(),
            Err(error) => error,
        },
    };
    refusal.to_response(provider.clock.now(), &uuid::Uuid::now_v7().to_string())
}

fn configuration_of(provider: &Provider, tenant: &TenantSegment) -> Value {
    let base = format!("{}/{}", provider.base_url, tenant.as_str());
    // For `common` the issuer is a template, braces and all, that the reader fills with the token's `tid`.
    let issuer = match tenant {
        TenantSegment::One(tenant_id) => provider.issuer(tenant_id),
        TenantSegment::Any(_) => provider.issuer("{tenantid}"),
    };
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "end_session_endpoint": format!("{base}/oauth2/v2.0/logout"),
        "userinfo_endpoint": format!("{}/graph/me", provider.base_url),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "response_modes_supported": ["query"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nonce", "name", "tid", "ver", "oid", "preferred_username"],
        "request_uri_parameter_supported": false,
        "http_logout_supported": true,
        "frontchannel_logout_supported": false,
        "tenant_region_scope": Value::Null,
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
    })
}
