//! The adapter: what a web app calls in its token cache callbacks. Every write leaves an activity event beside the blob.
//!
//! The Rust counterpart of `IntegratedTokenCacheAdapter` of Microsoft's sample, whose `OnBeforeWriteAsync` upserts a
//! row in SQL before each cache write. Here the write itself carries the event, in one atomic operation of the store.

mod before_write;
mod draft;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::account::CacheKey;
use common::backend::BackendError;
use common::event::{
    AccountDetails, AccountHint, Activity, EventDraft, EventSource, Properties, TraceParent, UsernamePolicy,
};
use common::token_cache::msal::TokenCacheBlob;
use common::token_cache::{CacheWrite, Expiry, ExpiryChange, Precondition, TokenCacheStore, WriteOutcome};
use jiff::Timestamp;

pub use before_write::{BeforeWrite, HookError, OnBeforeWrite};
pub use draft::UnreadableBlob;
use draft::{About, about};
pub use tokens::SaveError;

/// How an adapter writes events.
#[derive(Clone)]
pub struct AdapterSettings {
    /// The name of the emitting app.
    pub source: EventSource,
    /// What is written of usernames.
    pub usernames: UsernamePolicy,
    /// What the host app adds; nothing where there is none.
    pub on_before_write: Option<Arc<dyn OnBeforeWrite>>,
    /// What to do with a blob that cannot be read.
    pub on_unreadable: OnUnreadable,
}

/// What to do with a blob that cannot be read, and whose event would be a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnreadable {
    /// Refuse the write, with an error that says why. Nothing is stored.
    Refuse,
    /// Store the blob without an event, and log it: the account will not be listed.
    StoreWithoutEvent,
}

impl AdapterSettings {
    /// Plain usernames, no hook, unreadable blobs refused.
    pub fn new(source: EventSource) -> Self {
        Self { source, usernames: UsernamePolicy::Plain, on_before_write: None, on_unreadable: OnUnreadable::Refuse }
    }
}

impl std::fmt::Debug for AdapterSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdapterSettings")
            .field("source", &self.source)
            .field("usernames", &self.usernames)
            .field("on_unreadable", &self.on_unreadable)
            .finish_non_exhaustive()
    }
}

