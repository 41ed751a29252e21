//! The parts of a request, each refused by a problem document where it cannot be read.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use common::account::CacheKey;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::{Kind, Problem};

/// How long the body of a request may take to come.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The account that a path names.
pub(super) struct OfAccount(pub(super) CacheKey);

impl<S: Send + Sync> FromRequestParts<S> for OfAccount {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::malformed("the cache key in the path is not UTF-8"))?;
        let key = CacheKey::new(text);
        key.map(Self).map_err(|error| Problem::malformed(format!("the cache key in the path {error}")))
    }
}

/// The parameters of the query.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(asked)| Self(asked)).map_err(|error| Problem::malformed(error.body_text()))
    }
}

/// The body, JSON.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match timeout(BODY_TIME, Json::from_request(request, state)).await {
            Ok(Ok(Json(body))) => Ok(Self(body)),
            Ok(Err(rejection)) => Err(refused(&rejection)),
            Err(_) => Err(Kind::SlowBody.into()),
        }
    }
}

fn refused(rejection: &JsonRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Kind::LongBody.into(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Kind::WrongContentType.into(),
        _ => Problem::malformed(rejection.body_text()),
    }
}
