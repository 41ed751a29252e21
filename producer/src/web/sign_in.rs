//! Signing in: to the provider with the browser, and back.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use common::identity::{AuthorizationOptions, AuthorizationResponse, SignedIn};
use common::token_cache::Expiry;
use serde::Deserialize;

use super::app::Inner;
use super::pending::Begun;
use super::problem::{Kind, Problem};
use super::return_to::ReturnTo;
use super::session::{Session, User};
use super::token::RandomToken;
use super::{cookie, routes};

/// What a sign-in is begun with.
#[derive(Deserialize)]
pub(super) struct Begin {
    #[serde(default)]
    return_to: String,
}

/// `GET /sign-in`: sends the browser to the provider.
pub(super) async fn begin(
    State(app): State<Arc<Inner>>,
    headers: HeaderMap,
    query: Result<Query<Begin>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(asked) = query.map_err(|_| Kind::Malformed)?;
    let return_to = ReturnTo::parse(&asked.return_to);
    if is_by_another_name(&app, &headers) {
        return Ok(to(app.settings.public_url.sign_in(return_to.as_str()).as_str(), None));
    }
    let session = app.session(&headers).map(|(_, session)| session);
    let request = app
        .client
        .authorization_request(&options(session.as_ref()))
        .map_err(|error| Problem::caused_by(Kind::Refused, &error))?;
    let cookie = cookie::browser(app.settings.sign_ins.life);
    // One id serves several tabs: each sign-in has a state of its own beside it.
    let browser = cookie.of(&headers).unwrap_or_else(RandomToken::fresh);
    let begun = Begun { pending: request.pending, return_to };
    app.pending.keep(&browser, begun, app.now());
    Ok(to(request.url.as_str(), cookie.set(&browser)))
}

/// On the developer's machine: `127.0.0.1` was typed, and the provider sends browsers back to `localhost`, where the
/// cookie of the other name is not known.
fn is_by_another_name(app: &Inner, headers: &HeaderMap) -> bool {
    let url = &app.settings.public_url;
    !url.is_https() && headers.get(HOST).is_some_and(|host| host.as_bytes() != url.host().as_bytes())
}

/// Who is signed in already is proposed again, with what the provider last wanted of them.
fn options(session: Option<&Session>) -> AuthorizationOptions {
    AuthorizationOptions {
        login_hint: session.and_then(|session| session.user.username.clone()),
        claims: session.and_then(|session| session.challenge.clone()),
        prompt: None,
    }
}

/// `GET /signed-in`: takes the browser back, keeps the user's tokens, and begins a session under a new id.
pub(super) async fn finish(
    State(app): State<Arc<Inner>>,
    headers: HeaderMap,
    query: Result<Query<AuthorizationResponse>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(response) = query.map_err(|_| Kind::Malformed)?;
    let begun = begun(&app, &headers, &response).ok_or(Kind::NotBegunHere)?;
    let signed_in = app.client.redeem(&response, &begun.pending).await?;
    let user = keep(&app, &signed_in).await?;
    if let Some(old) = cookie::SESSION.of(&headers) {
        app.sessions.end(&old, app.now());
    }
    let id = app.sessions.begin(user, app.now());
    Ok(to(begun.return_to.as_str(), cookie::SESSION.set(&id)))
}

fn begun(app: &Inner, headers: &HeaderMap, response: &AuthorizationResponse) -> Option<Begun> {
    let browser = cookie::browser(app.settings.sign_ins.life).of(headers)?;
    app.pending.take(&browser, response.state.as_deref()?, app.now())
}

/// Writes the tokens into the user's cache, by the adapter: blob and event are one write.
async fn keep(app: &Inner, signed_in: &SignedIn) -> Result<User, Problem> {
    let user = User::of(signed_in).ok_or(Kind::Refused)?;
    let saved = app.adapter.save(&user.cache_key, &signed_in.tokens, Expiry::default()).await;
    saved.map_err(|error| Problem::caused_by(Kind::CacheAway, &error))?;
    Ok(user)
}

/// Asks for a sign-in that comes back to `path`.
pub(super) fn ask_for(path: &'static str) -> Response {
    let address = format!("{}?return_to={path}", routes::SIGN_IN);
    to(&address, None)
}

/// Sends the browser on, by a GET in any case.
pub(super) fn to(address: &str, cookie: Option<HeaderValue>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(address).ok().map(|address| (LOCATION, address)));
    headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    response
}
