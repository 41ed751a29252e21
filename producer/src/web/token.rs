//! Random texts that nobody can guess, and the digests they are looked up by.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// 256 bits.
const BYTES: usize = 32;

/// 256 random bits as base64url: the id of a session, of a browser, or of a form. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct RandomToken(SecretString);

/// SHA-256 of a secret: what a map is searched by, so that neither its memory nor its timing tells the secret.
pub(super) type Digest = [u8; 32];

impl RandomToken {
    pub(super) fn fresh() -> Self {
        Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; BYTES]>()).into())
    }

    /// A text from outside, if it has the form of such a token.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == BYTES).then(|| Self(text.into()))
    }

    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub(super) fn digest(&self) -> Digest {
        Sha256::digest(self.expose()).into()
    }

    /// The digest of this and another text together.
    pub(super) fn digest_with(&self, other: &str) -> Digest {
        // The token's length is fixed, so the two cannot run into each other.
        Sha256::new().chain_update(self.expose()).chain_update(other).finalize().into()
    }

    /// Compares by digests, so that the time taken says nothing about the token.
    pub(super) fn is(&self, text: &str) -> bool {
        self.digest() == <Digest>::from(Sha256::digest(text))
    }
}

impl fmt::Debug for RandomToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RandomToken(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_256_bits_and_no_two_are_alike() {
        let token = RandomToken::fresh();
        assert_eq!(token.expose().len(), 43);
        assert!(RandomToken::parse(token.expose()).unwrap().is(token.expose()));
        assert!(!RandomToken::fresh().is(token.expose()));
    }

    #[test]
    fn a_text_of_another_form_is_no_token() {
        let long = format!("{}A", RandomToken::fresh().expose());
        for text in ["", "abc", "../../etc/passwd", &long] {
            assert!(RandomToken::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn it_is_not_printed() {
        let token = RandomToken::fresh();
        assert!(!format!("{token:?}").contains(token.expose()));
    }
}
