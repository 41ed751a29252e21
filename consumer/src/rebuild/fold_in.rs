//! Folds a stretch of the log in memory, in bounded chunks, and writes each chunk with its checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::backend::BackendError;
use common::index::{ActivityStore, Checkpoint, Fold};
use common::log::{ActivityLog, LogError, LogMessage, Position};
use common::retry::RetryDelays;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::RebuildError;
use crate::insist::insist;
use crate::progress::Meter;
use crate::projector::Tally;
use crate::span::Span;

/// How many reads wait to be folded, each of some megabytes at most.
const READ_AHEAD: usize = 2;

/// What is read and not yet written: each account once, however many events named it.
#[derive(Default)]
struct Chunk {
    fold: Fold,
    checkpoints: BTreeMap<u32, Checkpoint>,
}

impl Chunk {
    /// Says how many events it took in.
    fn take(&mut self, partition: u32, messages: Vec<LogMessage>) -> u64 {
        let (now, mut tally) = (Timestamp::now(), Tally::default());
        for message in messages {
            tally.add(message, now, |said| self.fold.add(said));
        }
        let done = tally.done();
        self.checkpoints.insert(partition, done.checkpoint());
        done.events
    }

    async fn write(&mut self, store: &dyn ActivityStore, retry: RetryDelays) -> Result<(), BackendError> {
        let changes = self.fold.take();
        insist(retry, async || store.apply(&changes).await).await?;
        for (partition, checkpoint) in std::mem::take(&mut self.checkpoints) {
            insist(retry, async || store.store_checkpoint(partition, checkpoint).await).await?;
        }
        Ok(())
    }
}

/// Brings `store` from its own checkpoints to the offsets `ends`, holding at most about `most_accounts` in memory.
///
/// # Cancel safety
/// When it is dropped, what was written is written with its checkpoint, and the rest is read again.
pub(super) async fn fold_in(
    log: &Arc<dyn ActivityLog>,
    store: &dyn ActivityStore,
    ends: &[(u32, u64)],
    most_accounts: usize,
    retry: RetryDelays,
    meter: &mut Meter<'_>,
) -> Result<(), RebuildError> {
    let mut stretches = Vec::new();
    for &(partition, end) in ends {
        let checkpoint = insist(retry, async || store.checkpoint(partition).await).await?;
        stretches.push(Stretch { partition, checkpoint, end });
    }
    let (read, mut to_fold) = mpsc::channel(READ_AHEAD);
    let reading = AbortOnDropHandle::new(tokio::spawn(read_ahead(Arc::clone(log), stretches, retry, read)));
    let mut chunk = Chunk::default();
    while let Some((partition, messages)) = to_fold.recv().await {
        let read = messages.len() as u64;
        let events = chunk.take(partition, messages);
        meter.add(read, events);
        if chunk.fold.len() >= most_accounts {
            chunk.write(store, retry).await?;
        }
    }
    match reading.await {
        Ok(read) => read?,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is being shut down, and this task with it.
        Err(_) => std::future::pending().await,
    }
    Ok(chunk.write(store, retry).await?)
}

/// What is read of one partition: from a checkpoint, or the first message, to an offset.
struct Stretch {
    partition: u32,
    checkpoint: Option<Checkpoint>,
    end: u64,
}

/// Reads in a task of its own, so that one core decodes while another one folds.
async fn read_ahead(
    log: Arc<dyn ActivityLog>,
    stretches: Vec<Stretch>,
    retry: RetryDelays,
    read: mpsc::Sender<(u32, Vec<LogMessage>)>,
) -> Result<(), LogError> {
    for Stretch { partition, checkpoint, end } in stretches {
        let mut span = match checkpoint {
            Some(checkpoint) => Span::after(&*log, partition, checkpoint, end, retry),
            None => Span::new(&*log, partition, Position::First, end, retry),
        };
        while let Some(messages) = span.next().await? {
            if read.send((partition, messages)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
