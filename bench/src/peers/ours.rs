//! Our projector, on the events the peers get.

use std::sync::Arc;

use common::event::ActivityEvent;
use common::index::{ActivityStore, Checkpoint, RedisIndex};
use common::log::{ActivityLog, RabbitMqLog};
use testkit::servers::KeyPrefix;

use crate::project::{compare, project, project_to};
use crate::space::Space;

/// Of one message, as the relay makes them under load.
const BATCH: usize = 500;

/// Events in our log, from one offset to another.
pub(super) struct Ours<'a> {
    space: &'a Space,
    log: Arc<RabbitMqLog>,
    begins_at: u64,
    ends_at: u64,
    events: &'a [ActivityEvent],
}

impl<'a> Ours<'a> {
    /// Appends them.
    pub(super) async fn prefill(
        space: &'a Space,
        log: &Arc<RabbitMqLog>,
        events: &'a [ActivityEvent],
    ) -> anyhow::Result<Self> {
        let begins_at = log.bounds(0).await?.next;
        for batch in events.chunks(BATCH) {
            log.append(0, batch).await?;
        }
        Ok(Self { space, log: log.clone(), begins_at, ends_at: log.bounds(0).await?.next, events })
    }

    /// Gives events per second; an error where the index is not the fold.
    pub(super) async fn run(&self) -> anyhow::Result<f64> {
        let (_prefix, index) = self.empty_index().await?;
        let rate = project(&self.log, &index, self.events.len()).await?;
        compare(&index, self.events).await?;
        Ok(rate)
    }

    /// Killing it is for the fault tests; here it is stopped, and another goes on from its checkpoint.
    pub(super) async fn run_stopped_half_way(&self) -> anyhow::Result<()> {
        let (_prefix, index) = self.empty_index().await?;
        project(&self.log, &index, self.events.len() / 2).await?;
        project_to(&self.log, &index, self.ends_at).await?;
        compare(&index, self.events).await
    }

    async fn empty_index(&self) -> anyhow::Result<(KeyPrefix, Arc<RedisIndex>)> {
        let prefix = self.space.prefix();
        let index = self.space.index(&prefix).await?;
        index.store_checkpoint(0, Checkpoint::at(self.begins_at)).await?;
        Ok((prefix, index))
    }
}
