//! Serving HTTP within bounds: connections, the time a request's headers may take, and the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long to wait when no connection can be taken: the process is out of file descriptors, for one.
const PAUSE: Duration = Duration::from_millis(100);
/// The most that a request's line and headers may hold; what is longer is answered 431 without a body.
pub const MAX_HEADER_BYTES: usize = 32 * 1024;

/// What a server takes upon itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpBounds {
    /// How long a client may take to send a request's headers.
    pub header_time: Duration,
    /// The most connections at once; the next ones wait.
    pub connections: usize,
    /// How long a shutdown waits for what is under way.
    pub shutdown_grace: Duration,
}

impl Default for HttpBounds {
    /// 10 seconds for the headers, 1,024 connections, 10 seconds to end.
    fn default() -> Self {
        Self { header_time: Duration::from_secs(10), connections: 1_024, shutdown_grace: Duration::from_secs(10) }
    }
}

/// Serves until `shutdown`; then takes no more connections and ends those it has after the request under way.
///
/// # Cancel safety
/// A dropped call ends the listening; connections that are open live on.
pub async fn serve(listener: TcpListener, router: Router, bounds: HttpBounds, shutdown: CancellationToken) {
    let open = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(bounds.connections));
    loop {
        let next = tokio::select! {
            () = shutdown.cancelled() => break,
            next = accept(&listener, &places) => next,
        };
        match next {
            Ok((stream, place)) => spawn(stream, place, router.clone(), bounds.header_time, &open),
            Err(error) => {
                tracing::warn!(%error, "a connection was not taken");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    if timeout(bounds.shutdown_grace, open.shutdown()).await.is_err() {
        tracing::warn!("not every request ended within the grace period");
    }
}

/// The next connection, when there is a place for it; until then it waits with the kernel.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

fn spawn(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    router: Router,
    header_time: Duration,
    open: &GracefulShutdown,
) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let connection = open.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(place);
    });
}
