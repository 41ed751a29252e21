//! A log and an outbox that are the real ones, and fail when they are told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use common::backend::{BackendError, Trouble};
use common::event::{EventDraft, SealedEvent};
use common::log::{ActivityLog, AppendError, Bounds, LogError, LogReader, Position};
use common::token_cache::{Backlog, EntryId, Outbox, OutboxEntry};
use tokio::sync::watch;

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Works,
    /// Fails at once.
    Fails(Trouble),
    /// Does what it is asked, and says that it failed.
    WorksAndFails,
    /// Does not answer before its mood changes.
    Hangs,
    /// Works, after a while.
    IsSlow(Duration),
}

/// The mood of a server, and what it was asked meanwhile.
#[derive(Debug)]
pub(crate) struct Moody<T: ?Sized> {
    pub(crate) mood: watch::Sender<Mood>,
    pub(crate) calls: AtomicUsize,
    pub(crate) under_way: AtomicUsize,
    pub(crate) most_under_way: AtomicUsize,
    pub(crate) losses: AtomicU64,
    inner: Arc<T>,
}

impl<T: ?Sized> Moody<T> {
    pub(crate) fn new(inner: Arc<T>, mood: Mood) -> Arc<Self> {
        Arc::new(Self {
            mood: watch::Sender::new(mood),
            calls: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            losses: AtomicU64::new(0),
            inner,
        })
    }

    pub(crate) fn becomes(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Gets in the mood. Says whether to fail after the work is done.
    async fn before(&self) -> Result<bool, BackendError> {
        self.calls.fetch_add(1, SeqCst);
        let mut mood = self.mood.subscribe();
        let now = *mood.wait_for(|mood| *mood != Mood::Hangs).await.unwrap();
        match now {
            Mood::Fails(trouble) => Err(failure(trouble)),
            Mood::IsSlow(wait) => {
                tokio::time::sleep(wait).await;
                Ok(false)
            }
            mood => Ok(mood == Mood::WorksAndFails),
        }
    }
}

fn failure(trouble: Trouble) -> BackendError {
    BackendError::plain(trouble, "moody://", "it is not in the mood")
}

#[async_trait]
impl ActivityLog for Moody<dyn ActivityLog> {
    async fn partitions(&self) -> Result<u32, LogError> {
        self.before().await?;
        self.inner.partitions().await
    }

    async fn append_sealed(&self, partition: u32, events: &[SealedEvent]) -> Result<(), AppendError> {
        let under_way = self.under_way.fetch_add(1, SeqCst) + 1;
        self.most_under_way.fetch_max(under_way, SeqCst);
        let appended = async {
            let fails = self.before().await.map_err(LogError::from)?;
            self.inner.append_sealed(partition, events).await?;
            if fails { Err(AppendError::Nacked) } else { Ok(()) }
        }
        .await;
        self.under_way.fetch_sub(1, SeqCst);
        appended
    }

    async fn read(&self, partition: u32, position: Position) -> Result<Box<dyn LogReader>, LogError> {
        self.inner.read(partition, position).await
    }

    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        self.inner.bounds(partition).await
    }

    fn append_connection_losses(&self) -> u64 {
        self.losses.load(SeqCst)
    }
}

#[async_trait]
impl Outbox for Moody<dyn Outbox> {
    async fn append(&self, event: &EventDraft) -> Result<(), BackendError> {
        self.inner.append(event).await
    }

    async fn take(&self, max: usize, visibility: Duration, wait: Duration) -> Result<Vec<OutboxEntry>, BackendError> {
        self.before().await?;
        self.inner.take(max, visibility, wait).await
    }

    async fn confirm(&self, entries: &[EntryId]) -> Result<(), BackendError> {
        let fails = self.before().await?;
        self.inner.confirm(entries).await?;
        if fails { Err(failure(Trouble::Unavailable)) } else { Ok(()) }
    }

    async fn rewind(&self, age: Duration) -> Result<(), BackendError> {
        self.inner.rewind(age).await
    }

    async fn trim(&self, age: Duration) -> Result<u64, BackendError> {
        self.inner.trim(age).await
    }

    async fn backlog(&self) -> Result<Backlog, BackendError> {
        self.inner.backlog().await
    }
}
