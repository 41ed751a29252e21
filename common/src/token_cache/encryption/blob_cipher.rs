//! Sealing and opening blobs, each for its place.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead as _, Payload};
use rand::TryRngCore as _;
use rand::rngs::OsRng;

use super::associated_data::associated_data;
use super::envelope::{Envelope, NONCE_BYTES, header, seal_up};
use super::error::UndecryptableBlob;
use super::key_ring::{KeyId, KeyRing};
use crate::account::{CacheKey, ClientId};

/// Whose caches these are: every envelope is bound to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeScope {
    /// The instance name of the cache, as all its apps give it.
    pub instance_name: String,
    /// The app registration whose tokens these are.
    pub client_id: ClientId,
}

/// Encrypts under the active key of its ring, decrypts under any. Cheap to clone; clones share the keys.
#[derive(Clone)]
pub struct BlobCipher {
    keys: Arc<KeyRing>,
    scope: Arc<EnvelopeScope>,
}

/// The operating system gave no random bytes, or the blob is too large for one envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the blob cannot be encrypted: the system gives no random bytes")]
pub(super) struct CannotSeal;

impl BlobCipher {
    /// A cipher for the caches of one app in one instance.
    pub fn new(keys: KeyRing, scope: EnvelopeScope) -> Self {
        Self { keys: Arc::new(keys), scope: Arc::new(scope) }
    }

    /// The key that is encrypted under.
    pub fn active_key(&self) -> &KeyId {
        self.keys.active_id()
    }

    /// The envelope of `blob` for the place `key`.
    pub(super) fn seal(&self, key: &CacheKey, blob: &[u8]) -> Result<Vec<u8>, CannotSeal> {
        let mut nonce = [0; NONCE_BYTES];
        OsRng.try_fill_bytes(&mut nonce).map_err(|_| CannotSeal)?;
        let active = self.keys.active();
        let header = header(&active.id);
        let aad = associated_data(&header, &self.scope, key);
        let payload = Payload { msg: blob, aad: &aad };
        let sealed = active.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| CannotSeal)?;
        Ok(seal_up(header, &nonce, &sealed))
    }

    /// The blob in `stored`, which was read from the place `key`.
    ///
    /// # Errors
    /// [`UndecryptableBlob`].
    pub fn open(&self, key: &CacheKey, stored: &[u8]) -> Result<Vec<u8>, UndecryptableBlob> {
        let envelope = Envelope::parse(stored)?;
        let unknown = || UndecryptableBlob::UnknownKey { key_id: envelope.key_id.clone() };
        let cipher = self.keys.cipher(&envelope.key_id).ok_or_else(unknown)?;
        let aad = associated_data(envelope.header, &self.scope, key);
        let payload = Payload { msg: envelope.sealed, aad: &aad };
        let forged = |_| UndecryptableBlob::Forged { key_id: envelope.key_id.clone() };
        cipher.decrypt(&XNonce::from(envelope.nonce), payload).map_err(forged)
    }

    /// Whether `stored` says it is encrypted under the active key.
    pub(super) fn is_under_active_key(&self, stored: &[u8]) -> bool {
        Envelope::parse(stored).is_ok_and(|envelope| &envelope.key_id == self.active_key())
    }
}

impl fmt::Debug for BlobCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobCipher").field("keys", &self.keys).field("scope", &self.scope).finish()
    }
}
