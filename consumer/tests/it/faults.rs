//! A log, dead letters and an index that are the real ones, and fail when they are told to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use common::account::{CacheKey, TenantId};
use common::backend::{BackendError, Trouble};
use common::event::SealedEvent;
use common::index::{
    AccountActivity, ActivityStore, Checkpoint, Counts, LeaseView, ListError, ListRequest, MemberId, Page,
    PartitionLeases,
};
use common::log::{
    ActivityLog, AppendError, Bounds, DeadLetter, DeadLetterError, DeadLetters, LogError, LogMessage, LogReader,
    ParkLetters, Position,
};
use tokio::sync::{Mutex, watch};

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Works,
    /// Fails at once.
    Fails,
    /// Does what it is asked, and says that it failed.
    WorksAndFails,
    /// Does not answer before its mood changes.
    Hangs,
    /// Works on this many more calls, and hangs in the next one, before the work is done.
    HangsBefore(usize),
    /// The same, after the work is done.
    HangsAfter(usize),
    /// Works, after a while.
    IsSlow(Duration),
    /// Works on this many more calls, and fails from then on.
    FailsAfter(usize),
    /// The same, doing what it is asked.
    WorksAndFailsAfter(usize),
}

/// A server's mood and the calls it has had.
#[derive(Debug)]
pub(crate) struct Moods {
    mood: watch::Sender<Mood>,
    calls: AtomicUsize,
    hanging: watch::Sender<bool>,
}

impl Moods {
    fn new() -> Self {
        Self { mood: watch::Sender::new(Mood::Works), calls: AtomicUsize::new(0), hanging: watch::Sender::new(false) }
    }

    pub(crate) fn becomes(&self, mood: Mood) {
        self.calls.store(0, SeqCst);
        self.hanging.send_replace(false);
        self.mood.send_replace(mood);
    }

    pub(crate) async fn hangs(&self) {
        self.hanging.subscribe().wait_for(|hanging| *hanging).await.unwrap();
    }

    async fn hang(&self) {
        self.hanging.send_replace(true);
        self.mood.subscribe().wait_for(|mood| matches!(mood, Mood::Works)).await.unwrap();
    }

    /// Does `work` in the mood of the moment.
    async fn act<T, E: From<BackendError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let call = self.calls.fetch_add(1, SeqCst);
        let mood = *self.mood.borrow();
        match mood {
            Mood::Fails => return Err(not_in_the_mood().into()),
            Mood::FailsAfter(calls) if call >= calls => return Err(not_in_the_mood().into()),
            Mood::Hangs => self.hang().await,
            Mood::HangsBefore(calls) if call >= calls => self.hang().await,
            Mood::IsSlow(wait) => tokio::time::sleep(wait).await,
            _ => {}
        }
        let done = work.await?;
        match mood {
            Mood::WorksAndFails => return Err(not_in_the_mood().into()),
            Mood::WorksAndFailsAfter(calls) if call >= calls => return Err(not_in_the_mood().into()),
            Mood::HangsAfter(calls) if call >= calls => self.hang().await,
            _ => {}
        }
        Ok(done)
    }
}

fn not_in_the_mood() -> BackendError {
    BackendError::plain(Trouble::Unavailable, "moody://", "it is not in the mood")
}

/// An index whose writes are moody. It remembers which checkpoint was stored after each of them.
#[derive(Debug)]
pub(crate) struct MoodyStore {
    pub(crate) moods: Moods,
    checkpoints: Mutex<Vec<u64>>,
    inner: Arc<dyn ActivityStore>,
}

impl MoodyStore {
    pub(crate) fn new(inner: &Arc<dyn ActivityStore>) -> Arc<Self> {
        Arc::new(Self { moods: Moods::new(), checkpoints: Mutex::default(), inner: Arc::clone(inner) })
    }

    /// The checkpoint as it was found after each that was stored.
    pub(crate) async fn checkpoints(&self) -> Vec<u64> {
        self.checkpoints.lock().await.clone()
    }
}

#[async_trait]
impl ActivityStore for MoodyStore {
    async fn apply(&self, changes: &[AccountActivity]) -> Result<(), BackendError> {
        self.moods.act(self.inner.apply(changes)).await
    }

