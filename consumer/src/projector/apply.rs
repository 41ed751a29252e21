//! Applies what was read: the index first, then the dead letters, then the checkpoint, each until it works.

use std::sync::Arc;

use common::index::{AccountActivity, ActivityStore, Checkpoint};
use common::log::{DeadLetter, ParkLetters};
use common::retry::{Retry, Setback};
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use super::ProjectorSettings;
use super::batch::Batch;
use super::gather::Gathered;
use super::status::Noted;

pub(super) struct Applier {
    pub(super) dead_letters: Arc<dyn ParkLetters>,
    pub(super) store: Arc<dyn ActivityStore>,
    pub(super) settings: ProjectorSettings,
    pub(super) noted: Noted,
    /// Told when a batch can be applied.
    pub(super) wanted: Arc<Notify>,
}

impl Applier {
    /// Applies until there is nothing more to come.
    pub(super) async fn run(self, mut gathered: mpsc::Receiver<Gathered>) {
        self.wanted.notify_one();
        while let Some(Gathered { batch, _share }) = gathered.recv().await {
            self.finish(&batch).await;
            self.wanted.notify_one();
        }
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
