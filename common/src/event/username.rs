//! How much of a username leaves the web side: all of it, a keyed hash, or nothing.

use std::fmt;

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

use crate::account::Username;

/// What is written of usernames in events, and so in the log and the index.
#[derive(Debug, Clone)]
pub enum UsernamePolicy {
    /// The username as the blob holds it.
    Plain,
    /// `hmac-sha256:` and 64 hexadecimal digits: HMAC-SHA-256 of the lower-cased username.
    Hashed(UsernameKey),
    /// No username at all.
    Omitted,
}

/// The key of the username hash, the same for every app and every worker of a deployment.
#[derive(Clone)]
pub struct UsernameKey(SecretSlice<u8>);

/// A username key is shorter than [`UsernameKey::MIN_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the username key is {0} bytes long; give at least {min} random bytes", min = UsernameKey::MIN_BYTES)]
pub struct KeyTooShort(usize);

impl UsernameKey {
    /// The shortest key: what keeps a list of all likely usernames from being hashed and compared.
    pub const MIN_BYTES: usize = 16;

    /// Keeps `key`.
    ///
    /// # Errors
    /// [`KeyTooShort`] under [`Self::MIN_BYTES`].
    pub fn new(key: Vec<u8>) -> Result<Self, KeyTooShort> {
        if key.len() < Self::MIN_BYTES {
            return Err(KeyTooShort(key.len()));
        }
        Ok(Self(key.into()))
    }

    fn hash(&self, username: &str) -> String {
        // HMAC takes a key of any length, so there is no error to pass on.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose_secret()) else {
            return String::new();
        };
        mac.update(username.as_bytes());
        let digest = mac.finalize().into_bytes();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("hmac-sha256:{hex}")
    }
}

impl fmt::Debug for UsernameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UsernameKey(…)")
    }
}

impl UsernamePolicy {
    /// What an event says of `username`; also what to look for in the index when asked for it.
    pub fn apply(&self, username: &Username) -> Option<Username> {
        match self {
            Self::Plain => Some(username.clone()),
            Self::Hashed(key) => Username::new(key.hash(&username.lower_cased())).ok(),
            Self::Omitted => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn policy() -> UsernamePolicy {
        UsernamePolicy::Hashed(UsernameKey::new(b"0123456789abcdef".to_vec()).unwrap())
    }

    #[test]
    fn a_hash_is_hmac_sha_256_of_the_lower_cased_username() {
        let hash = policy().apply(&Username::new("Alice@Contoso.com").unwrap()).unwrap();
        // printf alice@contoso.com | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(hash.as_str(), "hmac-sha256:ad1debc444a066266cd198a97f76a7422b39b36a363ce7dae315edd6ba33439c");
    }

    #[test]
    fn a_key_is_never_printed_and_never_short() {
        assert!(UsernameKey::new(vec![0; 15]).is_err());
        assert!(!format!("{:?}", policy()).contains("0123"));
    }
}
