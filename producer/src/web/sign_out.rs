//! Signing out: the token cache goes, workers are told, the session ends, and the provider signs out too.

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::HeaderMap;
use axum::http::header::ORIGIN;
use axum::response::{Html, IntoResponse as _, Response};
use serde::Deserialize;

use super::app::Inner;
use super::problem::{Kind, Problem};
use super::sign_in::to;
use super::{cookie, page, routes};

/// The form on each page of a signed-in user.
#[derive(Deserialize)]
pub(super) struct SignOut {
    #[serde(default)]
    form_token: String,
}

/// `POST /sign-out`. When the cache cannot be removed the session stays, so that it can be tried again.
pub(super) async fn sign_out(
    State(app): State<Arc<Inner>>,
    headers: HeaderMap,
    form: Result<Form<SignOut>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(|_| Kind::Malformed)?;
    let Some((id, session)) = app.session(&headers) else {
        return Ok(to(routes::SIGNED_OUT, cookie::SESSION.forget()));
    };
    if is_from_elsewhere(&app, &headers) || !session.form_token.is(&form.form_token) {
        return Err(Kind::Forged.into());
    }
    let removed = app.adapter.remove(&session.user.cache_key).await;
    removed.map_err(|error| Problem::caused_by(Kind::CacheAway, &error))?;
    app.sessions.end(&id, app.now());
    Ok(to(routes::SIGNING_OUT, cookie::SESSION.forget()))
}

/// Browsers say where a form comes from; one that says nothing is judged by the form's token alone.
fn is_from_elsewhere(app: &Inner, headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes() != app.settings.public_url.origin().as_bytes())
}

/// `GET /signing-out`: leads on to the provider, where it has a page for that. A page of its own does so and not the
/// answer to the form, since what a form leads to is confined to this app, with every redirect on the way.
pub(super) async fn signing_out(State(app): State<Arc<Inner>>) -> Response {
    let back = app.settings.public_url.post_logout_redirect_uri();
    match app.client.sign_out_url(Some(&back)) {
        Some(provider) => page::signing_out(&provider).into_response(),
        None => to(routes::SIGNED_OUT, None),
    }
}

/// `GET /signed-out`.
pub(super) async fn signed_out() -> Html<String> {
    page::signed_out()
}
