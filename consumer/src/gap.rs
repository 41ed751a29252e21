//! No silent gap: what is missing where the log no longer has what comes next, and how far off that is.

use std::fmt;
use std::time::Duration;

use common::backend::BackendError;
use common::index::{ActivityStore, Checkpoint, IndexUpkeep};
use common::log::{ActivityLog, Bounds, LogError, LogMessage, Position};
use jiff::{SignedDuration, Timestamp};

use crate::resume::resume;

/// How long the first message of a partition may take to come before it is taken for empty.
const FIRST_MESSAGE: Duration = Duration::from_secs(2);

/// Part of the log was gone before it was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogGap {
    /// The partition.
    pub partition: u32,
    /// The offset that comes next, the index's checkpoint.
    pub asked: u64,
    /// What the log has.
    pub bounds: Bounds,
    /// The newest event before the checkpoint, where it is known.
    pub applied_until: Option<Timestamp>,
    /// The first event the log still has, where there is one.
    pub kept_from: Option<Timestamp>,
}

/// Whether there is a gap could not be told.
#[derive(Debug, thiserror::Error)]
pub enum GapError {
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
    /// See [`BackendError`].
    #[error(transparent)]
    Index(#[from] BackendError),
}

impl LogGap {
    /// The gap of one partition, if it has one.
    ///
    /// # Errors
    /// [`GapError`].
    pub async fn find(
        log: &dyn ActivityLog,
        store: &dyn ActivityStore,
        partition: u32,
    ) -> Result<Option<Self>, GapError> {
        let Some(checkpoint) = store.checkpoint(partition).await? else { return Ok(None) };
        match resume(log, partition, checkpoint).await {
            Ok(_) => Ok(None),
            Err(LogError::Gap { asked, first, next, .. }) => {
                Ok(Some(Self::look(log, store, partition, asked, Bounds { first, next }).await))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is known of a gap that was met. Times that cannot be had now are left out.
    pub(crate) async fn look(
        log: &dyn ActivityLog,
        store: &dyn ActivityStore,
        partition: u32,
        asked: u64,
        bounds: Bounds,
    ) -> Self {
        let checkpoint = store.checkpoint(partition).await.ok().flatten();
        let kept_from = first_message(log, partition).await.ok().flatten().and_then(|first| oldest_event(&first));
        let applied_until = checkpoint.and_then(|checkpoint| checkpoint.newest_event);
        Self { partition, asked, bounds, applied_until, kept_from }
    }

    /// Whether the log was cut. If not, it was made anew, or is another one.
    pub fn is_cut(&self) -> bool {
        self.asked < self.bounds.first
    }

    /// How much time of the log is missing, by the times of its events.
    pub fn missing(&self) -> Option<SignedDuration> {
        let (until, from) = self.applied_until.zip(self.kept_from).filter(|_| self.is_cut())?;
        Some(from.duration_since(until).max(SignedDuration::ZERO))
    }

    /// Goes on without what is missing: the next reader begins with the first message the log has.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn accept(&self, store: &dyn IndexUpkeep) -> Result<(), BackendError> {
        store.forget_checkpoint(self.partition).await?;
        store.store_checkpoint(self.partition, Checkpoint::at(self.bounds.first)).await
    }
}

impl fmt::Display for LogGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, asked, bounds: Bounds { first, next }, .. } = self;
        write!(f, "partition {partition} has offsets {first} to {next} and the index stands at {asked}: ")?;
        match self.missing() {
            _ if !self.is_cut() => write!(f, "the log was made anew, or is another one")?,
            Some(missing) => write!(f, "{} seconds of the log are gone", missing.as_secs())?,
            None => write!(f, "part of the log is gone")?,
        }
        if let Some(time) = self.applied_until {
            write!(f, ", last applied event {time}")?;
        }
        if let Some(time) = self.kept_from {
            write!(f, ", first kept event {time}")?;
        }
        f.write_str(
            ". Three ways on: `consumer project --accept-gap` goes on without it; `consumer rebuild` makes the index \
             anew from what the log has; `consumer seed` fills it up from the token caches and goes on",
        )
    }
}

/// How long it is until the log's retention reaches what is not applied, if nothing more is applied: how much of what
/// is applied it still keeps. `None` where nothing was ever cut off the partition, or no time is known.
///
/// # Errors
/// [`GapError`].
pub async fn headroom(
    log: &dyn ActivityLog,
    store: &dyn ActivityStore,
    partition: u32,
) -> Result<Option<SignedDuration>, GapError> {
    let checkpoint = store.checkpoint(partition).await?;
    let Some(applied_until) = checkpoint.and_then(|checkpoint| checkpoint.newest_event) else { return Ok(None) };
    let first = first_message(log, partition).await?.filter(|first| first.offset > 0);
    let kept_from = first.as_ref().and_then(oldest_event);
    Ok(kept_from.map(|kept_from| applied_until.duration_since(kept_from).max(SignedDuration::ZERO)))
}

/// The time of the oldest event that the partition still has, where its first message has any.
///
/// # Errors
/// [`LogError`].
pub async fn kept_from(log: &dyn ActivityLog, partition: u32) -> Result<Option<Timestamp>, LogError> {
    Ok(first_message(log, partition).await?.as_ref().and_then(oldest_event))
}

pub(crate) async fn first_message(log: &dyn ActivityLog, partition: u32) -> Result<Option<LogMessage>, LogError> {
    let mut reader = log.read(partition, Position::First).await?;
    Ok(reader.next(1, FIRST_MESSAGE).await?.into_iter().next())
}

pub(crate) fn oldest_event(message: &LogMessage) -> Option<Timestamp> {
    message.events.iter().flatten().map(|event| event.time).min()
}
