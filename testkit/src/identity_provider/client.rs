//! An app registration.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::assertion::AssertionKey;

/// An app registration: public, or confidential with secrets and keys.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) id: String,
    secrets: Vec<SecretString>,
    keys: Vec<AssertionKey>,
    redirect_uris: Vec<String>,
}

impl Client {
    /// A public client: no secret, PKCE required.
    #[must_use]
    pub fn public(id: &str) -> Self {
        Self { id: id.to_lowercase(), secrets: Vec::new(), keys: Vec::new(), redirect_uris: Vec::new() }
    }

    /// A confidential client with a secret.
    #[must_use]
    pub fn confidential(id: &str, secret: &str) -> Self {
        Self::public(id).secret(secret)
    }

    /// Adds a secret.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Adds a key for `private_key_jwt` client assertions.
    #[must_use]
    pub fn key(mut self, key: AssertionKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Adds a redirect URI. Loopback ones need no registration.
    #[must_use]
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        self.redirect_uris.push(uri.to_owned());
        self
    }

    /// The client id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_public(&self) -> bool {
        self.secrets.is_empty() && self.keys.is_empty()
    }

    pub(super) fn keys(&self) -> &[AssertionKey] {
        &self.keys
    }

    pub(super) fn has_secret(&self, presented: &str) -> bool {
        self.secrets.iter().any(|secret| same(secret.expose_secret(), presented))
    }

    pub(super) fn may_redirect_to(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|registered| registered == uri) || is_loopback(uri)
    }
}

/// Compares digests, so that the time taken says nothing about the secret.
fn same(one: &str, other: &str) -> bool {
    Sha256::digest(one) == Sha256::digest(other)
}

fn is_loopback(uri: &str) -> bool {
    let Ok(uri) = Url::parse(uri) else {
        return false;
    };
    matches!(uri.scheme(), "http" | "https") && matches!(uri.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}
