//! A cache whose blobs go through a decorator, for the conformance suite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::account::CacheKey;
use common::backend::BackendError;
use common::event::EventDraft;
use common::token_cache::{
    Backlog, CacheWrite, EntryId, Outbox, OutboxEntry, ScanCursor, ScanPage, TokenCacheScan, TokenCacheStore,
    WriteOutcome,
};
use testkit::conformance::token_cache::{Cache, TokenCacheUnderTest};

/// Wraps the blobs of every cache that `subject` opens.
pub(super) struct Decorated<S, W> {
    pub(super) subject: S,
    pub(super) wrap: W,
}

#[async_trait]
impl<S, W> TokenCacheUnderTest for Decorated<S, W>
where
    S: TokenCacheUnderTest,
    W: Fn(Arc<dyn TokenCacheStore>) -> Arc<dyn TokenCacheStore> + Send + Sync,
{
    async fn open(&self, name: &str) -> Arc<dyn Cache> {
        let base = self.subject.open(name).await;
        let store = (self.wrap)(Arc::new(Base(Arc::clone(&base))));
        Arc::new(DecoratedCache { store, base })
    }

    fn keeps_sliding_expiry(&self) -> bool {
        self.subject.keeps_sliding_expiry()
    }
}

/// The blobs of a cache alone.
#[derive(Debug)]
struct Base(Arc<dyn Cache>);

#[async_trait]
impl TokenCacheStore for Base {
    async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        self.0.read(key).await
    }

    async fn write(&self, write: CacheWrite<'_>) -> Result<WriteOutcome, BackendError> {
        self.0.write(write).await
    }

    async fn remove(&self, key: &CacheKey, event: Option<&EventDraft>) -> Result<bool, BackendError> {
        self.0.remove(key, event).await
    }
}

/// The blobs by the decorator, all else by the cache beneath it.
#[derive(Debug)]
struct DecoratedCache {
    store: Arc<dyn TokenCacheStore>,
    base: Arc<dyn Cache>,
}

#[async_trait]
impl TokenCacheStore for DecoratedCache {
    async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        self.store.read(key).await
    }

    async fn write(&self, write: CacheWrite<'_>) -> Result<WriteOutcome, BackendError> {
        self.store.write(write).await
    }

    async fn remove(&self, key: &CacheKey, event: Option<&EventDraft>) -> Result<bool, BackendError> {
        self.store.remove(key, event).await
    }
}

#[async_trait]
impl Outbox for DecoratedCache {
    async fn append(&self, event: &EventDraft) -> Result<(), BackendError> {
        self.base.append(event).await
    }

    async fn take(&self, max: usize, visibility: Duration, wait: Duration) -> Result<Vec<OutboxEntry>, BackendError> {
        self.base.take(max, visibility, wait).await
    }

    async fn confirm(&self, entries: &[EntryId]) -> Result<(), BackendError> {
        self.base.confirm(entries).await
    }

    async fn rewind(&self, age: Duration) -> Result<(), BackendError> {
        self.base.rewind(age).await
    }

    async fn trim(&self, age: Duration) -> Result<u64, BackendError> {
        self.base.trim(age).await
    }

    async fn backlog(&self) -> Result<Backlog, BackendError> {
        self.base.backlog().await
    }
}

#[async_trait]
impl TokenCacheScan for DecoratedCache {
    async fn scan(&self, cursor: Option<&ScanCursor>, limit: usize) -> Result<ScanPage, BackendError> {
        self.base.scan(cursor, limit).await
    }

    async fn peek(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        self.base.peek(key).await
    }
}
