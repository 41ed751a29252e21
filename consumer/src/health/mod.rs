//! What an orchestrator and a metrics collector ask a program: `/livez`, `/readyz`, `/metrics`.

mod metrics;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use common::http_server::{self, HttpBounds};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use metrics::{Kind, Metrics};

/// The media type of the text format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A program that says how it is.
pub trait Health: Send + Sync + 'static {
    /// Whether it does its work; within a time of its own, whatever does not answer.
    fn readiness(&self) -> impl Future<Output = Readiness> + Send;

    /// Writes down what it counts. No label is a secret or names a user.
    fn metrics(&self, metrics: &mut Metrics);
}

/// Whether a program does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does, in a word.
    Ready(&'static str),
    /// It does not; a reason each line.
    Not(String),
}

impl IntoResponse for Readiness {
    fn into_response(self) -> Response {
        match self {
            Self::Ready(word) => format!("{word}\n").into_response(),
            Self::Not(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response(),
        }
    }
}

/// Answers until `shutdown`.
///
/// # Cancel safety
/// A dropped call ends the listening.
pub async fn serve<H: Health>(listener: TcpListener, program: Arc<H>, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz::<H>))
        .route("/metrics", get(metrics::<H>))
        .with_state(program);
    http_server::serve(listener, router, HttpBounds::default(), shutdown).await;
}

/// 200 while it does its work; else 503 and a line for each reason.
async fn readyz<H: Health>(State(program): State<Arc<H>>) -> Readiness {
    program.readiness().await
}

async fn metrics<H: Health>(State(program): State<Arc<H>>) -> Response {
    let mut metrics = Metrics::default();
    program.metrics(&mut metrics);
    ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics.into_text()).into_response()
}
