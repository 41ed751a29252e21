//! The relay: brings events from the outbox to the log, in micro-batches, and forgets none.
//!
//! ```text
//! take ──▶ publish ──▶ confirm          upkeep: rewind, trim, look at the backlog
//! ```
//!
//! - An event that arrives while nothing is under way is appended at once. While appends are outstanding, what
//!   arrives waits for the others, but no longer than [`RelaySettings::max_age`].
//! - An entry is confirmed in the outbox only after the log has confirmed it. Whatever happens in between, it comes
//!   back after [`RelaySettings::visibility`], to this relay or another one; duplicates are harmless.
//! - The log may lose what it confirmed before it was on its disk. So confirmed entries are kept for
//!   [`RelaySettings::grace`], and sent again when the relay starts and when the log's connection was lost.
//! - Nothing is given up: whatever fails is tried again, slower and slower.
//! - At most [`RelaySettings::held_events`] events are in memory, each of a few kilobytes at most.

mod confirm;
mod pending;
mod publish;
mod settings;
mod status;
mod take;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use common::log::ActivityLog;
use common::token_cache::Outbox;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use settings::RelaySettings;
pub use status::{Reachability, RelayReport, RelayStatus};

/// Drains one outbox into the log. Several may share an outbox.
#[derive(Debug)]
pub struct Relay {
    outbox: Arc<dyn Outbox>,
    log: Arc<dyn ActivityLog>,
    settings: RelaySettings,
    status: watch::Sender<RelayStatus>,
}

impl Relay {
    /// A relay that does nothing before [`run`](Self::run).
    pub fn new(outbox: Arc<dyn Outbox>, log: Arc<dyn ActivityLog>, settings: RelaySettings) -> Self {
        Self { outbox, log, settings: settings.within_bounds(), status: watch::Sender::default() }
    }

    /// What it is doing, for as long as somebody wants to know.
    pub fn status(&self) -> watch::Receiver<RelayStatus> {
        self.status.subscribe()
    }

    /// Relays until `shutdown`: then it stops taking, sends what it has taken, waits for the log's confirms for
    /// [`RelaySettings::shutdown_grace`] at most, and confirms them.
    ///
    /// It has no error to return: what fails is tried again, and shows in the [`status`](Self::status).
    ///
    /// # Cancel safety
    /// When the future is dropped, what it held comes back to the outbox after [`RelaySettings::visibility`].
    pub async fn run(self, shutdown: CancellationToken) -> RelayReport {
        let shared = Shared {
            room: Arc::new(Semaphore::new(self.settings.held_events)),
            lost: Arc::default(),
            partitions: Arc::default(),
        };
        let upkeep = AbortOnDropHandle::new(tokio::spawn(self.upkeep(&shared).run()));
        let mut stages = self.spawn_stages(&shared, &shutdown);
        tokio::select! {
            () = all_done(&mut stages) => {}
            () = async { shutdown.cancelled().await; sleep(self.settings.shutdown_grace).await } => {
                tracing::warn!("the relay did not finish within its grace period; what it held comes back by itself");
            }
        }
        let left = self.settings.held_events.saturating_sub(shared.room.available_permits());
        drop((stages, upkeep));
        self.status.borrow().report(left)
    }

    fn upkeep(&self, shared: &Shared) -> upkeep::Upkeep {
        upkeep::Upkeep {
            outbox: Arc::clone(&self.outbox),
            log: Arc::clone(&self.log),
            settings: self.settings,
            status: self.status.clone(),
            shared: shared.clone(),
        }
    }

    fn spawn_stages(&self, shared: &Shared, shutdown: &CancellationToken) -> JoinSet<()> {
        let (taken, to_publish) = mpsc::channel(1);
        let (published, to_confirm) = mpsc::channel(self.settings.outstanding_batches);
        let taker = take::Taker {
            outbox: Arc::clone(&self.outbox),
            settings: self.settings,
            status: self.status.clone(),
            room: Arc::clone(&shared.room),
            shutdown: shutdown.clone(),
            taken,
            is_busy: Arc::default(),
        };
        let log = Arc::clone(&self.log);
        let publisher = publish::Publisher::new(log, self.settings, self.status.clone(), published, shared.clone());
        let confirmer = confirm::Confirmer {
            outbox: Arc::clone(&self.outbox),
            settings: self.settings,
            status: self.status.clone(),
        };
        let mut stages = JoinSet::new();
        stages.spawn(taker.clone().help());
        stages.spawn(taker.run());
        stages.spawn(publisher.run(to_publish, shutdown.clone()));
        stages.spawn(confirmer.run(to_confirm));
        stages
    }
}

/// What the stages of one relay have in common.
#[derive(Clone)]
struct Shared {
    /// Room for events in memory: taken by the first stage, given back by the last.
    room: Arc<Semaphore>,
    /// Told when the log is there at the start, and when it failed and is back: it may have lost what it confirmed before.
    lost: Arc<Notify>,
    /// How many partitions the log has; more may be added while the relay runs.
    partitions: Arc<AtomicU32>,
}

/// Waits for the stages, each of which ends when the one before it has.
async fn all_done(stages: &mut JoinSet<()>) {
    while let Some(done) = stages.join_next().await {
        if let Err(error) = done
            && error.is_panic()
        {
            // Without one of its stages the relay would stand still and look alive.
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
