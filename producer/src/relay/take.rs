//! Takes entries from the outbox, as many as there is room for.

use std::sync::Arc;
use std::time::Duration;

use common::retry::{Retry, Setback};
use common::token_cache::{Outbox, OutboxEntry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::RelaySettings;
use super::status::{RelayStatus, Server, note_failure, note_success};

/// The most entries of one call.
const TAKE: usize = 1_000;
/// How long one call waits for a first entry; a shutdown waits for the call that is under way.
const WAIT: Duration = Duration::from_millis(500);

/// Entries with the room they take up, which is given back when they are confirmed in the outbox.
pub(super) struct Taken {
    pub(super) entries: Vec<OutboxEntry>,
    pub(super) room: OwnedSemaphorePermit,
}

pub(super) struct Taker {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) settings: RelaySettings,
    pub(super) status: watch::Sender<RelayStatus>,
    pub(super) room: Arc<Semaphore>,
    pub(super) shutdown: CancellationToken,
}

impl Taker {
    /// Takes until the shutdown. A call that is under way then is waited for: what it takes is taken.
    pub(super) async fn run(self, taken: mpsc::Sender<Taken>) {
        let mut retry = Retry::new(self.settings.retry);
        while self.shutdown.run_until_cancelled(self.room_for_more()).await.is_some() {
            match self.outbox.take(self.most(), self.settings.visibility, WAIT).await {
                Ok(entries) => {
                    retry.reset();
                    note_success(&self.status, Server::Outbox);
                    if !self.hand_on(entries, &taken).await {
                        return;
                    }
                }
                Err(error) => {
                    let setback = Setback::from(&error);
                    note_failure(&self.status, Server::Outbox, &setback);
                    self.shutdown.run_until_cancelled(sleep(retry.delay_after(&setback))).await;
                }
            }
        }
    }

    fn most(&self) -> usize {
        TAKE.min(self.settings.held_events)
    }

    /// Waits until there is room for one call and the log takes events: what cannot be sent is better left to a relay
    /// that can. Only this task takes room, so what there is stays. The rewind of the start comes first, or what is
    /// taken before it would be sent twice.
    async fn room_for_more(&self) {
        let mut status = self.status.subscribe();
        // The sender is in `self`, and the semaphore is never closed: neither wait can fail.
        let _ = status.wait_for(|status| status.log.is_up() && status.rewinds > 0).await;
        let most = u32::try_from(self.most()).unwrap_or(u32::MAX);
        let _ = self.room.acquire_many(most).await;
    }

    /// Says whether there is still somebody to hand on to.
    async fn hand_on(&self, mut entries: Vec<OutboxEntry>, taken: &mpsc::Sender<Taken>) -> bool {
        // More than was asked for would be more than there is room for; the rest comes back.
        entries.truncate(self.most());
        let used = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        match Arc::clone(&self.room).acquire_many_owned(used).await {
            Ok(room) if !entries.is_empty() => taken.send(Taken { entries, room }).await.is_ok(),
            _ => true,
        }
    }
}
