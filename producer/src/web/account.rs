//! The pages of a user: who is signed in, what their token cache gives, and one call to an API made with it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use common::event::{FailureReason, Recovery};
use common::identity::{AcquireError, Acquired, ClaimsChallenge, SilentRequest, TokenSource};
use jiff::Timestamp;

use super::api::{Api, ApiAnswer, ApiError};
use super::app::Inner;
use super::session::User;
use super::sign_in::{ask_for, to};
use super::{page, routes};

/// What the account page shows of the tokens.
pub(super) enum Tokens {
    /// There is a token.
    Acquired {
        expires_on: Timestamp,
        source: TokenSource,
        /// What the API answered, where there is one to ask.
        api: Option<Call>,
    },
    /// There is none before the user has signed in again.
    UserNeeded { reason: FailureReason, challenge: Option<ClaimsChallenge> },
    /// There is none now; later there may be.
    Later { reason: FailureReason, until: Option<Timestamp> },
}

/// One call to the API.
pub(super) struct Call {
    pub(super) url: String,
    pub(super) answer: Result<ApiAnswer, ApiError>,
}

/// `GET /`.
pub(super) async fn home(State(app): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    match app.session(&headers) {
        Some(_) => to(routes::ACCOUNT, None),
        None => page::home().into_response(),
    }
}

/// `GET /account`. Whoever is not signed in is asked to.
pub(super) async fn account(State(app): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    let Some((id, session)) = app.session(&headers) else {
        return ask_for(routes::ACCOUNT);
    };
    let tokens = Tokens::of(&app, &session.user).await;
    app.sessions.set_challenge(&id, tokens.challenge().cloned(), app.now());
    page::account(&session, &tokens, app.now()).into_response()
}

impl Tokens {
    async fn of(app: &Inner, user: &User) -> Self {
        let request = user.request(&app.client);
        match acquire_and_call(app, request).await {
            Ok(tokens) => tokens,
            Err(error) => Self::without(&error),
        }
    }

    fn without(error: &AcquireError) -> Self {
        let reason = error.reason();
        tracing::info!(reason = reason.as_str(), error = error as &dyn std::error::Error, "no token without the user");
        match reason.recovery() {
            Recovery::UserActivity => Self::UserNeeded { reason, challenge: error.claims().cloned() },
            Recovery::Retry => Self::Later { reason, until: error.retry_after() },
        }
    }

    /// What the next sign-in has to carry.
    fn challenge(&self) -> Option<&ClaimsChallenge> {
        match self {
            Self::UserNeeded { challenge, .. } => challenge.as_ref(),
            Self::Acquired { .. } | Self::Later { .. } => None,
        }
    }
}

/// A token and the call made with it. A token of the cache that the API refuses is renewed, once.
async fn acquire_and_call(app: &Inner, request: SilentRequest) -> Result<Tokens, AcquireError> {
    let acquired = app.acquirer.acquire_token_silent(&request).await?;
    let Some(api) = &app.api else {
        return Ok(Tokens::acquired(&acquired, None));
    };
    let answer = api.call(&acquired.token).await;
    if !is_refusal(&answer) || acquired.source == TokenSource::Refreshed {
        return Ok(Tokens::acquired(&acquired, Some(Call::of(api, answer))));
    }
    if let Some(challenge) = challenge(&answer) {
        return Ok(Tokens::UserNeeded { reason: FailureReason::InteractionRequired, challenge: Some(challenge) });
    }
    let renewed = app.acquirer.acquire_token_silent(&request.forced()).await?;
    let answer = api.call(&renewed.token).await;
    Ok(Tokens::acquired(&renewed, Some(Call::of(api, answer))))
}

fn is_refusal(answer: &Result<ApiAnswer, ApiError>) -> bool {
    answer.as_ref().is_ok_and(ApiAnswer::is_refusal)
}

fn challenge(answer: &Result<ApiAnswer, ApiError>) -> Option<ClaimsChallenge> {
    answer.as_ref().ok()?.challenge.clone()
}

impl Tokens {
    fn acquired(acquired: &Acquired, api: Option<Call>) -> Self {
        Self::Acquired { expires_on: acquired.token.expires_on(), source: acquired.source, api }
    }
}

impl Call {
    fn of(api: &Api, answer: Result<ApiAnswer, ApiError>) -> Self {
        if let Err(error) = &answer {
            tracing::info!(error = error as &dyn std::error::Error, "the API was not called");
        }
        Self { url: api.shown().to_owned(), answer }
    }
}
