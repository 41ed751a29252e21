//! Folds what arrives while the batch before it is applied, and hands it on as soon as it is asked for.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use super::batch::{Batch, OpenBatch};
use super::read_ahead::Received;

/// A batch with its share of the budget, which is given back when it is applied.
pub(super) struct Gathered {
    pub(super) batch: Batch,
    pub(super) _share: Option<OwnedSemaphorePermit>,
}

pub(super) struct Gatherer {
    batch: OpenBatch,
    share: Option<OwnedSemaphorePermit>,
    batch_events: usize,
}

impl Gatherer {
    /// Nothing is gathered yet. A batch has about so many events: it ends with the message that reaches them.
    pub(super) fn new(batch_events: usize) -> Self {
        Self { batch: OpenBatch::default(), share: None, batch_events }
    }

    /// Gathers until there is nothing more to come, or nobody takes it. A batch is handed on when it is `wanted`.
    pub(super) async fn run(
        mut self,
        mut received: mpsc::Receiver<Received>,
        gathered: mpsc::Sender<Gathered>,
        wanted: Arc<Notify>,
    ) {
        let mut is_over = false;
        while !is_over || !self.batch.is_empty() {
            tokio::select! {
                biased;
                () = wanted.notified(), if !self.batch.is_empty() => {
                    self.take_what_is_there(&mut received);
                    if gathered.send(self.hand_over()).await.is_err() {
                        return;
                    }
                }
                more = received.recv(), if !is_over && !self.is_full() => match more {
                    Some(more) => self.take(more),
                    None => is_over = true,
                },
            }
        }
    }

    fn take_what_is_there(&mut self, received: &mut mpsc::Receiver<Received>) {
        while !self.is_full()
            && let Ok(more) = received.try_recv()
        {
            self.take(more);
        }
    }

    fn take(&mut self, Received { message, share }: Received) {
        self.batch.add(message, Timestamp::now());
        self.share = merged(self.share.take(), share);
    }

    fn is_full(&self) -> bool {
        self.batch.events() >= self.batch_events
    }

    fn hand_over(&mut self) -> Gathered {
        Gathered { batch: std::mem::take(&mut self.batch).close(), _share: self.share.take() }
    }
}

fn merged(share: Option<OwnedSemaphorePermit>, more: Option<OwnedSemaphorePermit>) -> Option<OwnedSemaphorePermit> {
    match (share, more) {
        (Some(mut share), Some(more)) => {
            share.merge(more);
            Some(share)
        }
        (share, more) => share.or(more),
    }
}
