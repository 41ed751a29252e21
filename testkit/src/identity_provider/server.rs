//! The running provider and its controls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;

use super::client::Client;
use super::counts::TokenRequests;
use super::fault::FaultRule;
use super::grant::{Grant, Subject};
use super::issue::answer;
use super::keys::{KeyError, SigningKey};
use super::options::Options;
use super::scope::Scopes;
use super::state::Provider;
use super::tenant::TenantSegment;
use super::user::User;
use super::{authorize, dev, discovery, graph, token};

/// A running identity provider. It lives on the runtime that started it, and stops when dropped.
pub struct IdentityProvider {
    provider: Arc<Provider>,
}

/// Why the provider does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("the identity provider cannot listen on {address}: choose another port")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No signing key.
    #[error("the identity provider has no signing key")]
    Key(#[from] KeyError),
    /// The thread that makes the key ended early.
    #[error("the making of the signing key was cut short")]
    Cut(#[from] tokio::task::JoinError),
}

/// Why a user cannot be signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Not registered.
    #[error("no such user: register them first")]
    User,
    /// Not registered.
    #[error("no such client: register it first")]
    Client,
    /// Unknown, or the user is neither a member nor a guest.
    #[error("the user is not in that tenant: make them a guest of it")]
    Tenant,
    /// A token could not be signed.
    #[error("no token could be issued")]
    Key(#[from] KeyError),
}

/// Whom a live access token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveToken {
    /// The user's name; none for an app's own token.
    pub username: Option<String>,
    /// The user's object id in the tenant signed in to, or the client id.
    pub object_id: String,
    /// The tenant signed in to.
    pub tenant_id: String,
    /// The client it was issued to.
    pub client_id: String,
    /// The permissions, space-joined.
    pub permissions: String,
    /// When it expires, in Unix seconds.
    pub expires_at: u64,
}

