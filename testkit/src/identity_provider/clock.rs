//! The provider's clock: the system's, which a test may move ahead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock that runs with the system's and can be advanced.
#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead_micros: AtomicU64,
}

impl Clock {
    /// Time since the Unix epoch.
    pub(super) fn now(&self) -> Duration {
        system_time() + Duration::from_micros(self.ahead_micros.load(Ordering::SeqCst))
    }

    pub(super) fn unix_seconds(&self) -> u64 {
        self.now().as_secs()
    }

    pub(super) fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.ahead_micros.fetch_add(micros, Ordering::SeqCst);
    }
}

/// The system's time since the Unix epoch.
pub(super) fn system_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
