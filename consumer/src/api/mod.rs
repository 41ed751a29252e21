//! The HTTP API: the index and its claims for workers in any language.
//!
//! ```text
//! GET    /v1/accounts               ?active_since= | idle_since= | user=   &tenant= &client= &state= &limit= &cursor=
//! GET    /v1/accounts/{cache_key}
//! DELETE /v1/accounts/{cache_key}   as a sign-out does
//! GET    /v1/counts                 ?tenant=
//! GET    /v1/due                    ?until= &tenant= &client= &limit= &cursor=
//! POST   /v1/claims                 accounts that are due become the worker's for a while, each with a fence
//! POST   /v1/claims/renew           /complete /release: with worker and fence
//! POST   /v1/claims/token           an access token for a claim that is held; off by default
//! POST   /v1/accounts/{cache_key}/schedule
//! DELETE /v1/accounts/{cache_key}/hold
//! GET    /openapi.json              what all of this takes and answers, in full
//! ```
//!
//! - A request carries a bearer token; the server knows tokens by their digests alone ([`TokenEntry`]). A token has
//!   scopes, and may be restricted to tenants: accounts of others are then not there for it.
//! - Every refusal is a problem document with a type that stays.
//! - Bodies, pages, headers, time, rate and concurrency are bounded. TLS is a proxy's.
//! - No answer, log line or metric holds a token or a blob.

mod account;
mod caller;
mod claims;
mod complete;
mod counts;
mod due;
mod extract;
mod guard;
mod hand_out;
mod health;
mod list;
mod metrics;
mod openapi;
mod problem;
mod rate;
mod schedule;
pub(crate) mod schemas;
mod scope;
mod settings;
mod tenants;
mod token;
mod token_file;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use common::backends::TokenCache;
use common::http_server;
use common::identity::{IdentityClient, SilentOptions};
use common::index::{ActivityStore, Claims};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub use openapi::document;
pub use scope::{InvalidScope, Scope};
pub use settings::ApiSettings;
pub use token::{ApiToken, NoRandomBytes, TokenDigest};
pub use token_file::{
    MOST_NAME_BYTES, MOST_TENANTS, MOST_TOKEN_FILE_BYTES, MOST_TOKENS, TokenEntry, TokenFile, TokenFileError, TokenList,
};

use metrics::Counters;
use problem::{Kind, Problem};

use crate::worker::{Elsewhere, WorkerSettings};

/// How long a shutdown waits for refreshes, after the requests.
const REFRESH_GRACE: Duration = Duration::from_secs(30);
/// The most that the body of a request may hold.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What the API works on.
#[derive(Debug, Clone)]
pub struct ApiStores {
    /// The index that is asked.
    pub index: Arc<dyn ActivityStore>,
    /// The claims on its accounts.
    pub claims: Arc<dyn Claims>,
    /// The token cache that it is about.
    pub cache: TokenCache,
    /// The app whose tokens are handed out; none are where there is none.
    pub client: Option<IdentityClient>,
}

/// The API, ready to be served. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

/// What the handlers work with.
struct Inner {
    stores: ApiStores,
    tokens: watch::Receiver<Arc<TokenList>>,
    settings: ApiSettings,
    /// What has the tokens that are handed out, where any are.
    elsewhere: Option<Arc<Elsewhere>>,
    counters: Counters,
    places: Semaphore,
    /// Refreshes that are under way: they are ended whatever becomes of the request.
    refreshes: TaskTracker,
    shutdown: CancellationToken,
}

impl Api {
    /// An API on `stores`, for those whose tokens are in the file. It is told to stop by `shutdown`.
    pub fn new(stores: ApiStores, tokens: &TokenFile, settings: ApiSettings, shutdown: CancellationToken) -> Self {
        let inner = Inner {
            elsewhere: stores.client.clone().map(|client| Arc::new(elsewhere(&stores, client, &settings))),
            stores,
            tokens: tokens.tokens(),
            counters: Counters::default(),
            places: Semaphore::new(settings.concurrency),
            settings,
            refreshes: TaskTracker::new(),
            shutdown,
        };
        Self { inner: Arc::new(inner) }
    }

    fn router(&self) -> Router {
        let (routes, _) = openapi::routes().split_for_parts();
        routes
            .fallback(async || Problem::from(Kind::NotFound))
            .method_not_allowed_fallback(async || Problem::from(Kind::WrongMethod))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(from_fn_with_state(Arc::clone(&self.inner), guard::around))
            .with_state(Arc::clone(&self.inner))
    }
}

fn elsewhere(stores: &ApiStores, client: IdentityClient, settings: &ApiSettings) -> Elsewhere {
    let silent = SilentOptions { min_remaining: settings.min_valid, ..SilentOptions::default() };
    let settings = WorkerSettings { source: settings.source.clone(), silent, ..WorkerSettings::default() };
    Elsewhere::new(Arc::clone(&stores.claims), stores.cache.clone(), client, settings)
}

/// Serves the API until it is told to stop: then it is not ready any more, takes no more connections, and ends the
/// requests under way within [`HttpBounds::shutdown_grace`](http_server::HttpBounds::shutdown_grace). The file of the
/// tokens is followed all the while.
///
/// # Cancel safety
/// A dropped call ends the listening; connections that are open live on.
pub async fn run(listener: TcpListener, api: Api, tokens: TokenFile) {
    let shutdown = &api.inner.shutdown;
    let _following = AbortOnDropHandle::new(tokio::spawn(tokens.follow(shutdown.clone())));
    http_server::serve(listener, api.router(), api.inner.settings.http, shutdown.clone()).await;
    api.inner.refreshes.close();
    if timeout(REFRESH_GRACE, api.inner.refreshes.wait()).await.is_err() {
        tracing::warn!("not every refresh was written back in time");
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}
