//! The followers of a projector, by partition: who is at work, who is ending.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub(super) struct Crew {
    followers: BTreeMap<u32, AtWork>,
}

struct AtWork {
    stop: CancellationToken,
    task: AbortHandle,
}

impl Crew {
    pub(super) fn add(&mut self, partition: u32, stop: CancellationToken, task: AbortHandle) {
        self.followers.insert(partition, AtWork { stop, task });
    }

    /// Tells all others to end. They apply what they have read and store their checkpoints first.
    pub(super) fn keep_only(&self, wanted: &BTreeSet<u32>) {
        for (partition, follower) in &self.followers {
            if !wanted.contains(partition) && !follower.stop.is_cancelled() {
                tracing::info!(partition, "somebody else is to follow it from here");
                follower.stop.cancel();
            }
        }
    }

    /// Those of `wanted` that nobody here is at. One that is still ending is begun anew when it has ended.
    pub(super) fn missing(&self, wanted: &BTreeSet<u32>) -> Vec<u32> {
        wanted.iter().copied().filter(|partition| !self.is_at(*partition)).collect()
    }

    /// Whether a follower is at it, even if it is ending.
    pub(super) fn is_at(&self, partition: u32) -> bool {
        self.followers.contains_key(&partition)
    }

    /// Whether a follower is at it and was not told to end.
    pub(super) fn follows(&self, partition: u32) -> bool {
        self.followers.get(&partition).is_some_and(|follower| !follower.stop.is_cancelled())
    }

    /// Forgets those that have ended, and says which.
    pub(super) fn forget_ended(&mut self) -> Vec<u32> {
        self.followers
            .extract_if(.., |_, follower| follower.task.is_finished())
            .map(|(partition, _)| partition)
            .collect()
    }
}
