//! A development identity provider that answers as Microsoft Entra ID (v2.0) does, on a loopback port.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use testkit::identity_provider::{Client, Fault, IdentityProvider, Options, User};
//!
//! let provider = IdentityProvider::start(Options::default()).await?;
//! provider.register_client(Client::confidential("11111111-2222-4333-8444-555555555555", "secret"));
//! provider.register_user(User::new("7d1f5a2c-3b64-4c1e-9a57-0c6d2e8f1b30", "ada@contoso.com", "Ada"));
//! provider.inject(Fault::TooManyRequests { retry_after_seconds: 5 });
//! println!("{}/common/v2.0/.well-known/openid-configuration", provider.base_url());
//! # Ok(())
//! # }
//! ```
//!
//! Endpoints, under any tenant id, `common` or `organizations`: `v2.0/.well-known/openid-configuration`,
//! `oauth2/v2.0/authorize` (code, PKCE S256), `oauth2/v2.0/token` (authorization code, refresh token, client
//! credentials, on-behalf-of), `discovery/v2.0/keys`, `oauth2/v2.0/logout`, `discovery/instance`; beside them
//! `/graph/me`, a protected resource, and `/dev/…`, the same controls over HTTP that [`IdentityProvider`] has.
//!
//! Unlike with Entra, revoking a sign-in ends its access tokens at once, so that a test can see every lost token.

mod assertion;
mod authenticate;
mod authorize;
mod client;
mod clock;
mod codes;
mod counts;
mod dev;
mod discovery;
mod error;
mod families;
mod fault;
mod form;
mod grant;
mod graph;
mod issue;
mod keys;
mod options;
mod page;
mod record;
mod scope;
mod server;
mod state;
mod tenant;
mod token;
mod user;

pub use assertion::{AssertionKey, AssertionKeyError};
pub use client::Client;
pub use counts::TokenRequests;
pub use families::Rotation;
pub use fault::{Endpoint, Fault, FaultRule};
pub use keys::KeyError;
pub use options::{DEFAULT_TENANT, Options};
pub use server::{IdentityProvider, LiveToken, SignInError, StartError};
pub use user::User;
