//! Follows one partition: from its checkpoint, again and again, until it is told to end or the log has a gap.
//!
//! A session works on the generation of the index that is live when it begins: its checkpoint, its accounts. When
//! another one becomes live, the next session goes on from the checkpoint of that one. So it does not matter how late
//! a swap is noticed: nothing is skipped, and what was applied to the old one only is applied to the new one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use common::backend::BackendError;
use common::index::ActivityStore;
use common::log::{ActivityLog, Bounds, LogError, LogReader, ParkLetters, Position};
use common::retry::{Retry, Setback};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinError;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::apply::Applier;
use super::gather::Gatherer;
use super::read_ahead::ReadAhead;
use super::status::Noted;
use super::{ProjectorError, ProjectorSettings};
use crate::gap::{LogGap, headroom};
use crate::resume::resume;

/// A session that lived this long was well: the one after it begins with the shortest wait.
const WELL: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Follower {
    pub(super) log: Arc<dyn ActivityLog>,
    pub(super) dead_letters: Arc<dyn ParkLetters>,
    pub(super) store: Arc<dyn ActivityStore>,
    pub(super) settings: ProjectorSettings,
    pub(super) noted: Noted,
    pub(super) stop: CancellationToken,
}

/// Why a session ended in order.
enum Ended {
    /// It was told to.
    Told,
    /// Another generation of the index is live.
    Swapped,
    /// The log has lost its end while it was read.
    LostEnd,
}

/// Why a session ended that was not told to.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Checkpoint(#[from] BackendError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("a task of the projector panicked; this is a bug")]
    Panicked(#[from] JoinError),
}

impl Follower {
    pub(super) async fn follow(self) -> Result<(), ProjectorError> {
        let mut retry = Retry::new(self.settings.retry);
        loop {
            let began = Instant::now();
            let setback = match self.supervised_session().await {
                Ok(Ended::Told) => break,
                Ok(Ended::Swapped | Ended::LostEnd) => continue,
                Err(SessionError::Log(LogError::Gap { asked, first, next, .. })) => {
                    return Err(self.stop_at(asked, Bounds { first, next }).await);
                }
                Err(error) => error.setback(),
            };
            self.noted.paused(&setback);
            if began.elapsed() >= WELL {
                retry.reset();
            }
            if self.stop.run_until_cancelled(sleep(retry.delay_after(&setback))).await.is_none() {
                break;
            }
        }
        self.noted.stopped(None);
        Ok(())
    }

    async fn stop_at(&self, asked: u64, bounds: Bounds) -> ProjectorError {
        let gap = LogGap::look(&*self.log, &*self.store, self.noted.partition, asked, bounds).await;
        tracing::error!(%gap, "the projector cannot go on by itself");
        self.noted.stopped_at(&gap);
        ProjectorError::Gap(Box::new(gap))
    }

    async fn supervised_session(&self) -> Result<Ended, SessionError> {
        let session = self.clone().session();
        AbortOnDropHandle::new(tokio::spawn(session)).await?
    }

    /// Reads and applies from the checkpoint on, until the end is told or the reader fails; either way, what was read
    /// is applied first. When another generation becomes live it stops at once: that one knows what it has seen.
    async fn session(mut self) -> Result<Ended, SessionError> {
        self.noted.opening();
        if let Some(pinned) = self.store.pin().await? {
            self.store = pinned;
        }
        let Some(opened) = self.stop.run_until_cancelled(self.open()).await else {
            return Ok(Ended::Told);
        };
        let reader = opened?;
        tokio::select! {
            done = self.clone().read_and_apply(reader) => match done {
                // The next session goes on from where the log still has what was read.
                Err(SessionError::Log(LogError::Gap { asked, next, .. })) if asked > next => Ok(Ended::LostEnd),
                done => done.map(|()| Ended::Told),
            },
            () = self.swapped() => Ok(Ended::Swapped),
            never = self.watch_retention() => match never {},
        }
    }

    async fn read_and_apply(self, reader: Box<dyn LogReader>) -> Result<(), SessionError> {
        let (received, to_gather) = mpsc::channel(self.settings.held_messages);
        let reading = ReadAhead {
            reader,
            budget: Arc::new(Semaphore::new(self.settings.held_bytes)),
            received,
            noted: self.noted.clone(),
            stop: self.stop.clone(),
        };
        let (gathered, to_apply) = mpsc::channel(1);
        let wanted = Arc::new(Notify::new());
        let gatherer = Gatherer::new(self.settings.batch_events);
        let gathering = gatherer.run(to_gather, gathered, Arc::clone(&wanted));
        let applier = Applier {
            dead_letters: self.dead_letters,
            store: self.store,
            settings: self.settings,
            noted: self.noted,
            wanted,
        };
        let reading = AbortOnDropHandle::new(tokio::spawn(reading.run()));
        let gathering = AbortOnDropHandle::new(tokio::spawn(gathering));
        applier.run(to_apply).await;
        gathering.await?;
        Ok(reading.await??)
    }

    /// Returns when another generation is live.
    async fn swapped(&self) {
        loop {
            sleep(self.settings.look_for_swap_every).await;
            // An index that does not answer is noticed where something is applied.
            if let Ok(false) = self.store.is_live().await {
                tracing::info!(partition = self.noted.partition, "another generation of the index is live now");
                return;
            }
        }
    }

    /// Notes, again and again, how long the log still keeps what is not applied.
    async fn watch_retention(&self) -> Infallible {
        loop {
            if let Ok(headroom) = headroom(&*self.log, &*self.store, self.noted.partition).await {
                self.noted.headroom(headroom, self.settings.headroom_warning);
            }
            sleep(self.settings.look_at_retention_every).await;
        }
    }

    async fn open(&self) -> Result<Box<dyn LogReader>, SessionError> {
        let partition = self.noted.partition;
        let Some(checkpoint) = self.store.checkpoint(partition).await? else {
            let reader = self.log.read(partition, Position::First).await?;
            self.noted.following_from(0);
            return Ok(reader);
        };
        let resumed = resume(&*self.log, partition, checkpoint).await?;
        if let Some(lost) = resumed.lost {
            self.noted.lost_end(lost);
        }
        self.noted.following_from(resumed.next_offset);
        Ok(resumed.reader)
    }
}

impl SessionError {
    fn setback(&self) -> Setback {
        match self {
            Self::Checkpoint(error) => error.into(),
            Self::Log(error) => error.into(),
            Self::Panicked(_) => Setback { why: self.to_string(), is_transient: false },
        }
    }
}
