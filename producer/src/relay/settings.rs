//! How a relay batches, waits and remembers.

use std::time::Duration;

use common::event::MAX_EVENTS_PER_BATCH;
use common::retry::RetryDelays;

/// How a [`Relay`](super::Relay) batches, waits and remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelaySettings {
    /// How long an event may wait for others while appends are outstanding. Events that arrive while none is
    /// outstanding do not wait.
    pub max_age: Duration,
    /// The most events one append holds.
    pub batch_events: usize,
    /// The most appends that are not yet confirmed.
    pub outstanding_batches: usize,
    /// The most events in memory: taken, and not yet confirmed in the outbox.
    pub held_events: usize,
    /// How long an entry is this relay's before another one may take it.
    pub visibility: Duration,
    /// How long entries are kept after they were confirmed, to be sent again where the log lost them.
    pub grace: Duration,
    /// How often entries older than that are forgotten.
    pub trim_every: Duration,
    /// The shortest time between two rewinds.
    pub rewind_every: Duration,
    /// How often it looks whether the log has more partitions.
    pub look_every: Duration,
    /// How long a shutdown waits for what is outstanding.
    pub shutdown_grace: Duration,
    /// How long it waits before it tries again.
    pub retry: RetryDelays,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            max_age: Duration::from_millis(2),
            batch_events: 500,
            outstanding_batches: 16,
            held_events: 16_384,
            visibility: Duration::from_secs(30),
            grace: Duration::from_mins(10),
            trim_every: Duration::from_secs(30),
            rewind_every: Duration::from_secs(30),
            look_every: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(10),
            retry: RetryDelays::default(),
        }
    }
}

impl RelaySettings {
    /// The same with every number in the range that can work.
    pub(super) fn within_bounds(self) -> Self {
        Self {
            batch_events: self.batch_events.clamp(1, MAX_EVENTS_PER_BATCH),
            outstanding_batches: self.outstanding_batches.clamp(1, 1_000),
            held_events: self.held_events.clamp(1, 1_000_000),
            ..self
        }
    }
}
