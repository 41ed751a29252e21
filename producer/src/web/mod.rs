//! The reference web app: signs users in, keeps their tokens through the adapter, and acts for them.
//!
//! ```text
//! GET  /            what this is, with a button to sign in
//! GET  /sign-in     to the provider: code flow with PKCE, state, nonce        ?return_to=/path
//! GET  /signed-in   back from it: tokens into the cache, a session under a new id
//! GET  /account     the user, their token cache, and one call to an API made with a silently acquired token
//! POST /sign-out    the cache is removed (workers are told), the session ends
//! GET  /signing-out on to the provider, which signs out too
//! GET  /signed-out  the end
//! GET  /livez       ok
//! ```
//!
//! - A session is a random id in a cookie, and the rest on the server, in this process. It is no store of tokens:
//!   these are in the token cache, where workers find them when the user is away.
//! - A sign-in under way is bound to its browser by a second cookie, serves once and ends after ten minutes.
//! - Nothing on a page, in an error or in the log is a token, a code or what a provider said in words.

mod account;
mod api;
mod app;
mod cookie;
mod expiring;
mod headers;
mod page;
mod pending;
mod problem;
mod return_to;
mod routes;
mod session;
mod settings;
mod sign_in;
mod sign_out;
mod token;

use common::http_server;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use api::ApiSetupError;
pub use app::WebApp;
pub use expiring::Bounds;
pub use settings::{InvalidPublicUrl, PublicUrl, WebSettings};

/// Serves the app until `shutdown`: then it takes no more connections, ends the requests under way within
/// [`HttpBounds::shutdown_grace`], and waits for the refreshes that are being written back.
///
/// [`HttpBounds::shutdown_grace`]: common::http_server::HttpBounds::shutdown_grace
///
/// # Cancel safety
/// A dropped call ends the listening; connections that are open live on.
pub async fn run(listener: TcpListener, app: WebApp, shutdown: CancellationToken) {
    http_server::serve(listener, app.router(), app.inner.settings.http, shutdown).await;
    app.inner.acquirer.drain().await;
}
