//! How long to wait before the next attempt to connect: longer each time, with jitter.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep_until};

const SHORTEST: Duration = Duration::from_millis(50);
/// Jitter may double it.
const LONGEST: Duration = Duration::from_secs(2);

/// The waits between attempts that fail one after the other.
pub(super) struct Backoff {
    waits: ExponentialBackoff,
    not_before: Instant,
    has_failed: bool,
}

impl Backoff {
    /// The first attempt is made at once.
    pub(super) fn new() -> Self {
        Self { waits: waits(), not_before: Instant::now(), has_failed: false }
    }

    /// Waits until the next attempt is due.
    pub(super) async fn wait(&self) {
        sleep_until(self.not_before).await;
    }

    /// Puts the next attempt off.
    pub(super) fn failed(&mut self) {
        self.not_before = Instant::now() + self.waits.next().unwrap_or(LONGEST);
        self.has_failed = true;
    }

    /// Begins again with short waits.
    pub(super) fn succeeded(&mut self) {
        if std::mem::take(&mut self.has_failed) {
            self.waits = waits();
        }
    }
}

fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(SHORTEST)
        .with_max_delay(LONGEST)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}
