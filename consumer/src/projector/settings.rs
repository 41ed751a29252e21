//! How a projector reads ahead, batches and waits.

use std::time::Duration;

use common::event::MAX_BODY_BYTES;
use common::retry::RetryDelays;

/// How a [`Projector`](super::Projector) reads ahead, batches and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectorSettings {
    /// The most messages of one partition that are read and wait for the batch before them.
    pub held_messages: usize,
    /// The most bytes of message bodies of one partition that are read and not yet applied, at least 1 MiB.
    pub held_bytes: usize,
    /// How many events are applied together, about: a batch ends with the message that reaches it.
    pub batch_events: usize,
    /// How often it looks whether there are more partitions.
    pub look_every: Duration,
    /// How often it looks whether another generation of the index is live.
    pub look_for_swap_every: Duration,
    /// How often it looks how long the log still keeps what is not applied.
    pub look_at_retention_every: Duration,
    /// When the log keeps what is not applied for less than this, that is a warning.
    pub headroom_warning: Duration,
    /// How long a shutdown waits until what was read is applied.
    pub shutdown_grace: Duration,
    /// How long it waits before it tries again.
    pub retry: RetryDelays,
}

impl Default for ProjectorSettings {
    fn default() -> Self {
        Self {
            held_messages: 4_096,
            held_bytes: 16 * 1024 * 1024,
            batch_events: 10_000,
            look_every: Duration::from_secs(10),
            look_for_swap_every: Duration::from_secs(1),
            look_at_retention_every: Duration::from_secs(30),
            headroom_warning: Duration::from_secs(6 * 60 * 60),
            shutdown_grace: Duration::from_secs(10),
            retry: RetryDelays::default(),
        }
    }
}

impl ProjectorSettings {
    /// The same with every number in the range that can work.
    pub(super) fn within_bounds(self) -> Self {
        Self {
            held_messages: self.held_messages.clamp(1, 1_000_000),
            held_bytes: self.held_bytes.clamp(MAX_BODY_BYTES, 4 * 1024 * 1024 * 1024),
            batch_events: self.batch_events.clamp(1, 1_000_000),
            ..self
        }
    }
}
