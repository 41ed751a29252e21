//! Follows one partition: from its checkpoint, again and again, until it is told to end or the log has a gap.

use std::sync::Arc;
use std::time::Duration;

use common::backend::BackendError;
use common::index::ActivityStore;
use common::log::{ActivityLog, DeadLetters, LogError, Position};
use common::retry::{Retry, Setback};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinError;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::apply::Applier;
use super::read_ahead::ReadAhead;
use super::status::Noted;
use super::{ProjectorError, ProjectorSettings};

/// A session that lived this long was well: the one after it begins with the shortest wait.
const WELL: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Follower {
    pub(super) log: Arc<dyn ActivityLog>,
    pub(super) dead_letters: Arc<dyn DeadLetters>,
    pub(super) store: Arc<dyn ActivityStore>,
    pub(super) settings: ProjectorSettings,
    pub(super) noted: Noted,
    pub(super) stop: CancellationToken,
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
                Ok(()) => break,
                Err(SessionError::Log(gap @ LogError::Gap { .. })) => return Err(self.stop_at(gap)),
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

    fn stop_at(&self, gap: LogError) -> ProjectorError {
        tracing::error!(%gap, "the projector cannot go on by itself");
        self.noted.stopped(Some(gap.to_string()));
        ProjectorError::Gap(gap)
    }

    async fn supervised_session(&self) -> Result<(), SessionError> {
        let session = self.clone().session();
        AbortOnDropHandle::new(tokio::spawn(session)).await?
    }

    /// Reads and applies from the checkpoint on, until the end is told or the reader fails. Either way, what was read
    /// is applied first.
    async fn session(self) -> Result<(), SessionError> {
        self.noted.opening();
        let Some(opened) = self.stop.run_until_cancelled(self.open()).await else {
            return Ok(());
        };
        let (received, to_apply) = mpsc::channel(self.settings.held_messages);
        let reading = ReadAhead {
            reader: opened?,
            budget: Arc::new(Semaphore::new(self.settings.held_bytes)),
            received,
            noted: self.noted.clone(),
            stop: self.stop.clone(),
        };
        let reading = AbortOnDropHandle::new(tokio::spawn(reading.run()));
        let applier =
            Applier { dead_letters: self.dead_letters, store: self.store, settings: self.settings, noted: self.noted };
        applier.run(to_apply).await;
        Ok(reading.await??)
    }

    async fn open(&self) -> Result<Box<dyn common::log::LogReader>, SessionError> {
        let partition = self.noted.partition;
        let checkpoint = self.store.checkpoint(partition).await?;
        let position = checkpoint.map_or(Position::First, Position::Offset);
        let reader = self.log.read(partition, position).await?;
        self.noted.following_from(checkpoint.unwrap_or_default());
        Ok(reader)
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
