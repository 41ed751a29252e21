//! The identity provider's client: signs users in, renews their tokens, and gets tokens for a user who is away.
//!
//! [`IdentityClient`] is a confidential OAuth 2.0 and OpenID Connect client, of Microsoft Entra ID and of any other
//! provider. It gives [`TokenResponse`]s, which a blob keeps, and [`GrantError`]s, which say what has to happen.
//! No token, secret, claims challenge or provider's description is ever in an error, a log line or a `Debug` text.

mod certificate;
mod client;
mod clock;
mod discovery;
mod grant;
mod grant_error;
mod http;
mod id_token;
mod keys;
mod scopes;
mod secret;
mod settings;
mod sign_in;
mod silent;
mod throttle;
mod tokens;

pub use certificate::{AssertionAlgorithm, CertificateError, ClientCertificate};
pub use client::{IdentityClient, OnBehalfOfSession};
pub use clock::Clock;
pub use discovery::DiscoveryError;
pub use grant_error::{ErrorAnswer, GrantError, UnusableAnswer};
pub use http::{CallError, HttpSetupError};
pub use id_token::{IdTokenError, IdentityClaims};
pub use scopes::{InvalidScopes, Scopes};
pub use secret::{AccessToken, ClaimsChallenge};
pub use settings::{
    Authority, Credential, HttpSettings, InvalidAuthority, InvalidTenant, ProviderKind, ProviderSettings, Tenant,
    is_protected,
};
pub use sign_in::{
    AuthorizationOptions, AuthorizationRequest, AuthorizationRequestError, AuthorizationResponse, PendingSignIn,
    Prompt, SignInError, SignedIn,
};
pub use silent::{
    AcquireError, Acquired, CacheWriter, Denied, SilentOptions, SilentRequest, TokenAcquirer, TokenSource,
};
pub use tokens::{TokenResponse, assertion_cache_key};
