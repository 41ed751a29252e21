//! The digest that tells whether a stored blob is still the one that was read.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// SHA-1 in hexadecimal, which Redis' scripts can compute. It tells copies from each other; it proves nothing of who
/// wrote them, and whoever can forge two blobs of one digest can write the cache anyway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobDigest(String);

impl BlobDigest {
    /// The digest of a blob as it is stored.
    pub fn of(stored: &[u8]) -> Self {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, stored);
        Self(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// 40 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
