//! The web app: what its pages work with, and which address is which page.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use common::identity::{HttpSettings, IdentityClient, TokenAcquirer};
use common::token_cache::RefreshLock;
use jiff::Timestamp;
use tokio::time::timeout;

use super::api::{Api, ApiSetupError};
use super::headers::{self, SecurityHeaders};
use super::pending::PendingSignIns;
use super::problem::{Kind, Problem};
use super::session::{Session, Sessions};
use super::settings::WebSettings;
use super::token::RandomToken;
use super::{account, cookie, page, routes, sign_in, sign_out};
use crate::adapter::TokenCacheAdapter;

/// The most that the body of a request may hold: a form with one token.
const MAX_BODY_BYTES: usize = 4 * 1024;

/// The web app, ready to be served. Cheap to clone; clones share their sessions.
#[derive(Clone)]
pub struct WebApp {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) settings: WebSettings,
    pub(super) client: IdentityClient,
    pub(super) adapter: TokenCacheAdapter,
    pub(super) acquirer: TokenAcquirer,
    pub(super) api: Option<Api>,
    pub(super) sessions: Sessions,
    pub(super) pending: PendingSignIns,
}

impl WebApp {
    /// An app whose users sign in by `client`, which has been told [`PublicUrl::redirect_uri`], and whose tokens are
    /// kept by `adapter`. Several apps and workers of one cache give the same `lock`. `http` are the bounds and the
    /// CA of the call to the API.
    ///
    /// [`PublicUrl::redirect_uri`]: super::PublicUrl::redirect_uri
    ///
    /// # Errors
    /// [`ApiSetupError`].
    pub fn new(
        client: IdentityClient,
        adapter: TokenCacheAdapter,
        lock: Arc<dyn RefreshLock>,
        http: &HttpSettings,
        settings: WebSettings,
    ) -> Result<Self, ApiSetupError> {
        let api_url = settings.api_url.clone().or_else(|| client.userinfo_endpoint().cloned());
        let acquirer = TokenAcquirer::new(client.clone(), adapter.store(), Arc::new(adapter.clone()), Some(lock));
        let inner = Inner {
            api: api_url.map(|url| Api::new(url, http)).transpose()?,
            sessions: Sessions::new(settings.sessions),
            pending: PendingSignIns::new(settings.sign_ins),
            client,
            adapter,
            acquirer,
            settings,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How many browsers are signed in, those included whose session has ended and not been looked at since.
    pub fn sessions(&self) -> usize {
        self.inner.sessions.len()
    }

    /// How many sign-ins are under way, those included that nobody came back from.
    pub fn sign_ins(&self) -> usize {
        self.inner.pending.len()
    }

    pub(super) fn router(&self) -> Router {
        let app = &self.inner;
        let headers = SecurityHeaders::new(app.settings.public_url.is_https());
        Router::new()
            .route(routes::HOME, get(account::home))
            .route(routes::ACCOUNT, get(account::account))
            .route(routes::SIGN_IN, get(sign_in::begin))
            .route(routes::SIGNED_IN, get(sign_in::finish))
            .route(routes::SIGN_OUT, post(sign_out::sign_out))
            .route(routes::SIGNING_OUT, get(sign_out::signing_out))
            .route(routes::SIGNED_OUT, get(sign_out::signed_out))
            .route(routes::STYLE, get(style))
            .route(routes::ICON, get(icon))
            .route(routes::LIVEZ, get(|| async { "ok\n" }))
            .fallback(|| async { Problem::from(Kind::NotFound) })
            .method_not_allowed_fallback(|| async { Problem::from(Kind::WrongMethod) })
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(from_fn_with_state(Arc::clone(app), within_time))
            .layer(from_fn_with_state(headers, headers::add))
            .with_state(Arc::clone(app))
    }
}

impl Inner {
    pub(super) fn now(&self) -> Timestamp {
        self.client.clock().now()
    }

    /// Who is signed in, in the browser that sent these headers.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<(RandomToken, Session)> {
        let id = cookie::SESSION.of(headers)?;
        let session = self.sessions.find(&id, self.now())?;
        Some((id, session))
    }
}

async fn within_time(State(app): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    match timeout(app.settings.request_time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::from(Kind::TooSlow).into_response(),
    }
}

const ONE_HOUR: (header::HeaderName, &str) = (header::CACHE_CONTROL, "max-age=3600");

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), ONE_HOUR], page::STYLE).into_response()
}

async fn icon() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml"), ONE_HOUR], page::ICON).into_response()
}

impl fmt::Debug for WebApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebApp").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}
