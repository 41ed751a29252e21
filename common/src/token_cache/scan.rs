//! The port that finds the blobs there are: for an operator's tools, never for what serves users.

use std::fmt;

use async_trait::async_trait;

use crate::account::CacheKey;
use crate::backend::BackendError;

/// How many keys one page is asked for at most.
pub const MOST_SCANNED: usize = 10_000;

/// Walks through the cache keys of a token cache, page by page, beside everybody who reads and writes it.
#[async_trait]
pub trait TokenCacheScan: Send + Sync + fmt::Debug {
    /// The page after `cursor`, or the first one, of about `limit` keys (at least 1, at most [`MOST_SCANNED`]).
    ///
    /// Walking until there is no next page finds every key that was there all the while, at least once; one may come
    /// twice. A key that was written, removed or has expired meanwhile may come or not. A page may be empty and have
    /// a next one. The keys come in no order that means anything.
    ///
    /// # Errors
    /// [`BackendError`].
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    async fn scan(&self, cursor: Option<&ScanCursor>, limit: usize) -> Result<ScanPage, BackendError>;

    /// What is stored under `key`, as it is stored: an envelope where blobs are encrypted. Unlike
    /// [`TokenCacheStore::read`](super::TokenCacheStore::read) it starts no sliding window anew.
    ///
    /// # Errors
    /// [`BackendError`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn peek(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError>;
}

/// Some of the cache keys there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// The keys.
    pub keys: Vec<CacheKey>,
    /// How many names stand where a cache key would and are none: too long, or no text.
    pub unreadable_names: u64,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<ScanCursor>,
}

/// The place a scan has come to, as the backend spells it: its own, and taken back by that backend alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanCursor(String);

impl ScanCursor {
    /// A cursor, for backends to give out.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
