//! The decorator that keeps blobs in this process's memory, and asks before it believes them.
//!
//! A cache in memory is stale as soon as another program writes, and a stale refresh token may cost the user the whole
//! sign-in. So every read still asks the store, with the digest of what is kept: the answer is "unchanged", or the
//! blob. What is saved is the way of the blob over the network and not the question; and the answer is as fresh as
//! without it, the sliding window is started anew, and compare-and-set sees the truth. It is worth it where the network
//! is the narrow place: the store pays for each question with a digest of the blob.
//!
//! Where the store does not answer, a read fails, unless [`WhenDown::Serve`] is set.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use moka::sync::Cache;

use super::digest::BlobDigest;
use super::port::{CacheWrite, Reread, TokenCacheStore, WriteOutcome};
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::event::EventDraft;

/// What an entry takes beside its key and its blob, roughly.
const ENTRY_OVERHEAD: usize = 256;

/// How much is kept for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L1Options {
    /// How long a blob is kept after the store was last asked for it.
    pub ttl: Duration,
    /// How many bytes are kept in all; the least used goes first.
    pub max_bytes: u64,
    /// What a read gives while the store does not answer.
    pub when_down: WhenDown,
}

/// What a read gives while the store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum WhenDown {
    /// The store's error.
    #[default]
    Fail,
    /// What is kept, for [`L1Options::ttl`] after the store was last asked. It may have been changed, removed or have
    /// expired meanwhile; each such read is logged. Writes and removals fail, so whoever refreshes a token in that time
    /// cannot keep it; silent acquisition does not, since it has to take the refresh lock first.
    Serve,
}

/// How often what was kept was of use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct L1Counts {
    /// Reads whose blob was kept and is unchanged.
    pub hits: u64,
    /// Reads whose blob came from the store.
    pub misses: u64,
    /// Reads that were answered though the store was not there to be asked.
    pub served_while_down: u64,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    served_while_down: AtomicU64,
}

/// A blob as it is stored.
struct Kept {
    blob: Vec<u8>,
    digest: BlobDigest,
}

/// A [`TokenCacheStore`] in front of another one. Wrap the store that holds the bytes: beneath encryption, what is kept
/// in memory is encrypted too.
pub struct L1TokenCache {
    inner: Arc<dyn TokenCacheStore>,
    kept: Cache<CacheKey, Arc<Kept>>,
    when_down: WhenDown,
    /// Counts what this process writes and removes.
    changes: AtomicU64,
    counters: Counters,
}

impl L1TokenCache {
    /// Keeps what is read from `inner`.
    pub fn new(inner: Arc<dyn TokenCacheStore>, options: L1Options) -> Self {
        let kept = Cache::builder().max_capacity(options.max_bytes).time_to_live(options.ttl).weigher(weight).build();
        let (changes, counters) = (AtomicU64::new(0), Counters::default());
        Self { inner, kept, when_down: options.when_down, changes, counters }
    }

    /// What it has done since it was made.
    pub fn counts(&self) -> L1Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        L1Counts {
            hits: count(&self.counters.hits),
            misses: count(&self.counters.misses),
            served_while_down: count(&self.counters.served_while_down),
        }
    }

    /// Asks whether what is kept is still what is stored.
    async fn ask(&self, key: &CacheKey, kept: Arc<Kept>) -> Result<Option<Vec<u8>>, BackendError> {
        let before = self.changes.load(Ordering::SeqCst);
        match self.inner.reread(key, &kept.digest).await {
            Ok(Reread::Unchanged) => {
                self.counters.hits.fetch_add(1, Ordering::Relaxed);
                let blob = kept.blob.clone();
                self.keep(key, kept, before);
                Ok(Some(blob))
            }
            Ok(Reread::Changed(blob)) => Ok(Some(self.keep_new(key, blob, before))),
            Ok(Reread::Absent) => {
                self.counters.misses.fetch_add(1, Ordering::Relaxed);
                self.kept.invalidate(key);
                Ok(None)
            }
            Err(error) if error.is_transient() && self.when_down == WhenDown::Serve => {
                self.counters.served_while_down.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "the token cache does not answer; a blob is served from memory");
                Ok(Some(kept.blob.clone()))
            }
            Err(error) => Err(error),
        }
    }

    fn keep_new(&self, key: &CacheKey, blob: Vec<u8>, before: u64) -> Vec<u8> {
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        let kept = Kept { digest: BlobDigest::of(&blob), blob: blob.clone() };
        self.keep(key, Arc::new(kept), before);
        blob
    }

    /// Keeps what was read since `before`, unless this process wrote or removed something meanwhile: what it has
    /// removed must not come back from memory while the store is down.
    fn keep(&self, key: &CacheKey, kept: Arc<Kept>, before: u64) {
        self.kept.insert(key.clone(), kept);
        if self.changes.load(Ordering::SeqCst) != before {
            self.kept.invalidate(key);
        }
    }
}

fn weight(key: &CacheKey, kept: &Arc<Kept>) -> u32 {
    u32::try_from(key.as_str().len() + kept.blob.len() + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
}

/// Forgets a key when a change ends, however it ends: a call that failed or was dropped may have changed it.
struct Forget<'a> {
    cache: &'a L1TokenCache,
    key: &'a CacheKey,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.cache.changes.fetch_add(1, Ordering::SeqCst);
        self.cache.kept.invalidate(self.key);
    }
}

#[async_trait]
impl TokenCacheStore for L1TokenCache {
    async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        if let Some(kept) = self.kept.get(key) {
            return self.ask(key, kept).await;
        }
        let before = self.changes.load(Ordering::SeqCst);
        let blob = self.inner.read(key).await?;
        Ok(blob.map(|blob| self.keep_new(key, blob, before)))
    }

    async fn write(&self, write: CacheWrite<'_>) -> Result<WriteOutcome, BackendError> {
        let _forget = Forget { cache: self, key: write.key };
        self.inner.write(write).await
    }

    async fn remove(&self, key: &CacheKey, event: Option<&EventDraft>) -> Result<bool, BackendError> {
        let _forget = Forget { cache: self, key };
        self.inner.remove(key, event).await
    }
}

impl fmt::Debug for L1TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L1TokenCache")
            .field("inner", &self.inner)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
