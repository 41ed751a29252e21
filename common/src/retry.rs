//! Trying again for ever: how long to wait after a setback, with jitter, and why.

use std::fmt;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::backend::BackendError;
use crate::log::{AppendError, DeadLetterError, LogError};
use crate::program::one_line;

/// How long to wait before something is tried again. Each wait gets up to its own length of jitter on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDelays {
    /// After the first setback that may pass by itself; it doubles with each further one.
    pub first: Duration,
    /// The longest wait for what may pass by itself.
    pub longest: Duration,
    /// The wait for what somebody has to mend: a password, a permission, a missing queue.
    pub refused: Duration,
}

impl Default for RetryDelays {
    /// 50 ms, 2 s and 15 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(50), longest: Duration::from_secs(2), refused: Duration::from_secs(15) }
    }
}

/// Why something has to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// What went wrong, with its causes, in a line.
    pub why: String,
    /// Whether it may pass by itself.
    pub is_transient: bool,
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

macro_rules! setback_from {
    ($($error:ty),*) => {$(
        impl From<&$error> for Setback {
            fn from(error: &$error) -> Self {
                Self { why: one_line(error), is_transient: error.is_transient() }
            }
        }
    )*};
}
setback_from!(BackendError, LogError, AppendError, DeadLetterError);

/// The waits of one thing that is tried again until it works.
#[derive(Debug)]
pub struct Retry {
    delays: RetryDelays,
    growing: ExponentialBackoff,
    refused: ExponentialBackoff,
}

impl Retry {
    /// Begins with the shortest wait.
    pub fn new(delays: RetryDelays) -> Self {
        let growing = jittered(delays.first, delays.longest);
        Self { delays, growing, refused: jittered(delays.refused, delays.refused) }
    }

    /// How long to wait after `setback`.
    pub fn delay_after(&mut self, setback: &Setback) -> Duration {
        let (backoff, otherwise) = match setback.is_transient {
            true => (&mut self.growing, self.delays.longest),
            false => (&mut self.refused, self.delays.refused),
        };
        backoff.next().unwrap_or(otherwise)
    }

    /// Begins anew with the shortest wait: it worked.
    pub fn reset(&mut self) {
        *self = Self::new(self.delays);
    }
}

fn jittered(first: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).without_max_times().with_jitter().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAYS: RetryDelays = RetryDelays {
        first: Duration::from_millis(50),
        longest: Duration::from_secs(2),
        refused: Duration::from_secs(15),
    };

    fn setback(is_transient: bool) -> Setback {
        Setback { why: "the server is away".to_owned(), is_transient }
    }

    #[test]
    fn waits_grow_to_the_longest_and_no_further() {
        let mut retry = Retry::new(DELAYS);
        let waits: Vec<Duration> = (0..100).map(|_| retry.delay_after(&setback(true))).collect();
        assert!(waits[0] >= DELAYS.first && waits[0] < DELAYS.first * 2);
        assert!(waits[20..].iter().all(|wait| *wait >= DELAYS.longest && *wait <= DELAYS.longest * 2));
    }

    #[test]
    fn waits_differ_from_one_to_the_next() {
        let mut retry = Retry::new(DELAYS);
        let waits: Vec<Duration> = (0..100).map(|_| retry.delay_after(&setback(true))).skip(20).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }

    #[test]
    fn what_somebody_has_to_mend_is_tried_slowly_from_the_start() {
        let mut retry = Retry::new(DELAYS);
        let wait = retry.delay_after(&setback(false));
        assert!(wait >= DELAYS.refused && wait <= DELAYS.refused * 2);
    }

    #[test]
    fn after_a_success_the_waits_begin_anew() {
        let mut retry = Retry::new(DELAYS);
        for _ in 0..10 {
            retry.delay_after(&setback(true));
        }
        retry.reset();
        assert!(retry.delay_after(&setback(true)) < DELAYS.first * 2);
    }
}