/// A cache was not written, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The blob is no MSAL cache that can be read, so nobody can say whose it is.
    #[error(
        "the blob was not stored: it cannot be read; turn off encryption in the cache adapter that wrote it, or allow \
         blobs without events"
    )]
    Unreadable(#[source] UnreadableBlob),
    /// See [`BackendError`].
    #[error(transparent)]
    Store(#[from] BackendError),
}

impl WriteError {
    /// Whether the same write may succeed later with nothing changed here.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// What an adapter has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AdapterCounts {
    /// Blobs stored with their event.
    pub with_event: u64,
    /// Blobs stored that are about no user: an app's own tokens.
    pub app_only: u64,
    /// Blobs stored without an event because they cannot be read.
    pub unreadable: u64,
    /// Blobs refused because they cannot be read.
    pub refused: u64,
    /// Caches removed, or emptied, each with its event.
    pub removed: u64,
    /// Events stored without what the host's hook would have added, because it failed or took too long.
    pub hook_failures: u64,
}

#[derive(Debug, Default)]
struct Counters {
    with_event: AtomicU64,
    app_only: AtomicU64,
    unreadable: AtomicU64,
    refused: AtomicU64,
    removed: AtomicU64,
    hook_failures: AtomicU64,
}

/// Wraps the store a web app keeps its token caches in. Clones share it.
#[derive(Debug, Clone)]
pub struct TokenCacheAdapter {
    store: Arc<dyn TokenCacheStore>,
    settings: Arc<AdapterSettings>,
    counters: Arc<Counters>,
}

impl TokenCacheAdapter {
    /// An adapter over `store`.
    pub fn new(store: Arc<dyn TokenCacheStore>, settings: AdapterSettings) -> Self {
        Self { store, settings: Arc::new(settings), counters: Arc::default() }
    }

    /// The store it writes to, for those who only read.
    pub fn store(&self) -> Arc<dyn TokenCacheStore> {
        Arc::clone(&self.store)
    }

    /// The blob under `key`.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        self.store.read(key).await
    }

    /// Writes the blob over whatever is there, with the event of the user's activity.
    ///
    /// A blob of an app's own tokens is about no user: it is stored and emits nothing. A blob that has become empty
    /// (MSAL removed the account) is removed, and emits `removed`.
    ///
    /// # Errors
    /// [`WriteError`].
    ///
    /// # Cancel safety
    /// A dropped call may still write, blob and event or neither.
    pub async fn write(&self, key: &CacheKey, blob: &[u8], expiry: Expiry) -> Result<(), WriteError> {
        self.write_traced(key, blob, expiry.into(), Precondition::None, None).await.map(drop)
    }

    /// Writes the blob only while the stored one is still `read`: nobody else's update is lost. On
    /// [`WriteOutcome::Conflict`] read again and merge.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_if_unchanged(
        &self,
        key: &CacheKey,
        read: Option<&[u8]>,
        blob: &[u8],
        expiry: impl Into<ExpiryChange>,
    ) -> Result<WriteOutcome, WriteError> {
        let precondition = read.map_or(Precondition::Absent, Precondition::Unchanged);
        self.write_traced(key, blob, expiry.into(), precondition, None).await
    }

    /// The write behind the other two, with the trace the event belongs to.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_traced(
        &self,
        key: &CacheKey,
        blob: &[u8],
        expiry: ExpiryChange,
        precondition: Precondition<'_>,
        traceparent: Option<TraceParent>,
    ) -> Result<WriteOutcome, WriteError> {
        let write = CacheWrite { key, blob, expiry, precondition, event: None, fence: None };
        match self.about(key, blob) {
            Ok(About::User(mut details)) => {
                details.properties = self.ask_host(key, &details).await;
                let event = self.draft(key, Activity::UserActivity(*details), traceparent);
                self.counted(&self.counters.with_event, CacheWrite { event: Some(&event), ..write }).await
            }
            Ok(About::App) => self.counted(&self.counters.app_only, write).await,
            Ok(About::Nobody) => self.write_emptied(write).await,
            Err(error) => self.write_unreadable(write, error).await,
        }
    }

    /// Removes the cache, with a `removed` event; says whether there was one.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn remove(&self, key: &CacheKey) -> Result<bool, WriteError> {
        let event = self.removal(key);
        let was_there = self.store.remove(key, Some(&event)).await?;
        self.counters.removed.fetch_add(1, Ordering::Relaxed);
        Ok(was_there)
    }

    /// What it has done since it was made.
    pub fn counts(&self) -> AdapterCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AdapterCounts {
            with_event: count(&self.counters.with_event),
            app_only: count(&self.counters.app_only),
            unreadable: count(&self.counters.unreadable),
            refused: count(&self.counters.refused),
            removed: count(&self.counters.removed),
            hook_failures: count(&self.counters.hook_failures),
        }
    }

    fn about(&self, key: &CacheKey, blob: &[u8]) -> Result<About, UnreadableBlob> {
        let blob = TokenCacheBlob::parse(blob)?;
        about(&blob, key, &self.settings.usernames, Timestamp::now().as_second())
    }

    async fn ask_host(&self, key: &CacheKey, details: &AccountDetails) -> Properties {
        let Some(hook) = &self.settings.on_before_write else {
            return Properties::default();
        };
        match before_write::ask(hook.as_ref(), key, details).await {
            Ok(properties) => properties,
            Err(error) => {
                self.counters.hook_failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the event goes without the host's properties"
                );
                Properties::default()
            }
        }
    }

    async fn write_emptied(&self, write: CacheWrite<'_>) -> Result<WriteOutcome, WriteError> {
        if let Precondition::None = write.precondition {
            self.remove(write.key).await?;
            return Ok(WriteOutcome::Written);
        }
        // A store removes without asking, so what was written since is kept by writing the empty blob.
        let event = self.removal(write.key);
        self.counted(&self.counters.removed, CacheWrite { event: Some(&event), ..write }).await
    }

    async fn write_unreadable(&self, write: CacheWrite<'_>, error: UnreadableBlob) -> Result<WriteOutcome, WriteError> {
        if self.settings.on_unreadable == OnUnreadable::Refuse {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "a blob that cannot be read was refused");
            return Err(WriteError::Unreadable(error));
        }
        tracing::warn!(%error, "a blob that cannot be read is stored without an event");
        self.counted(&self.counters.unreadable, write).await
    }

    async fn counted(&self, counter: &AtomicU64, write: CacheWrite<'_>) -> Result<WriteOutcome, WriteError> {
        let outcome = self.store.write(write).await?;
        if outcome == WriteOutcome::Written {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(outcome)
    }

    fn removal(&self, key: &CacheKey) -> EventDraft {
        self.draft(key, Activity::Removed(AccountHint::default()), None)
    }

    fn draft(&self, key: &CacheKey, activity: Activity, traceparent: Option<TraceParent>) -> EventDraft {
        let draft = EventDraft::new(self.settings.source.clone(), key.clone(), activity);
        EventDraft { traceparent, ..draft }
    }
}
