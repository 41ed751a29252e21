//! The decorator: what goes in is encrypted, what comes out is decrypted.

use std::sync::Arc;

use async_trait::async_trait;

use super::blob_cipher::BlobCipher;
use crate::account::CacheKey;
use crate::backend::{BackendError, Trouble};
use crate::event::EventDraft;
use crate::token_cache::{CacheWrite, Precondition, TokenCacheStore, WriteOutcome};

/// A [`TokenCacheStore`] that keeps its blobs encrypted in another one.
///
/// A blob that does not open is an error of the kind [`Trouble::Corrupt`] whose reason
/// [`UndecryptableBlob::of`](super::UndecryptableBlob::of) tells. It can still be removed, and written over by a write
/// without a precondition.
#[derive(Debug)]
pub struct EncryptedTokenCache {
    inner: Arc<dyn TokenCacheStore>,
    cipher: BlobCipher,
    address: String,
}

impl EncryptedTokenCache {
    /// Encrypts what is kept in `inner`, which errors call `address`.
    pub fn new(inner: Arc<dyn TokenCacheStore>, cipher: BlobCipher, address: impl Into<String>) -> Self {
        Self { inner, cipher, address: address.into() }
    }

    fn open(&self, key: &CacheKey, stored: &[u8]) -> Result<Vec<u8>, BackendError> {
        self.cipher.open(key, stored).map_err(|reason| reason.at(&self.address))
    }

    /// The stored envelope, where it holds `expected`.
    async fn envelope_of(&self, key: &CacheKey, expected: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        let Some(stored) = self.inner.read(key).await? else {
            return Ok(None);
        };
        let is_unchanged = self.open(key, &stored)? == expected;
        Ok(is_unchanged.then_some(stored))
    }
}

#[async_trait]
impl TokenCacheStore for EncryptedTokenCache {
    async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        let stored = self.inner.read(key).await?;
        stored.map(|stored| self.open(key, &stored)).transpose()
    }

    /// A write that compares reads once more. It may conflict with one that left the same plain bytes in another
    /// envelope, such as a rewrap.
    async fn write(&self, write: CacheWrite<'_>) -> Result<WriteOutcome, BackendError> {
        let sealed = self.cipher.seal(write.key, write.blob);
        let blob = sealed.map_err(|e| BackendError::new(Trouble::Unavailable, &self.address, e.to_string(), e))?;
        let write = CacheWrite { blob: &blob, ..write };
        let Precondition::Unchanged(expected) = write.precondition else {
            return self.inner.write(write).await;
        };
        match self.envelope_of(write.key, expected).await? {
            None => Ok(WriteOutcome::Conflict),
            Some(stored) => {
                let precondition = Precondition::Unchanged(&stored);
                self.inner.write(CacheWrite { precondition, ..write }).await
            }
        }
    }

    async fn remove(&self, key: &CacheKey, event: Option<&EventDraft>) -> Result<bool, BackendError> {
        self.inner.remove(key, event).await
    }
}
