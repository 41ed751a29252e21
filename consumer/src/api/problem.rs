//! What a client is told when something does not work: a problem document (RFC 9457) with a type that stays.
//!
//! ```text
//! HTTP/1.1 409 Conflict
//! content-type: application/problem+json
//!
//! {"type": "urn:tokencache:problem:stale-fence", "title": "The claim is held no longer", "status": 409}
//! ```
//!
//! `detail` says more where there is more to say: about the request, never about what is behind the API.

use std::error::Error;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use common::backend::BackendError;
use common::event::FailureReason;
use common::index::{ClaimError, InvalidCursor, ListError};
use serde::Serialize;
use utoipa::ToSchema;

use super::schemas;
use super::scope::Scope;

/// What every type begins with.
const TYPES: &str = "urn:tokencache:problem:";
/// When to come back if a store is away or the server is busy.
const SHORTLY: Duration = Duration::from_secs(1);

/// Something that a client is told.
#[derive(Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: Option<String>,
    reason: Option<FailureReason>,
    retry_after: Option<Duration>,
}

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request is not one of this API.
    Malformed,
    /// The cursor is not one that was given out for this list.
    InvalidCursor,
    /// There is no token in the request, or none that is known.
    Unauthenticated {
        /// Whether there was one.
        was_given: bool,
    },
    /// The token lacks this scope.
    MissingScope(Scope),
    /// There is no such address, or no such account that this token may know of.
    NotFound,
    /// The address is there, and not for this method.
    WrongMethod,
    /// The body did not come in time.
    SlowBody,
    /// The claim is not held under this fence.
    StaleFence,
    /// There is no token for the account before its user, or somebody else, has done something.
    NoToken,
    /// The body is too long.
    LongBody,
    /// The body is not JSON.
    WrongContentType,
    /// The token has been used too often.
    RateLimited,
    /// The headers are too many, or too long.
    LongHeaders,
    /// The server is at fault.
    Internal,
    /// There are too many requests at once.
    Busy,
    /// A store does not answer.
    StoreAway,
    /// There is no token for the account now, and later there may be.
    NoTokenNow,
    /// The answer was not ready in time.
    SlowAnswer,
}

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::InvalidCursor => StatusCode::BAD_REQUEST,
            Self::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
            Self::MissingScope(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::StaleFence | Self::NoToken => StatusCode::CONFLICT,
            Self::LongBody => StatusCode::PAYLOAD_TOO_LARGE,
            Self::WrongContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::LongHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy | Self::StoreAway | Self::NoTokenNow => StatusCode::SERVICE_UNAVAILABLE,
            Self::SlowAnswer => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The end of the type; it never changes.
    fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed-request",
            Self::InvalidCursor => "invalid-cursor",
            Self::Unauthenticated { .. } => "unauthenticated",
            Self::MissingScope(_) => "missing-scope",
            Self::NotFound => "not-found",
            Self::WrongMethod => "wrong-method",
            Self::SlowBody => "slow-body",
            Self::StaleFence => "stale-fence",
            Self::NoToken => "no-token",
            Self::LongBody => "body-too-long",
            Self::WrongContentType => "wrong-content-type",
            Self::RateLimited => "rate-limited",
            Self::LongHeaders => "headers-too-long",
            Self::Internal => "internal",
            Self::Busy => "busy",
            Self::StoreAway => "store-unavailable",
            Self::NoTokenNow => "no-token-now",
            Self::SlowAnswer => "slow-answer",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The request cannot be read",
            Self::InvalidCursor => "The cursor does not belong to this list",
            Self::Unauthenticated { .. } => "A bearer token that is known here is needed",
            Self::MissingScope(_) => "The token lacks a scope",
            Self::NotFound => "There is nothing here",
            Self::WrongMethod => "Not for this method",
            Self::SlowBody => "The body did not come in time",
            Self::StaleFence => "The claim is held no longer",
            Self::NoToken => "There is no token for this account",
            Self::LongBody => "The body is too long",
            Self::WrongContentType => "The body must be application/json",
            Self::RateLimited => "Too many requests with this token",
            Self::LongHeaders => "The headers are too many or too long",
            Self::Internal => "Something is wrong on the server",
            Self::Busy => "Too many requests at once",
            Self::StoreAway => "A store does not answer",
            Self::NoTokenNow => "There is no token for this account now",
            Self::SlowAnswer => "The answer was not ready in time",
        }
    }

    /// What `WWW-Authenticate` says.
    fn challenge(self) -> Option<String> {
        match self {
            Self::Unauthenticated { was_given: false } => Some("Bearer realm=\"tokencache\"".to_owned()),
            Self::Unauthenticated { was_given: true } => {
                Some("Bearer realm=\"tokencache\", error=\"invalid_token\"".to_owned())
            }
            Self::MissingScope(scope) => {
                Some(format!("Bearer realm=\"tokencache\", error=\"insufficient_scope\", scope=\"{scope}\""))
            }
            _ => None,
        }
    }
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        let retry_after = matches!(kind, Kind::Busy | Kind::StoreAway | Kind::SlowAnswer).then_some(SHORTLY);
        Self { kind, detail: None, reason: None, retry_after }
    }
}

impl Problem {
    /// A request that cannot be read, and why.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::from(Kind::Malformed).because(detail)
    }

    /// The same, with a sentence about this request.
    pub(super) fn because(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// The same, with when to come back.
    pub(super) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The same, with the reason there is no token.
    pub(super) fn with_reason(self, reason: FailureReason) -> Self {
        Self { reason: Some(reason), ..self }
    }
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Self {
        let cause: &(dyn Error + 'static) = &error;
        if error.is_transient() {
            tracing::warn!(error = cause, "a store does not answer");
            return Kind::StoreAway.into();
        }
        tracing::error!(error = cause, "a store has to be looked at");
        Kind::Internal.into()
    }
}

impl From<InvalidCursor> for Problem {
    fn from(error: InvalidCursor) -> Self {
        Self::from(Kind::InvalidCursor).because(error.to_string())
    }
}

impl From<ClaimError> for Problem {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Limit { .. } | ClaimError::Lease { .. } => Self::malformed(error.to_string()),
            ClaimError::Lost { .. } => Kind::StaleFence.into(),
            ClaimError::Cursor(error) => error.into(),
            ClaimError::Backend(error) => error.into(),
        }
    }
}

impl From<ListError> for Problem {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Cursor(error) => error.into(),
            ListError::Limit(_) => Self::malformed(error.to_string()),
            ListError::Backend(error) => error.into(),
        }
    }
}

/// A problem document, RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDocument {
    /// `urn:tokencache:problem:` and a name that stays the same.
    #[serde(rename = "type")]
    kind: String,
    /// What the type means.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// About this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Why there is no token, of `no-token` and `no-token-now`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::FailureReason>)]
    reason: Option<FailureReason>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { kind, detail, reason, retry_after } = self;
        let document = ProblemDocument {
            kind: format!("{TYPES}{}", kind.name()),
            title: kind.title(),
            status: kind.status().as_u16(),
            detail,
            reason,
        };
        let mut response = (kind.status(), axum::Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let challenge = kind.challenge().and_then(|text| HeaderValue::from_str(&text).ok());
        headers.extend(challenge.map(|challenge| (WWW_AUTHENTICATE, challenge)));
        headers.extend(retry_after.map(|wait| (RETRY_AFTER, whole_seconds(wait))));
        response
    }
}

/// Rounded up, and at least one: who comes back too soon is sent away again.
fn whole_seconds(wait: Duration) -> HeaderValue {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(seconds.max(1))
}