impl IdentityProvider {
    /// Starts the provider; ready when this returns.
    ///
    /// # Errors
    /// When the address is taken, or no key can be made.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let address = options.listen;
        let fail = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let base_url = format!("http://{}", listener.local_addr().map_err(fail)?);
        let key = tokio::task::spawn_blocking(SigningKey::of_this_process).await??;
        let provider = Arc::new(Provider::new(options, base_url, key));
        let stop = provider.stopped.clone().cancelled_owned();
        let serving = axum::serve(listener, routes(Arc::clone(&provider))).with_graceful_shutdown(stop);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the identity provider ended");
            }
        });
        Ok(Self { provider })
    }

    /// `http://127.0.0.1:{port}`, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.provider.base_url
    }

    /// `{base_url}/{tenant}`, for a tenant id or `common`.
    #[must_use]
    pub fn authority(&self, tenant: &str) -> String {
        format!("{}/{tenant}", self.provider.base_url)
    }

    /// The issuer of a tenant's tokens: `{base_url}/{tenant_id}/v2.0`.
    #[must_use]
    pub fn issuer(&self, tenant_id: &str) -> String {
        self.provider.issuer(tenant_id)
    }

    /// Adds or replaces a user; usernames are compared without case.
    pub fn register_user(&self, user: User) {
        self.provider.state().add_user(user);
    }

    /// Signs a user in without the code flow: the JSON that the token endpoint answers, with `client_info`.
    ///
    /// `tenant` is a tenant id or `common`; `scopes` are space-joined.
    ///
    /// # Errors
    /// When the user or the client is unknown, or the user is not in the tenant.
    pub fn sign_in(&self, client_id: &str, tenant: &str, username: &str, scopes: &str) -> Result<Value, SignInError> {
        let (user, client) = {
            let state = self.provider.state();
            (state.user(username).ok_or(SignInError::User)?, state.client(client_id).ok_or(SignInError::Client)?)
        };
        let tenant_id = TenantSegment::parse(tenant).and_then(|tenant| tenant.of(&user));
        let tenant_id = tenant_id.map_err(|_| SignInError::Tenant)?;
        let family = self.provider.state().families.begin(Arc::clone(&user), &tenant_id, &client.id);
        let scopes = Scopes::parse(scopes);
        let refreshable = scopes.has("offline_access");
        let subject = Subject::User { user, family, nonce: None, refreshable };
        Ok(answer(&self.provider, &Grant { client, tenant_id, scopes, subject }, true)?)
    }

    /// The refresh token of a sign-in whose other tokens nobody needs: nothing is signed, so a hundred thousand are had
    /// in a second.
    ///
    /// # Errors
    /// As [`sign_in`](Self::sign_in).
    pub fn refresh_token(&self, client_id: &str, username: &str) -> Result<String, SignInError> {
        let mut state = self.provider.state();
        let user = state.user(username).ok_or(SignInError::User)?;
        let client = state.client(client_id).ok_or(SignInError::Client)?;
        let tenant_id = user.tenant_id.clone();
        let family = state.families.begin(user, &tenant_id, &client.id);
        let expires_at = self.provider.clock.now() + self.provider.options.refresh_token_lifetime;
        state.families.issue(family, expires_at.as_secs()).ok_or(SignInError::User)
    }

    /// Adds or replaces many users.
    pub fn register_users(&self, users: impl IntoIterator<Item = User>) {
        let mut state = self.provider.state();
        for user in users {
            state.add_user(user);
        }
    }

    /// Adds or replaces a client.
    pub fn register_client(&self, client: Client) {
        self.provider.state().clients.insert(client.id.clone(), Arc::new(client));
    }

    /// The provider's time since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.provider.clock.now()
    }

    /// Moves the provider's clock ahead, so that tokens expire.
    pub fn advance(&self, by: Duration) {
        self.provider.clock.advance(by);
    }

    /// Adds a fault: a [`Fault`](super::Fault) for every token request, or a [`FaultRule`].
    pub fn inject(&self, rule: impl Into<FaultRule>) {
        self.provider.state().faults.add(rule.into());
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.provider.state().faults.clear();
    }

    /// Ends all sign-ins of a user; how many there were. The next refresh is refused with `bad_token`.
    pub fn revoke(&self, username: &str) -> usize {
        self.provider.state().families.revoke_user(username)
    }

    /// How many sign-ins were revoked, by [`revoke`](Self::revoke) or by reuse under strict rotation.
    #[must_use]
    pub fn families_revoked(&self) -> u64 {
        self.provider.state().families.revoked()
    }

    /// Whom an access token is for, if it is valid now: issued here, not expired, not revoked.
    #[must_use]
    pub fn validate(&self, access_token: &str) -> Option<LiveToken> {
        self.provider.live_claims(access_token).map(|claims| LiveToken::from_claims(&claims))
    }

    /// Every secret that was issued or presented since the start, under
    /// [`Options::records_secrets`]: tokens, codes, verifiers, client secrets, assertions.
    #[must_use]
    pub fn secrets_seen(&self) -> Vec<String> {
        self.provider.state().record.secrets().cloned().collect()
    }

    /// The token requests of one tenant; those that name no known user count for the tenant in the path.
    #[must_use]
    pub fn token_requests(&self, tenant_id: &str) -> TokenRequests {
        self.provider.state().requests.get(&tenant_id.to_lowercase()).cloned().unwrap_or_default()
    }

    /// Token requests that have come and are not answered yet.
    #[must_use]
    pub fn token_requests_under_way(&self) -> u64 {
        self.provider.under_way.load(Ordering::SeqCst)
    }

    /// The token requests of all tenants.
    #[must_use]
    pub fn all_token_requests(&self) -> TokenRequests {
        let mut sum = TokenRequests::default();
        for requests in self.provider.state().requests.values() {
            sum.add(requests);
        }
        sum
    }

    /// Signs from now on with a new key; tokens of the old ones stay valid.
    ///
    /// # Errors
    /// When no key can be made.
    pub async fn rotate_signing_key(&self) -> Result<(), StartError> {
        let key = tokio::task::spawn_blocking(SigningKey::generate).await??;
        self.provider.add_key(key);
        Ok(())
    }
}

impl std::fmt::Debug for IdentityProvider {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("IdentityProvider").field("base_url", &self.provider.base_url).finish_non_exhaustive()
    }
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        self.provider.stopped.cancel();
    }
}

impl LiveToken {
    fn from_claims(claims: &Value) -> Self {
        let text = |name: &str| claims[name].as_str().map(str::to_owned);
        Self {
            username: text("preferred_username"),
            object_id: text("oid").unwrap_or_default(),
            tenant_id: text("tid").unwrap_or_default(),
            client_id: text("azp").unwrap_or_default(),
            permissions: text("scp").unwrap_or_default(),
            expires_at: claims["exp"].as_u64().unwrap_or_default(),
        }
    }
}

fn routes(provider: Arc<Provider>) -> Router {
    Router::new()
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(discovery::configuration))
        .route("/{tenant}/oauth2/v2.0/authorize", get(authorize::authorize))
        .route("/{tenant}/oauth2/v2.0/token", axum::routing::post(token::token))
        .route("/{tenant}/oauth2/v2.0/logout", get(discovery::logout))
        .route("/{tenant}/discovery/v2.0/keys", get(discovery::keys))
        .route("/{tenant}/discovery/instance", get(discovery::instance))
        .route("/graph/me", get(graph::me))
        .merge(dev::routes())
        .layer(from_fn_with_state(Arc::clone(&provider), unless_stopped))
        .with_state(provider)
}

/// Connections outlive the listener; a stopped provider answers on none of them.
async fn unless_stopped(State(provider): State<Arc<Provider>>, request: Request, next: Next) -> Response {
    match provider.stopped.is_cancelled() {
        true => token::dropped(),
        false => next.run(request).await,
    }
}
