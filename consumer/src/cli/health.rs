//! The listener for `/livez`, `/readyz` and `/metrics`, beside what a command does.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use consumer::health::{self, Health};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Answers until `shutdown`, or until the handle is dropped.
pub(super) async fn listen<H: Health>(
    address: SocketAddr,
    program: Arc<H>,
    shutdown: CancellationToken,
) -> anyhow::Result<AbortOnDropHandle<()>> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "answering /livez, /readyz and /metrics");
    Ok(AbortOnDropHandle::new(tokio::spawn(health::serve(listener, program, shutdown))))
}
