//! Confirms in the outbox what the log has confirmed, many entries at once.

use std::sync::Arc;
use std::time::Duration;

use common::retry::{Retry, Setback};
use common::token_cache::{EntryId, Outbox};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::RelaySettings;
use super::pending::Batch;
use super::status::{RelayStatus, Server, note_failure, note_success};

/// The most entries of one call, about.
const MOST: usize = 4_000;
/// How long a confirm may wait for others. Nobody waits for it: it only has to come before the visibility is over.
const MAX_AGE: Duration = Duration::from_millis(20);

pub(super) struct Confirmer {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) settings: RelaySettings,
    pub(super) status: watch::Sender<RelayStatus>,
}

impl Confirmer {
    /// Confirms until there is nothing more to come.
    pub(super) async fn run(self, mut published: mpsc::Receiver<Batch>) {
        while let Some(first) = published.recv().await {
            let (ids, room) = gather(first, &mut published).await;
            self.confirm(&ids).await;
            drop(room);
        }
    }

    async fn confirm(&self, ids: &[EntryId]) {
        let mut retry = Retry::new(self.settings.retry);
        while let Err(error) = self.outbox.confirm(ids).await {
            let setback = Setback::from(&error);
            note_failure(&self.status, Server::Outbox, &setback);
            sleep(retry.delay_after(&setback)).await;
        }
        note_success(&self.status, Server::Outbox);
    }
}

async fn gather(first: Batch, published: &mut mpsc::Receiver<Batch>) -> (Vec<EntryId>, OwnedSemaphorePermit) {
    let Batch { mut ids, mut room, .. } = first;
    let deadline = Instant::now() + MAX_AGE;
    while ids.len() < MOST
        && let Ok(Some(more)) = timeout_at(deadline, published.recv()).await
    {
        ids.extend(more.ids);
        room.merge(more.room);
    }
    (ids, room)
}
