//! Applies what was read: the index first, then the dead letters, then the checkpoint, each until it works.

use std::sync::Arc;

use common::index::{AccountActivity, ActivityStore, Checkpoint};
use common::log::{DeadLetter, ParkLetters};
use common::retry::{Retry, Setback};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::ProjectorSettings;
use super::batch::Batch;
use super::read_ahead::Received;
use super::status::Noted;

pub(super) struct Applier {
    pub(super) dead_letters: Arc<dyn ParkLetters>,
    pub(super) store: Arc<dyn ActivityStore>,
    pub(super) settings: ProjectorSettings,
    pub(super) noted: Noted,
}

impl Applier {
    /// Applies until there is nothing more to come.
    pub(super) async fn run(self, mut received: mpsc::Receiver<Received>) {
        while let Some(first) = received.recv().await {
            let gathered = self.gather(first, &mut received);
            let batch = Batch::of(gathered.iter().map(|received| &received.message), Timestamp::now());
            self.finish(&batch).await;
        }
    }

    /// What has arrived, up to one batch.
    fn gather(&self, first: Received, received: &mut mpsc::Receiver<Received>) -> Vec<Received> {
        let mut events = first.message.events.len();
        let mut gathered = vec![first];
        while events < self.settings.batch_events
            && let Ok(more) = received.try_recv()
        {
            events += more.message.events.len();
            gathered.push(more);
        }
        gathered
    }

    async fn finish(&self, batch: &Batch) {
        if !batch.changes.is_empty() {
            self.insist(Step::Apply(&batch.changes)).await;
        }
        if !batch.letters.is_empty() {
            self.insist(Step::Park(&batch.letters)).await;
            tracing::warn!(partition = self.noted.partition, refused = ?batch.done.refused, "parked in the dead letters");
        }
        self.insist(Step::StoreCheckpoint(batch.done.checkpoint())).await;
        self.noted.done(&batch.done);
    }

    /// Takes a step until it works, and keeps the place meanwhile.
    async fn insist(&self, step: Step<'_>) {
        let mut retry = Retry::new(self.settings.retry);
        let mut has_failed = false;
        while let Err(setback) = self.take(step).await {
            has_failed = true;
            self.noted.paused(&setback);
            sleep(retry.delay_after(&setback)).await;
        }
        if has_failed {
            self.noted.following();
        }
    }

    async fn take(&self, step: Step<'_>) -> Result<(), Setback> {
        match step {
            Step::Apply(changes) => self.store.apply(changes).await.map_err(|e| Setback::from(&e)),
            Step::Park(letters) => self.dead_letters.park(letters).await.map_err(|e| Setback::from(&e)),
            Step::StoreCheckpoint(next) => {
                self.store.store_checkpoint(self.noted.partition, next).await.map_err(|e| Setback::from(&e))
            }
        }
    }
}

/// The steps of a batch, in their order. Each may be taken again.
#[derive(Clone, Copy)]
enum Step<'a> {
    Apply(&'a [AccountActivity]),
    Park(&'a [DeadLetter]),
    StoreCheckpoint(Checkpoint),
}
