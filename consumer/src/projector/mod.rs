//! The projector: follows the log and keeps the index equal to its fold.
//!
//! ```text
//! per partition:  read ahead ──▶ fold ──▶ apply ──▶ park what is refused ──▶ store the checkpoint
//! ```
//!
//! - What has arrived is applied at once. What arrives meanwhile waits, within bounds, and goes together.
//! - The checkpoint moves only after everything before it is applied, or parked in the dead letters. So events may be
//!   applied twice, after a crash or by a second projector; the index is the same.
//! - An event is parked for what it is (wrong, or too far ahead of the clock), never for what a server did: an index
//!   or a dead-letter queue that is away pauses its partitions, which keep their place.
//! - A log that no longer has what comes next stops the projector: only somebody who knows may skip it.

mod apply;
mod batch;
mod follow;
mod read_ahead;
mod settings;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::index::ActivityStore;
use common::log::{ActivityLog, DeadLetters};
use common::retry::{Retry, Setback};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

pub(crate) use self::batch::Batch;
use self::follow::Follower;
use self::status::Noted;
use crate::gap::LogGap;
pub use settings::ProjectorSettings;
pub use status::{PartitionState, PartitionStatus, ProjectorStatus};

/// Follows all partitions of one log into one index.
#[derive(Debug)]
pub struct Projector {
    log: Arc<dyn ActivityLog>,
    dead_letters: Arc<dyn DeadLetters>,
    store: Arc<dyn ActivityStore>,
    settings: ProjectorSettings,
    status: watch::Sender<ProjectorStatus>,
}

/// What a projector did in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectorReport {
    /// Events applied to the index.
    pub events_applied: u64,
    /// Events parked in the dead letters, by [`common::event::ContractError::code`].
    pub refused: BTreeMap<&'static str, u64>,
    /// The next offset of each partition; what is stored in the index.
    pub next_offsets: BTreeMap<u32, u64>,
    /// Whether all that was received is applied. If not, it is read again at the next start.
    pub is_complete: bool,
}

/// The projector cannot go on by itself.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// The log does not have what comes next.
    #[error("the index cannot be kept equal to the log: {0}")]
    Gap(Box<LogGap>),
}

impl Projector {
    /// A projector that does nothing before [`run`](Self::run).
    pub fn new(
        log: Arc<dyn ActivityLog>,
        dead_letters: Arc<dyn DeadLetters>,
        store: Arc<dyn ActivityStore>,
        settings: ProjectorSettings,
    ) -> Self {
        Self { log, dead_letters, store, settings: settings.within_bounds(), status: watch::Sender::default() }
    }

    /// What it is doing, for as long as somebody wants to know.
    pub fn status(&self) -> watch::Receiver<ProjectorStatus> {
        self.status.subscribe()
    }

    /// Follows the log until `shutdown`: then it stops reading, applies what it has read, stores the checkpoints, and
    /// returns, after [`ProjectorSettings::shutdown_grace`] at most.
    ///
    /// # Errors
    /// [`ProjectorError`], when a partition has a gap; the others have stopped in order then.
    ///
    /// # Cancel safety
    /// When the future is dropped, what was read is read again at the next start.
    pub async fn run(self, shutdown: CancellationToken) -> Result<ProjectorReport, ProjectorError> {
        let stop = shutdown.child_token();
        let mut followers = JoinSet::new();
        let gap = self.follow_all(&mut followers, &stop).await;
        stop.cancel();
        let is_complete = self.wait_for(&mut followers).await;
        match gap {
            Some(gap) => Err(gap),
            None => Ok(self.status.borrow().report(is_complete)),
        }
    }

    /// Keeps a follower on every partition, those that are added later included, until `stop` or a gap.
    async fn follow_all(
        &self,
        followers: &mut JoinSet<Result<(), ProjectorError>>,
        stop: &CancellationToken,
    ) -> Option<ProjectorError> {
        let mut retry = Retry::new(self.settings.retry);
        let mut followed = 0;
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return None,
                Some(ended) = followers.join_next() => if let Some(gap) = gap_in(ended) { return Some(gap) },
                count = self.partitions_at(look_at) => {
                    let wait = match count {
                        Ok(count) => {
                            self.follow_new(followers, followed..count, stop);
                            followed = followed.max(count);
                            retry.reset();
                            self.settings.look_every
                        }
                        Err(setback) => retry.delay_after(&setback),
                    };
                    look_at = Instant::now() + wait;
                }
            }
        }
    }

    async fn partitions_at(&self, look_at: Instant) -> Result<u32, Setback> {
        sleep_until(look_at).await;
        let partitions = self.log.partitions().await;
        let setback = partitions.as_ref().err().map(Setback::from);
        if let Some(why) = &setback {
            tracing::warn!(%why, "the partitions of the log are not known; looking again");
        }
        self.status.send_modify(|status| status.trouble = setback.as_ref().map(|setback| setback.why.clone()));
        partitions.map_err(|error| Setback::from(&error))
    }

    fn follow_new(
        &self,
        followers: &mut JoinSet<Result<(), ProjectorError>>,
        partitions: std::ops::Range<u32>,
        stop: &CancellationToken,
    ) {
        for partition in partitions {
            let follower = Follower {
                log: Arc::clone(&self.log),
                dead_letters: Arc::clone(&self.dead_letters),
                store: Arc::clone(&self.store),
                settings: self.settings,
                noted: Noted { partition, status: self.status.clone() },
                stop: stop.clone(),
            };
            followers.spawn(follower.follow());
        }
    }

    /// Says whether all followers ended in order within the grace period.
    async fn wait_for(&self, followers: &mut JoinSet<Result<(), ProjectorError>>) -> bool {
        let all_ended = async {
            let mut in_order = true;
            while let Some(ended) = followers.join_next().await {
                in_order &= ended.is_ok();
            }
            in_order
        };
        tokio::select! {
            in_order = all_ended => in_order,
            () = sleep(self.settings.shutdown_grace) => {
                tracing::warn!("the projector did not finish within its grace period; what is left is read again");
                false
            }
        }
    }
}

fn gap_in(ended: Result<Result<(), ProjectorError>, JoinError>) -> Option<ProjectorError> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(gap)) => Some(gap),
        // A follower catches the panics of its sessions; what comes here is its own, and it follows no more.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}