    async fn get(&self, cache_key: &CacheKey) -> Result<Option<AccountActivity>, BackendError> {
        self.inner.get(cache_key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Page, ListError> {
        self.inner.list(request).await
    }

    async fn counts(&self, tenant: Option<&TenantId>) -> Result<Counts, BackendError> {
        self.inner.counts(tenant).await
    }

    async fn checkpoint(&self, partition: u32) -> Result<Option<Checkpoint>, BackendError> {
        self.inner.checkpoint(partition).await
    }

    async fn store_checkpoint(&self, partition: u32, checkpoint: Checkpoint) -> Result<(), BackendError> {
        self.moods.act(self.inner.store_checkpoint(partition, checkpoint)).await?;
        // One look at a time: two that overlap could note the older one last.
        let mut checkpoints = self.checkpoints.lock().await;
        checkpoints.extend(self.inner.checkpoint(partition).await?.map(|checkpoint| checkpoint.next_offset));
        Ok(())
    }
}

/// Dead letters that are parked when they are in the mood.
#[derive(Debug)]
pub(crate) struct MoodyLetters {
    pub(crate) moods: Moods,
    inner: Arc<dyn DeadLetters>,
}

impl MoodyLetters {
    pub(crate) fn new(inner: &Arc<dyn DeadLetters>) -> Arc<Self> {
        Arc::new(Self { moods: Moods::new(), inner: Arc::clone(inner) })
    }
}

#[async_trait]
impl ParkLetters for MoodyLetters {
    async fn park(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError> {
        let parked = async {
            match self.inner.park(letters).await {
                Err(DeadLetterError::Log(error)) => Err(error),
                other => Ok(other),
            }
        };
        self.moods.act(parked).await?
    }
}

/// A log that is read, and appended to, when it is in the mood. It counts the bytes it has given.
#[derive(Debug)]
pub(crate) struct MoodyLog {
    pub(crate) moods: Arc<Moods>,
    pub(crate) appends: Moods,
    pub(crate) given_bytes: Arc<AtomicUsize>,
    inner: Arc<dyn ActivityLog>,
}

impl MoodyLog {
    pub(crate) fn new(inner: &Arc<dyn ActivityLog>) -> Arc<Self> {
        Arc::new(Self {
            moods: Arc::new(Moods::new()),
            appends: Moods::new(),
            given_bytes: Arc::default(),
            inner: Arc::clone(inner),
        })
    }
}

#[async_trait]
impl ActivityLog for MoodyLog {
    async fn partitions(&self) -> Result<u32, LogError> {
        self.moods.act(self.inner.partitions()).await
    }

    async fn append_sealed(&self, partition: u32, events: &[SealedEvent]) -> Result<(), AppendError> {
        let appended = async {
            match self.inner.append_sealed(partition, events).await {
                Err(AppendError::Log(error)) => Err(error),
                other => Ok(other),
            }
        };
        self.appends.act(appended).await?
    }

    async fn read(&self, partition: u32, position: Position) -> Result<Box<dyn LogReader>, LogError> {
        let inner = self.moods.act(self.inner.read(partition, position)).await?;
        Ok(Box::new(MoodyReader { moods: Arc::clone(&self.moods), given_bytes: Arc::clone(&self.given_bytes), inner }))
    }

    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        self.inner.bounds(partition).await
    }
}

struct MoodyReader {
    moods: Arc<Moods>,
    given_bytes: Arc<AtomicUsize>,
    inner: Box<dyn LogReader>,
}

#[async_trait]
impl LogReader for MoodyReader {
    async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<LogMessage>, LogError> {
        let messages = self.moods.act(self.inner.next(max, wait)).await?;
        self.given_bytes.fetch_add(messages.iter().map(LogMessage::body_bytes).sum(), SeqCst);
        Ok(messages)
    }
}

/// Leases of partitions that are moody.
#[derive(Debug)]
pub(crate) struct MoodyLeases {
    pub(crate) moods: Moods,
    inner: Arc<dyn PartitionLeases>,
}

impl MoodyLeases {
    pub(crate) fn new(inner: Arc<dyn PartitionLeases>) -> Arc<Self> {
        Arc::new(Self { moods: Moods::new(), inner })
    }
}

#[async_trait]
impl PartitionLeases for MoodyLeases {
    async fn announce(&self, member: &MemberId, hold: Duration) -> Result<LeaseView, BackendError> {
        self.moods.act(self.inner.announce(member, hold)).await
    }

    async fn acquire(
        &self,
        member: &MemberId,
        partitions: &[u32],
        most: usize,
        hold: Duration,
    ) -> Result<BTreeSet<u32>, BackendError> {
        self.moods.act(self.inner.acquire(member, partitions, most, hold)).await
    }

    async fn release(&self, member: &MemberId, partitions: &BTreeSet<u32>) -> Result<(), BackendError> {
        self.moods.act(self.inner.release(member, partitions)).await
    }

    async fn leave(&self, member: &MemberId) -> Result<(), BackendError> {
        self.moods.act(self.inner.leave(member)).await
    }
}
