//! Beside the stream of events: rewinds after the log may have lost some, forgets what is old, looks at the backlog.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::backend::BackendError;
use common::log::ActivityLog;
use common::retry::Setback;
use common::token_cache::Outbox;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::status::{RelayStatus, Server, note_failure};
use super::{RelaySettings, Shared};

const TICK: Duration = Duration::from_secs(1);
const COUNT_WITHIN: Duration = Duration::from_secs(5);
/// A rewind takes all there is. What is kept longer than the grace period is there because the log was away, and
/// then it is just what the log may have lost.
const ALL: Duration = Duration::from_hours(24 * 365);

pub(super) struct Upkeep {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) log: Arc<dyn ActivityLog>,
    pub(super) settings: RelaySettings,
    pub(super) status: watch::Sender<RelayStatus>,
    pub(super) shared: Shared,
}

/// What was done when.
struct Chores {
    losses: u64,
    /// Entries have to be sent again. True at the start: an earlier relay may have died of what made the log lose them.
    is_rewind_due: bool,
    rewound_at: Option<Instant>,
    trimmed_at: Instant,
    counted_at: Instant,
}

impl Upkeep {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut chores = Chores {
            losses: self.log.append_connection_losses(),
            is_rewind_due: true,
            rewound_at: None,
            trimmed_at: Instant::now(),
            counted_at: Instant::now(),
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.shared.lost.notified() => chores.is_rewind_due = true,
            }
            if let Err(error) = self.look_after(&mut chores).await {
                note_failure(&self.status, Server::Outbox, &Setback::from(&error));
            }
        }
    }

    async fn look_after(&self, chores: &mut Chores) -> Result<(), BackendError> {
        let losses = self.log.append_connection_losses();
        chores.is_rewind_due |= losses != std::mem::replace(&mut chores.losses, losses);
        // While the log is away nothing is forgotten: its return may show that it lost the newest.
        if self.status.borrow().log.is_up() {
            self.rewind(chores).await?;
            self.trim(chores).await?;
            self.count_partitions(chores).await;
        }
        let backlog = self.outbox.backlog().await?;
        self.status.send_modify(|status| {
            status.backlog = backlog;
            status.held_events = self.settings.held_events.saturating_sub(self.shared.room.available_permits());
        });
        Ok(())
    }

    async fn rewind(&self, chores: &mut Chores) -> Result<(), BackendError> {
        let is_too_soon = chores.rewound_at.is_some_and(|at| at.elapsed() < self.settings.rewind_every);
        if !chores.is_rewind_due || is_too_soon {
            return Ok(());
        }
        self.outbox.rewind(ALL).await?;
        chores.is_rewind_due = false;
        chores.rewound_at = Some(Instant::now());
        self.status.send_modify(|status| status.rewinds += 1);
        tracing::info!("the outbox is rewound: what the log may have lost is sent again");
        Ok(())
    }

    async fn count_partitions(&self, chores: &mut Chores) {
        if chores.counted_at.elapsed() < self.settings.look_every {
            return;
        }
        chores.counted_at = Instant::now();
        // Any number will do until the next look: the one that is known, too.
        if let Ok(Ok(partitions)) = timeout(COUNT_WITHIN, self.log.partitions()).await {
            self.shared.partitions.store(partitions, Relaxed);
        }
    }

    async fn trim(&self, chores: &mut Chores) -> Result<(), BackendError> {
        if chores.is_rewind_due || chores.trimmed_at.elapsed() < self.settings.trim_every {
            return Ok(());
        }
        let trimmed = self.outbox.trim(self.settings.grace).await?;
        chores.trimmed_at = Instant::now();
        self.status.send_modify(|status| status.trimmed += trimmed);
        Ok(())
    }
}
