//! Folds a stretch of the log in memory, in bounded chunks, and writes each chunk with its checkpoints.

use std::collections::{BTreeMap, HashMap};

use common::account::CacheKey;
use common::backend::BackendError;
use common::index::{self, AccountActivity, ActivityStore, Checkpoint};
use common::log::{ActivityLog, LogMessage, Position};
use common::retry::RetryDelays;
use jiff::Timestamp;

use super::RebuildError;
use crate::insist::insist;
use crate::progress::Meter;
use crate::projector::Batch;
use crate::span::Span;

/// What is read and not yet written: each account once, however many events named it.
#[derive(Default)]
struct Chunk {
    accounts: HashMap<CacheKey, AccountActivity>,
    checkpoints: BTreeMap<u32, Checkpoint>,
}

impl Chunk {
    /// Says how many events it took in.
    fn take(&mut self, partition: u32, messages: Vec<LogMessage>) -> u64 {
        let batch = Batch::of(messages, Timestamp::now());
        batch.changes.into_iter().for_each(|said| index::fold_in(&mut self.accounts, said));
        self.checkpoints.insert(partition, batch.done.checkpoint());
        batch.done.events
    }

    async fn write(&mut self, store: &dyn ActivityStore, retry: RetryDelays) -> Result<(), BackendError> {
        let changes: Vec<AccountActivity> = self.accounts.drain().map(|(_, account)| account).collect();
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
    log: &dyn ActivityLog,
    store: &dyn ActivityStore,
    ends: &[(u32, u64)],
    most_accounts: usize,
    retry: RetryDelays,
    meter: &mut Meter<'_>,
) -> Result<(), RebuildError> {
    let mut chunk = Chunk::default();
    for &(partition, end) in ends {
        let mut span = match insist(retry, async || store.checkpoint(partition).await).await? {
            Some(checkpoint) => Span::after(log, partition, checkpoint, end, retry),
            None => Span::new(log, partition, Position::First, end, retry),
        };
        while let Some(messages) = span.next().await? {
            let read = messages.len() as u64;
            let events = chunk.take(partition, messages);
            meter.add(read, events);
            if chunk.accounts.len() >= most_accounts {
                chunk.write(store, retry).await?;
            }
        }
    }
    Ok(chunk.write(store, retry).await?)
}
