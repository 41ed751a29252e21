//! What must never be printed: access tokens and claims challenges.

use std::fmt;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

/// An access token. It cannot be printed: there is no `Display`, `Debug` shows its expiry alone, and it is wiped
/// from memory when dropped.
#[derive(Clone)]
pub struct AccessToken {
    secret: SecretString,
    expires_on: Timestamp,
}

impl AccessToken {
    /// Keeps a token that is valid until `expires_on`.
    pub fn new(secret: SecretString, expires_on: Timestamp) -> Self {
        Self { secret, expires_on }
    }

    /// The token itself, for the `Authorization: Bearer …` header of one request.
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// When it expires.
    pub fn expires_on(&self) -> Timestamp {
        self.expires_on
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("expires_on", &self.expires_on).finish_non_exhaustive()
    }
}

/// The `claims` of an answer that wants the user back: passed on to the next authorization request as they are, and
/// never printed.
#[derive(Clone)]
pub struct ClaimsChallenge(SecretString);

impl ClaimsChallenge {
    /// Keeps a challenge.
    pub fn new(json: impl Into<String>) -> Self {
        Self(json.into().into())
    }

    /// The JSON, for the `claims` parameter of an authorization request.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for ClaimsChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimsChallenge(…)")
    }
}
