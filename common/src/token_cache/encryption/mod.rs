//! Encryption of blobs, for caches that only programs of ours share: other MSAL libraries cannot read what is stored.
//!
//! [`EncryptedTokenCache`] wraps a store. What is stored is an envelope:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `89 54 43 45`: no JSON, no UTF-8 at all, and not what ASP.NET Core Data Protection begins with |
//! | 1 | the version, 1: XChaCha20-Poly1305 with 256-bit keys |
//! | 1 | how many bytes the key id has, 1 to 64 |
//! | n | the key id, in clear |
//! | 24 | the nonce, random |
//! | rest | the ciphertext and its tag of 16 bytes |
//!
//! The associated data are, each after its length as eight bytes (big-endian): everything before the nonce, the
//! instance name, the cache key, the client id. So an envelope opens in its place alone: not under another user's key,
//! not in another cache, not for another app. An older envelope of the same place does open: whoever may write the store
//! can take a user's cache back in time, as by removing it, and no further.
//!
//! **It fails closed.** What is not an envelope of a known key, unchanged and in its place, is an
//! [`UndecryptableBlob`], and never taken for plain text.
//!
//! **Compare-and-set** goes on working by plain bytes: the stored envelope must open to the bytes that were read, and
//! is itself the precondition of the write beneath.
//!
//! [`Rewrap`] moves what is stored to the active key, online.

mod associated_data;
mod blob_cipher;
mod envelope;
mod error;
mod key_file;
mod key_ring;
mod rewrap;
mod store;

pub use blob_cipher::{BlobCipher, EnvelopeScope};
pub(in crate::token_cache) use envelope::is_envelope;
pub use error::UndecryptableBlob;
pub use key_file::{KeyFileError, KeyText, MOST_KEY_FILE_BYTES, NoRandomBytes, add_fresh_key};
pub use key_ring::{InvalidKeyId, KeyId, KeyRing, KeyRingError};
pub use rewrap::{Rewrap, RewrapOptions, Rewrapped};
pub use store::EncryptedTokenCache;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
