//! `POST /{tenant}/oauth2/v2.0/token`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::authenticate::authenticate;
use super::counts;
use super::error::EntraError;
use super::fault::{End, Endpoint, Target};
use super::form::Form;
use super::grant::{peek, redeem};
use super::issue::answer;
use super::state::Provider;
use super::tenant::TenantSegment;

pub(super) async fn token(
    State(provider): State<Arc<Provider>>,
    Path(segment): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::parse(&body);
    provider.state().record.note_presented(&form);
    let subject = peek(&provider, &form);
    let tenant_id = subject.as_ref().map_or(segment.as_str(), |(_, tenant_id)| tenant_id).to_lowercase();
    let username = subject.as_ref().map(|(user, _)| user.username());
    let _under_way = UnderWay::begin(&provider);
    let outcome = serve(&provider, &segment, &headers, &form, &tenant_id, username).await;
    let grant_type = form.get("grant_type").unwrap_or("none");
    provider.state().requests.entry(tenant_id).or_default().count(grant_type, outcome.name());
    outcome.into_response(&provider, &headers)
}

/// A request that is not answered yet; also where the client goes away.
struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn begin(provider: &'a Provider) -> Self {
        provider.under_way.fetch_add(1, Ordering::SeqCst);
        Self(&provider.under_way)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

enum Outcome {
    Tokens(Value),
    Refused(EntraError),
    Dropped,
    AnswerLost,
}

async fn serve(
    provider: &Provider,
    segment: &str,
    headers: &HeaderMap,
    form: &Form,
    tenant_id: &str,
    username: Option<&str>,
) -> Outcome {
    let effects = provider.strike(Target { endpoint: Endpoint::Token, tenant_id, username });
    tokio::time::sleep(effects.delay).await;
    match effects.end {
        Some(End::Refuse(error)) => Outcome::Refused(error),
        Some(End::Drop) => Outcome::Dropped,
        Some(End::LoseAnswer) => match grant_tokens(provider, segment, headers, form) {
            Ok(_) => Outcome::AnswerLost,
            Err(error) => Outcome::Refused(error),
        },
        None => match grant_tokens(provider, segment, headers, form) {
            Ok(tokens) => Outcome::Tokens(tokens),
            Err(error) => Outcome::Refused(error),
        },
    }
}

fn grant_tokens(provider: &Provider, segment: &str, headers: &HeaderMap, form: &Form) -> Result<Value, EntraError> {
    let tenant = TenantSegment::parse(segment)?;
    let client = authenticate(provider, tenant.as_str(), headers, form)?;
    let grant = redeem(provider, &tenant, client, form)?;
    let wants_client_info = form.get("client_info") == Some("1");
    answer(provider, &grant, wants_client_info).map_err(|error| EntraError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        ..EntraError::new("server_error", 90_033, error.to_string())
    })
}

impl Outcome {
    fn name(&self) -> &'static str {
        match self {
            Self::Tokens(_) => counts::OK,
            Self::Refused(error) => error.error,
            Self::Dropped => "dropped",
            Self::AnswerLost => "answer_lost",
        }
    }

    fn into_response(self, provider: &Provider, headers: &HeaderMap) -> Response {
        match self {
            Self::Tokens(tokens) => {
                let no_store = [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")];
                (no_store, Json(tokens)).into_response()
            }
            Self::Refused(error) => error.to_response(provider.clock.now(), &correlation_id(headers)),
            Self::Dropped | Self::AnswerLost => dropped(),
        }
    }
}

/// The client's own request id, or a new one.
fn correlation_id(headers: &HeaderMap) -> String {
    let own = headers.get("client-request-id").and_then(|value| value.to_str().ok());
    own.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// An answer whose body fails before its first byte, at which the server closes the connection without a word.
pub(super) fn dropped() -> Response {
    let failure = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "dropped on purpose");
    Response::new(Body::from_stream(futures_util::stream::iter([Err::<Bytes, _>(failure)])))
}
