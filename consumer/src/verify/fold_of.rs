//! The fold of a growing stretch of the log, for some of the accounts.

use std::collections::HashMap;

use common::account::CacheKey;
use common::index::{Checkpoint, Fold};
use common::log::{ActivityLog, LogError, Position};
use common::retry::RetryDelays;
use jiff::Timestamp;

use crate::progress::Meter;
use crate::projector::Tally;
use crate::span::Span;

pub(super) struct FoldOf<'a> {
    log: &'a dyn ActivityLog,
    retry: RetryDelays,
    pub(super) fold: Fold,
    /// When there are more accounts than this, it gives up.
    pub(super) most_accounts: usize,
    read: HashMap<u32, Checkpoint>,
}

impl<'a> FoldOf<'a> {
    /// Nothing is read yet.
    pub(super) fn new(log: &'a dyn ActivityLog, retry: RetryDelays) -> Self {
        Self { log, retry, fold: Fold::default(), most_accounts: usize::MAX, read: HashMap::new() }
    }

    /// What is before these checkpoints counts as read.
    pub(super) fn begin_at(&mut self, checkpoints: &[(u32, Checkpoint)]) {
        self.read.extend(checkpoints.iter().copied());
    }

    /// Reads on to these offsets. Says whether it did not give up.
    pub(super) async fn read_to(
        &mut self,
        ends: &[(u32, u64)],
        meter: &mut Meter<'_>,
        is_asked_for: impl Fn(&CacheKey) -> bool,
    ) -> Result<bool, LogError> {
        for &(partition, end) in ends {
            let mut span = match self.read.get(&partition) {
                Some(checkpoint) => Span::after(self.log, partition, *checkpoint, end, self.retry),
                None => Span::new(self.log, partition, Position::First, end, self.retry),
            };
            while let Some(messages) = span.next().await? {
                let (read, now, mut tally) = (messages.len() as u64, Timestamp::now(), Tally::default());
                for message in messages {
                    tally.add(message, now, |said| {
                        if is_asked_for(&said.cache_key) {
                            self.fold.add(said);
                        }
                    });
                }
                meter.add(read, tally.done().events);
                if self.fold.len() > self.most_accounts {
                    return Ok(false);
                }
            }
            self.read.extend(span.read_up_to().map(|checkpoint| (partition, checkpoint)));
        }
        Ok(true)
    }
}
