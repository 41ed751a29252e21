//! `GET /{tenant}/oauth2/v2.0/authorize`: code flow with PKCE.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use url::Url;

use super::authenticate::unknown_client;
use super::client::Client;
use super::codes::CodeGrant;
use super::error::EntraError;
use super::fault::{End, Endpoint, Target};
use super::form::Form;
use super::issue::client_info;
use super::options::DEFAULT_TENANT;
use super::page;
use super::scope::Scopes;
use super::state::Provider;
use super::tenant::TenantSegment;
use super::token::dropped;
use super::user::User;

/// The parameter that the sign-in page adds: a person chose this user.
pub(super) const CHOSEN: &str = "dev_chosen";

/// The parameter that the sign-in page adds: a person chose to go back.
pub(super) const CANCELLED: &str = "dev_cancelled";

pub(super) async fn authorize(
    State(provider): State<Arc<Provider>>,
    Path(segment): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let form = Form::parse(query.unwrap_or_default().as_bytes());
    let (client, redirect_uri) = match find_client(&provider, &form) {
        Ok(found) => found,
        // Without a proven redirect address an error can only be shown.
        Err(error) => return (StatusCode::BAD_REQUEST, page::error(&error)).into_response(),
    };
    let target = Target { endpoint: Endpoint::Authorize, tenant_id: &segment, username: form.get("login_hint") };
    let effects = provider.strike(target);
    tokio::time::sleep(effects.delay).await;
    let decision = match effects.end {
        Some(End::Refuse(error)) => Err(error),
        Some(End::Drop | End::LoseAnswer) => return dropped(),
        None => decide(&provider, &segment, &client, &form),
    };
    match decision {
        Ok(Decision::Ask) => page::choose(&provider, &form).into_response(),
        Ok(Decision::Grant { code, user }) => {
            let info = (form.get("client_info") == Some("1")).then(|| client_info(&user));
            redirect(
                redirect_uri,
                &[("code", Some(&code)), ("client_info", info.as_deref()), ("state", form.get("state"))],
            )
        }
        Err(error) => {
            let description = error.description();
            let answer = [
                ("error", Some(error.error)),
                ("error_description", Some(&*description)),
                ("state", form.get("state")),
            ];
            redirect(redirect_uri, &answer)
        }
    }
}

enum Decision {
    Ask,
    Grant { code: String, user: Arc<User> },
}

fn find_client(provider: &Provider, form: &Form) -> Result<(Arc<Client>, Url), EntraError> {
    let id = form.require("client_id")?;
    let client = provider.state().client(id).ok_or_else(|| unknown_client(id))?;
    let uri = form.require("redirect_uri")?;
    match Url::parse(uri) {
        Ok(url) if client.may_redirect_to(uri) => Ok((client, url)),
        _ => Err(EntraError::invalid_request(
            50_011,
            format!(
                "The redirect URI '{uri}' specified in the request does not match the redirect URIs configured for the application '{id}'."
            ),
        )),
    }
}

fn decide(provider: &Provider, segment: &str, client: &Client, form: &Form) -> Result<Decision, EntraError> {
    let tenant = TenantSegment::parse(segment)?;
    check_request(client, form)?;
    if form.get(CANCELLED).is_some() {
        return Err(EntraError::new("access_denied", 65_004, "User declined to consent to access the app."));
    }
    let Some(user) = signed_in_user(provider, &tenant, form) else {
        return match form.get("prompt") {
            Some("none") => Err(EntraError::new(
                "login_required",
                50_058,
                "A silent sign-in request was sent but no user is signed in.",
            )),
            _ => Ok(Decision::Ask),
        };
    };
    let grant = CodeGrant {
        tenant_id: tenant.of(&user)?,
        user: Arc::clone(&user),
        client_id: client.id.clone(),
        redirect_uri: form.require("redirect_uri")?.to_owned(),
        scopes: Scopes::parse(form.require("scope")?),
        nonce: form.get("nonce").map(str::to_owned),
        code_challenge: form.get("code_challenge").map(str::to_owned),
    };
    let code = provider.state().codes.issue(grant, provider.clock.unix_seconds());
    let code = code.ok_or_else(|| EntraError::new("temporarily_unavailable", 90_033, "Too many codes wait."))?;
    Ok(Decision::Grant { code, user })
}

fn check_request(client: &Client, form: &Form) -> Result<(), EntraError> {
    if form.require("response_type")? != "code" {
        return Err(EntraError::new(
            "unsupported_response_type",
            700_054,
            "Only response_type 'code' is enabled for the application.",
        ));
    }
    if form.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(EntraError::invalid_request(90_014, "Only response_mode 'query' is supported here."));
    }
    if Scopes::parse(form.require("scope")?).is_empty() {
        return Err(EntraError::missing("scope"));
    }
    match (form.get("code_challenge"), form.get("code_challenge_method")) {
        (Some(_), Some("S256")) => Ok(()),
        (Some(_), _) => Err(EntraError::invalid_request(50_149, "The code_challenge_method must be 'S256'.")),
        (None, _) if client.is_public() => Err(EntraError::missing("code_challenge")),
        (None, _) => Ok(()),
    }
}

/// The user a person chose on the page, or the one `login_hint` names when nobody has to be asked.
fn signed_in_user(provider: &Provider, tenant: &TenantSegment, form: &Form) -> Option<Arc<User>> {
    let username = form.get("login_hint")?.trim();
    let known = provider.state().user(username);
    if form.get(CHOSEN).is_some() {
        return Some(known.unwrap_or_else(|| register(provider, tenant, username)));
    }
    let must_ask = form.get("prompt").is_some_and(|prompt| prompt == "select_account");
    known.filter(|_| provider.options.auto_approve && !must_ask)
}

/// Whoever types a new name becomes a user: this is a development provider.
fn register(provider: &Provider, tenant: &TenantSegment, username: &str) -> Arc<User> {
    let tenant_id = match tenant {
        TenantSegment::One(tenant_id) => tenant_id,
        TenantSegment::Any(_) => DEFAULT_TENANT,
    };
    let name = username.split('@').next().unwrap_or(username);
    provider.state().add_user(User::new(tenant_id, username, name))
}

fn redirect(mut uri: Url, answer: &[(&str, Option<&str>)]) -> Response {
    {
        let mut query = uri.query_pairs_mut();
        for (name, value) in answer {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
    }
    (StatusCode::FOUND, [(header::LOCATION, String::from(uri)), (header::CACHE_CONTROL, "no-store".to_owned())])
        .into_response()
}
