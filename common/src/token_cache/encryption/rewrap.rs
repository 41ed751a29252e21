//! Moving stored blobs to the active key, beside everybody who reads and writes them.

use std::sync::Arc;

use super::blob_cipher::BlobCipher;
use super::error::UndecryptableBlob;
use crate::account::CacheKey;
use crate::backend::{BackendError, Trouble};
use crate::token_cache::msal::TokenCacheBlob;
use crate::token_cache::{CacheWrite, ExpiryChange, Precondition, TokenCacheScan, TokenCacheStore, WriteOutcome};

/// How often a blob that changes while it is rewrapped is looked at again.
const MOST_CONFLICTS: u32 = 16;

/// Re-encrypts blobs in their place: by compare-and-set, so nobody's update is lost; with the expiry that is stored;
/// without an event, since nobody was there.
///
/// As every write does, it starts a sliding window anew. It may be stopped at any time and begun again: what is under
/// the active key already is left alone.
#[derive(Debug, Clone)]
pub struct Rewrap {
    store: Arc<dyn TokenCacheStore>,
    scan: Arc<dyn TokenCacheScan>,
    cipher: BlobCipher,
    options: RewrapOptions,
}

/// What a [`Rewrap`] does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RewrapOptions {
    /// Plain text token caches are encrypted too. Nothing but this ever reads plain text where encryption is on.
    pub takes_plaintext: bool,
    /// Nothing is written; the answers say what would be.
    pub is_dry_run: bool,
}

/// What became of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrapped {
    /// It was under another key, and is under the active one.
    Done,
    /// It was plain text, and is under the active key.
    Encrypted,
    /// It is under the active key since before, and opens.
    AlreadyActive,
    /// It is plain text, and stays so.
    PlainText,
    /// It does not open, and is left as it is.
    Undecryptable(UndecryptableBlob),
    /// It is gone: removed, or expired.
    Vanished,
    /// It was changed each time between reading and writing.
    Contended,
}

/// A blob that is to be put under the active key.
struct Opened {
    plain: Vec<u8>,
    outcome: Rewrapped,
}

impl Rewrap {
    /// Rewraps what is kept in `store`, which is not wrapped itself, and is found by `scan`.
    pub fn new(
        store: Arc<dyn TokenCacheStore>,
        scan: Arc<dyn TokenCacheScan>,
        cipher: BlobCipher,
        options: RewrapOptions,
    ) -> Self {
        Self { store, scan, cipher, options }
    }

    /// Where to find the keys.
    pub fn scan(&self) -> &dyn TokenCacheScan {
        self.scan.as_ref()
    }

    /// The cipher that is rewrapped with.
    pub fn cipher(&self) -> &BlobCipher {
        &self.cipher
    }

    /// Rewraps the blob under `key`.
    ///
    /// # Errors
    /// [`BackendError`]; a write that timed out may have happened, which is no matter.
    ///
    /// # Cancel safety
    /// A dropped call has rewrapped the blob or not.
    pub async fn one(&self, key: &CacheKey) -> Result<Rewrapped, BackendError> {
        for _ in 0..MOST_CONFLICTS {
            let Some(stored) = self.scan.peek(key).await? else {
                return Ok(Rewrapped::Vanished);
            };
            let opened = match self.open(key, &stored) {
                Ok(opened) => opened,
                Err(outcome) => return Ok(outcome),
            };
            if self.options.is_dry_run || self.write(key, &stored, &opened.plain).await? == WriteOutcome::Written {
                return Ok(opened.outcome);
            }
        }
        Ok(Rewrapped::Contended)
    }

    /// What has to be encrypted, or why nothing has to.
    fn open(&self, key: &CacheKey, stored: &[u8]) -> Result<Opened, Rewrapped> {
        match self.cipher.open(key, stored) {
            Ok(_) if self.cipher.is_under_active_key(stored) => Err(Rewrapped::AlreadyActive),
            Ok(plain) => Ok(Opened { plain, outcome: Rewrapped::Done }),
            // What was an envelope and is damaged must not be taken for a cache and be sealed up.
            Err(UndecryptableBlob::NotEncrypted) if TokenCacheBlob::parse(stored).is_ok() => {
                if !self.options.takes_plaintext {
                    return Err(Rewrapped::PlainText);
                }
                Ok(Opened { plain: stored.to_owned(), outcome: Rewrapped::Encrypted })
            }
            Err(reason) => Err(Rewrapped::Undecryptable(reason)),
        }
    }

    async fn write(&self, key: &CacheKey, stored: &[u8], plain: &[u8]) -> Result<WriteOutcome, BackendError> {
        let blob = self.cipher.seal(key, plain);
        let blob = blob.map_err(|e| BackendError::new(Trouble::Unavailable, "rewrap", e.to_string(), e))?;
        let (expiry, precondition) = (ExpiryChange::Kept, Precondition::Unchanged(stored));
        self.store.write(CacheWrite { key, blob: &blob, expiry, precondition, event: None, fence: None }).await
    }
}
