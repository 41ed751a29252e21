//! The projector: follows the log and keeps the index equal to its fold.
//!
//! ```text
//! per partition:  read ahead ──▶ gather and fold ──▶ apply ──▶ park what is refused ──▶ store the checkpoint
//! ```
//!
//! - What has arrived is applied at once. What arrives meanwhile is folded, within bounds, and goes together.
//! - The checkpoint moves only after everything before it is applied, or parked in the dead letters. So events may be
//!   applied twice, after a crash or by a second projector; the index is the same.
//! - An event is parked for what it is (wrong, or too far ahead of the clock), never for what a server did: an index
//!   or a dead-letter queue that is away pauses its partitions, which keep their place.
//! - Several projectors may share the partitions, see [`Projector::sharing`].
//! - A log that no longer has what comes next stops the projector: only somebody who knows may skip it.

mod apply;
mod batch;
mod count;
mod crew;
mod follow;
mod gather;
mod health;
mod read_ahead;
mod settings;
mod share;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::backend::BackendError;
use common::index::{ActivityStore, PartitionLeases};
use common::log::{ActivityLog, ParkLetters};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::batch::Tally;
use self::count::Counter;
use self::crew::Crew;
use self::follow::Follower;
use self::share::{Share, Shared};
use self::status::Noted;
use crate::gap::LogGap;
pub use settings::ProjectorSettings;
pub use status::{PartitionState, PartitionStatus, ProjectorStatus, Sharing};

/// Follows the partitions of one log into one index: all, or a share of them.
#[derive(Debug)]
pub struct Projector {
    log: Arc<dyn ActivityLog>,
    dead_letters: Arc<dyn ParkLetters>,
    store: Arc<dyn ActivityStore>,
    settings: ProjectorSettings,
    share: Option<Share>,
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
        dead_letters: Arc<dyn ParkLetters>,
        store: Arc<dyn ActivityStore>,
        settings: ProjectorSettings,
    ) -> Self {
        let (settings, status) = (settings.within_bounds(), watch::Sender::default());
        Self { log, dead_letters, store, settings, share: None, status }
    }

    /// Shares the partitions with the other projectors of the same index, by leases of this length: what one that dies
    /// has followed is taken over soon after its leases have run out. A lease of another is never waited for where it
    /// cannot be asked: then what was followed is followed on, and all where it never could be.
    #[must_use]
    pub fn sharing(self, leases: Arc<dyn PartitionLeases>, lease: Duration) -> Self {
        Self { share: Some(Share::new(leases, lease)), ..self }
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
        if let Some(share) = &self.share {
            share.leave().await;
        }
        match gap {
            Some(gap) => Err(gap),
            None => Ok(self.status.borrow().report(is_complete)),
        }
    }

    /// Keeps a follower on every partition that is this projector's, those that are added later included, until `stop`
    /// or a gap.
    async fn follow_all(
        &self,
        followers: &mut JoinSet<Result<(), ProjectorError>>,
        stop: &CancellationToken,
    ) -> Option<ProjectorError> {
        let (counted, mut count) = watch::channel(0);
        let _counting = AbortOnDropHandle::new(tokio::spawn(self.counter().run(counted)));
        let mut crew = Crew::default();
        let mut last = None;
        let mut look_at = Instant::now();
        loop {
            let partitions = *count.borrow_and_update();
            tokio::select! {
                () = stop.cancelled() => return None,
                Some(ended) = followers.join_next() => {
                    if let Some(gap) = gap_in(ended) {
                        return Some(gap);
                    }
                    self.cede(&crew.forget_ended());
                    look_at = Instant::now();
                }
                Ok(()) = count.changed() => look_at = Instant::now(),
                looked = self.look_at(look_at, partitions, &crew), if partitions > 0 => {
                    let mine = self.mine(partitions, &looked, &mut last);
                    crew.keep_only(&mine);
                    self.follow_new(followers, &mut crew, &mine, stop);
                    self.note(mine, looked);
                    look_at = Instant::now() + self.share.as_ref().map_or(self.settings.look_every, Share::look_every);
                }
            }
        }
    }

    fn counter(&self) -> Counter {
        Counter { log: Arc::clone(&self.log), settings: self.settings, status: self.status.clone() }
    }

    /// Looks at the leases, where the partitions are shared.
    async fn look_at(&self, at: Instant, partitions: u32, crew: &Crew) -> Option<Result<Shared, BackendError>> {
        sleep_until(at).await;
        Some(self.share.as_ref()?.look(partitions, crew).await)
    }

    /// What the look came to, else what it came to the `last` time, else all.
    fn mine(
        &self,
        partitions: u32,
        looked: &Option<Result<Shared, BackendError>>,
        last: &mut Option<BTreeSet<u32>>,
    ) -> BTreeSet<u32> {
        if let Some(Ok(shared)) = looked {
            *last = Some(shared.mine.clone());
        }
        last.clone().unwrap_or_else(|| (0..partitions).collect())
    }

    fn follow_new(
        &self,
        followers: &mut JoinSet<Result<(), ProjectorError>>,
        crew: &mut Crew,
        mine: &BTreeSet<u32>,
        stop: &CancellationToken,
    ) {
        for partition in crew.missing(mine) {
            let stop = stop.child_token();
            let noted = self.noted(partition);
            noted.starting();
            let follower = Follower {
                log: Arc::clone(&self.log),
                dead_letters: Arc::clone(&self.dead_letters),
                store: Arc::clone(&self.store),
                settings: self.settings,
                noted,
                stop: stop.clone(),
            };
            crew.add(partition, stop, followers.spawn(follower.follow()));
        }
    }

    fn noted(&self, partition: u32) -> Noted {
        Noted { partition, status: self.status.clone() }
    }

    fn cede(&self, partitions: &[u32]) {
        for partition in partitions {
            self.noted(*partition).ceded();
        }
    }

    fn note(&self, mine: BTreeSet<u32>, looked: Option<Result<Shared, BackendError>>) {
        let Some(looked) = looked else { return };
        self.status.send_modify(|status| {
            let sharing = status.sharing.get_or_insert_default();
            sharing.mine = mine;
            sharing.looked(looked.map(|shared| shared.members));
        });
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
