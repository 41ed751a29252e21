//! A bearer token, and the digest it is known by.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What a token begins with, so that programs that look for leaked secrets know one.
const PREFIX: &str = "tca_";
/// 256 bits.
const RANDOM_BYTES: usize = 32;

/// A bearer token: `tca_` and 256 random bits as base64url. `Debug` does not show it.
pub struct ApiToken(SecretString);

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomBytes;

impl ApiToken {
    /// A token that nobody can guess.
    ///
    /// # Errors
    /// [`NoRandomBytes`].
    pub fn fresh() -> Result<Self, NoRandomBytes> {
        let mut bytes = [0; RANDOM_BYTES];
        OsRng.try_fill_bytes(&mut bytes).map_err(|_| NoRandomBytes)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)).into()))
    }

    /// The text, for the one time it is shown.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What it is known by.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.expose())
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(…)")
    }
}

/// SHA-256 of a token, written as 64 hexadecimal digits. As a token has 256 random bits, it needs no salt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of what a client sent.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Compares in a time that does not depend on the digests.
    pub(super) fn is(&self, other: &Self) -> subtle::Choice {
        self.0.ct_eq(&other.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({self})")
    }
}

impl Serialize for TokenDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What stands there may be a token by mistake, so it is not repeated.
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("must be 64 hexadecimal digits, the SHA-256 of the token"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_256_bits_and_is_not_printed() {
        let (one, other) = (ApiToken::fresh().unwrap(), ApiToken::fresh().unwrap());
        assert_eq!(one.expose().len(), PREFIX.len() + 43);
        assert_ne!(one.expose(), other.expose());
        assert!(!format!("{one:?}").contains(one.expose()));
    }

    #[test]
    fn a_digest_is_what_sha256sum_says() {
        // printf tca_example | sha256sum
        let expected = "0005e6c8145468d0a5a3ee34a1977bdb2a94a23ea371b94f7d966d2dda916cc7";
        let digest = TokenDigest::of("tca_example");
        assert_eq!(digest.to_string(), expected);
        assert!(bool::from(TokenDigest::parse(&expected.to_uppercase()).unwrap().is(&digest)));
        assert!(!bool::from(TokenDigest::of("tca_another").is(&digest)));
    }

    #[test]
    fn what_is_no_digest_is_refused_without_being_repeated() {
        for text in ["", "tca_a-token-by-mistake", &"g".repeat(64), &"+1".repeat(32)] {
            let error = serde_json::from_value::<TokenDigest>((*text).into()).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
