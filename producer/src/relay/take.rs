//! Takes entries from the outbox, as many as there is room for.

use std::sync::Arc;
use std::time::Duration;

use common::retry::{Retry, Setback};
use common::token_cache::{Outbox, OutboxEntry};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::RelaySettings;
use super::status::{RelayStatus, Server, note_failure, note_success};

/// One that takes and one that helps.
const TAKERS: usize = 2;
/// The most entries of one call.
const TAKE: usize = 1_000;
/// How long one call waits for a first entry; a shutdown waits for the call that is under way.
const WAIT: Duration = Duration::from_millis(500);

/// Entries with the room they take up, which is given back when they are confirmed in the outbox.
pub(super) struct Taken {
    pub(super) entries: Vec<OutboxEntry>,
    pub(super) room: OwnedSemaphorePermit,
}

#[derive(Clone)]
pub(super) struct Taker {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) settings: RelaySettings,
    pub(super) status: watch::Sender<RelayStatus>,
    pub(super) room: Arc<Semaphore>,
    pub(super) shutdown: CancellationToken,
    pub(super) taken: mpsc::Sender<Taken>,
    /// Told when there is more than one call gives.
    pub(super) is_busy: Arc<Notify>,
}

/// What became of a call.
#[derive(PartialEq, Eq)]
enum Took {
    /// As much as it may give: there may be more.
    All,
    /// Less, or it failed.
    Less,
    /// Nobody is there to hand on to.
    InVain,
}

impl Taker {
    /// Takes until the shutdown. A call that is under way then is waited for: what it takes is taken.
    pub(super) async fn run(self) {
        let mut retry = Retry::new(self.settings.retry);
        while self.shutdown.run_until_cancelled(self.room_for_more()).await.is_some() {
            match self.take(WAIT, &mut retry).await {
                Took::All => self.is_busy.notify_one(),
                Took::Less => {}
                Took::InVain => return,
            }
        }
    }

    /// Takes, too, while there is more than one call gives: one reads what it was given while the other asks.
    pub(super) async fn help(self) {
        let mut retry = Retry::new(self.settings.retry);
        while self.shutdown.run_until_cancelled(self.is_busy.notified()).await.is_some() {
            let mut took = Took::All;
            while took == Took::All && self.shutdown.run_until_cancelled(self.room_for_more()).await.is_some() {
                took = self.take(Duration::ZERO, &mut retry).await;
            }
            if took == Took::InVain {
                return;
            }
        }
    }

    async fn take(&self, wait: Duration, retry: &mut Retry) -> Took {
        match self.outbox.take(self.most(), self.settings.visibility, wait).await {
            Ok(entries) => {
                retry.reset();
                note_success(&self.status, Server::Outbox);
                let took = if entries.len() >= self.most() { Took::All } else { Took::Less };
                if self.hand_on(entries).await { took } else { Took::InVain }
            }
            Err(error) => {
                let setback = Setback::from(&error);
                note_failure(&self.status, Server::Outbox, &setback);
                self.shutdown.run_until_cancelled(sleep(retry.delay_after(&setback))).await;
                Took::Less
            }
        }
    }

    fn most(&self) -> usize {
        TAKE.min(self.settings.held_events.div_ceil(TAKERS))
    }

    /// Waits until the log takes events, since what cannot be sent is better left to a relay that can, and until there
    /// is room for the calls of both: nobody else takes room, so there is as much for this one when it has its entries.
    /// The rewind of the start comes first, or what is taken before it would be sent twice.
    async fn room_for_more(&self) {
        let mut status = self.status.subscribe();
        // The sender is in `self`, and the semaphore is never closed: neither wait can fail.
        let _ = status.wait_for(|status| status.log.is_up() && status.rewinds > 0).await;
        let all = (TAKERS * self.most()).min(self.settings.held_events);
        let _ = self.room.acquire_many(u32::try_from(all).unwrap_or(u32::MAX)).await;
    }

    /// Says whether there is still somebody to hand on to.
    async fn hand_on(&self, mut entries: Vec<OutboxEntry>) -> bool {
        // More than was asked for would be more than there is room for; the rest comes back.
        entries.truncate(self.most());
        let used = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        match Arc::clone(&self.room).acquire_many_owned(used).await {
            Ok(room) if !entries.is_empty() => self.taken.send(Taken { entries, room }).await.is_ok(),
            _ => true,
        }
    }
}
