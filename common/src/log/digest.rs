//! A short digest of a message: enough to tell whether another one has taken its offset.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const BYTES: usize = 8;

/// The first 8 bytes of the SHA-256 of a message's body. As text, 16 hexadecimal digits.
///
/// Every event has an id of its own, so two messages of one digest are one message that was sent twice. It tells
/// messages apart; it proves nothing of who wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageDigest([u8; BYTES]);

/// A text is not a [`MessageDigest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the digest of a message is 16 hexadecimal digits")]
pub struct InvalidMessageDigest;

impl MessageDigest {
    /// The digest of a message with this body.
    pub fn of(body: &[u8]) -> Self {
        let digest = Sha256::digest(body);
        Self(std::array::from_fn(|place| digest[place]))
    }
}

impl fmt::Display for MessageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl FromStr for MessageDigest {
    type Err = InvalidMessageDigest;

    fn from_str(text: &str) -> Result<Self, InvalidMessageDigest> {
        let is_hex = text.len() == 2 * BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_hex).ok_or(InvalidMessageDigest)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl TryFrom<String> for MessageDigest {
    type Error = InvalidMessageDigest;

    fn try_from(text: String) -> Result<Self, InvalidMessageDigest> {
        text.parse()
    }
}

impl From<MessageDigest> for String {
    fn from(digest: MessageDigest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_beginning_of_the_bodys_sha_256() {
        // printf abc | sha256sum
        let digest = MessageDigest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea");
        assert_eq!("ba7816bf8f01cfea".parse(), Ok(digest));
        assert_ne!(MessageDigest::of(b"abd"), digest);
    }

    #[test]
    fn a_text_of_another_form_is_no_digest() {
        for text in ["", "ba7816bf8f01cfe", "ba7816bf8f01cfea0", "+a7816bf8f01cfea", "xa7816bf8f01cfea"] {
            assert_eq!(text.parse::<MessageDigest>(), Err(InvalidMessageDigest), "{text}");
        }
    }
}
