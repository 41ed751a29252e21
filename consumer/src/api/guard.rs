//! What surrounds every request: bounds, a last resort, the headers of every answer, counts, and a line in the log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::Inner;
use super::caller::CallerName;
use super::metrics::Route;
use super::problem::{Kind, Problem};

/// The most headers of a request.
const MOST_HEADERS: usize = 64;
/// The most bytes of its address and headers. The server beneath lets in twice as much, so that this one answers.
const MOST_HEADER_BYTES: usize = common::http_server::MAX_HEADER_BYTES / 2;

pub(super) async fn around(State(api): State<Arc<Inner>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let _under_way = api.counters.begin();
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = Route::new(request.method(), path.as_deref());
    let caller = CallerName::default();
    request.extensions_mut().insert(caller.clone());
    let mut response = within_bounds(&api, request, next).await;
    add_headers(response.headers_mut());
    let (status, took) = (response.status(), began.elapsed());
    api.counters.ended(&route, status, took);
    tracing::info!(
        method = route.method,
        route = route.path,
        status = status.as_u16(),
        caller = caller.get(),
        ?took,
        "answered"
    );
    response
}

async fn within_bounds(api: &Inner, request: Request, next: Next) -> Response {
    if is_flooded(&request) {
        return Problem::from(Kind::LongHeaders).into_response();
    }
    let Ok(_place) = api.places.try_acquire() else {
        return Problem::from(Kind::Busy).into_response();
    };
    // A handler shares nothing that a panic could leave half done.
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    match timeout(api.settings.request_time, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!("a handler panicked");
            Problem::from(Kind::Internal).into_response()
        }
        Err(_) => Problem::from(Kind::SlowAnswer).into_response(),
    }
}

fn is_flooded(request: &Request) -> bool {
    let address = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    headers.len() > MOST_HEADERS || address + bytes > MOST_HEADER_BYTES
}

/// An answer is for who asked, and is no page.
fn add_headers(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
}
