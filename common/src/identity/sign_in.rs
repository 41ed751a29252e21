//! The authorization code flow: what goes to the provider with the browser, and what must come back.

use std::fmt;

use openidconnect::Nonce;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::grant_error::{ErrorAnswer, GrantError, error_code};
use super::id_token::{IdTokenError, IdentityClaims};
use super::secret::ClaimsChallenge;
use super::tokens::TokenResponse;
use crate::event::ErrorCode;

/// What an authorization request may carry besides what every one has. `Debug` leaves the user's name out.
#[derive(Clone, Default)]
pub struct AuthorizationOptions {
    /// The username to propose.
    pub login_hint: Option<String>,
    /// Whether the user is asked, and what.
    pub prompt: Option<Prompt>,
    /// What the provider wanted when it last refused a grant for this user.
    pub claims: Option<ClaimsChallenge>,
}

impl fmt::Debug for AuthorizationOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationOptions").field("prompt", &self.prompt).finish_non_exhaustive()
    }
}

/// `prompt` of an authorization request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// Sign in anew, whatever session the browser has.
    Login,
    /// Choose an account.
    SelectAccount,
    /// Consent anew.
    Consent,
    /// Ask nothing; fail where that is not possible.
    None,
}

impl Prompt {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::SelectAccount => "select_account",
            Self::Consent => "consent",
            Self::None => "none",
        }
    }
}

/// Where the browser goes, and what the server keeps meanwhile. `Debug` shows the URL without its query.
pub struct AuthorizationRequest {
    /// The URL to redirect the browser to.
    pub url: Url,
    /// For the user's session on the server, until the browser is back; it serves one sign-in.
    pub pending: PendingSignIn,
}

impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorizationRequest({}…)", &self.url[..url::Position::AfterPath])
    }
}

/// A sign-in that waits for the browser to come back. Kept in the user's session on the server: it serializes with
/// its secrets, and `Debug` shows none of them.
#[derive(Clone, Serialize, Deserialize)]
pub struct PendingSignIn {
    #[serde(serialize_with = "expose", deserialize_with = "secret")]
    pub(super) state: SecretString,
    #[serde(serialize_with = "expose", deserialize_with = "secret")]
    pub(super) nonce: SecretString,
    #[serde(serialize_with = "expose", deserialize_with = "secret")]
    pub(super) pkce_verifier: SecretString,
}

impl PendingSignIn {
    /// The `state` that the browser has to bring back, to find the sign-in by where several are pending.
    pub fn state(&self) -> &str {
        self.state.expose_secret()
    }

    pub(super) fn nonce(&self) -> Nonce {
        Nonce::new(self.nonce.expose_secret().to_owned())
    }

    /// Compares in constant time, by digests.
    pub(super) fn is_of(&self, state: &str) -> bool {
        openidconnect::CsrfToken::new(self.state().to_owned()) == openidconnect::CsrfToken::new(state.to_owned())
    }
}

impl fmt::Debug for PendingSignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingSignIn(…)")
    }
}

/// What the browser brings back: the query of the redirect URI. Descriptions are not read, since they name users.
#[derive(Clone, Default, Deserialize)]
pub struct AuthorizationResponse {
    /// The code, where the user signed in.
    #[serde(default, deserialize_with = "optional_secret")]
    pub code: Option<SecretString>,
    /// `error`, where they did not.
    #[serde(default)]
    pub error: Option<String>,
    /// The `state` of the request.
    #[serde(default)]
    pub state: Option<String>,
    /// Who answers (RFC 9207).
    #[serde(default)]
    pub iss: Option<String>,
}

impl AuthorizationResponse {
    pub(super) fn error_answer(&self) -> Option<ErrorAnswer> {
        let error = error_code(self.error.as_deref()?);
        Some(ErrorAnswer { error, ..ErrorAnswer::default() })
    }
}

impl fmt::Debug for AuthorizationResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationResponse").field("has_code", &self.code.is_some()).finish_non_exhaustive()
    }
}

/// A user who signed in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// Their tokens, for the blob.
    pub tokens: TokenResponse,
    /// Who they are.
    pub identity: IdentityClaims,
}

/// A sign-in could not be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationRequestError {
    /// The settings have no redirect URI.
    #[error("there is no redirect URI in the settings; a sign-in needs one")]
    NoRedirectUri,
    /// The redirect URI would bring the code back in the clear.
    #[error("the redirect URI must begin with https:// (http:// is for 127.0.0.1 and localhost alone)")]
    InTheClear,
    /// The provider's URLs cannot be used.
    #[error("the provider's issuer is not a URL")]
    Issuer,
}

/// A sign-in did not come to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignInError {
    /// The browser came back from another sign-in than the pending one, or was sent by somebody else.
    #[error("the sign-in that came back is not the one that was begun; begin again")]
    State,
    /// Another provider answered than was asked.
    #[error("the answer is of another issuer than was asked; begin again")]
    Issuer,
    /// The provider sent the user back without a code.
    #[error("the identity provider did not sign the user in ({})", code.as_ref().map_or("no code", ErrorCode::as_str))]
    Denied {
        /// `error`.
        code: Option<ErrorCode>,
    },
    /// The code brought no tokens.
    #[error("the code brought no tokens")]
    Grant(#[from] GrantError),
    /// The id token was refused.
    #[error("the id token was refused")]
    IdToken(#[from] IdTokenError),
    /// The signing keys could not be read.
    #[error("the identity provider's signing keys could not be read")]
    Keys(#[source] super::http::CallError),
}

impl SignInError {
    /// Whether beginning again may help with nothing changed here.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Grant(error) => error.is_transient(),
            Self::Keys(error) => error.is_transient(),
            Self::State | Self::Issuer | Self::Denied { .. } | Self::IdToken(_) => false,
        }
    }
}

fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

fn optional_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}
