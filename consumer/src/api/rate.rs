//! How often a token may be used: a bucket that is filled evenly.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What is left of one token's rate. It holds a second's worth.
#[derive(Debug, Default)]
pub(super) struct Bucket(Mutex<Option<Level>>);

#[derive(Debug, Clone, Copy)]
struct Level {
    requests: f64,
    at: Instant,
}

impl Bucket {
    /// Takes one request out.
    ///
    /// # Errors
    /// How long to wait for the next one.
    pub(super) fn take(&self, rate: NonZeroU32, now: Instant) -> Result<(), Duration> {
        let rate = f64::from(rate.get());
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = level.unwrap_or(Level { requests: rate, at: now });
        let filled = before.requests + now.saturating_duration_since(before.at).as_secs_f64() * rate;
        let requests = filled.min(rate);
        let is_enough = requests >= 1.0;
        *level = Some(Level { requests: if is_enough { requests - 1.0 } else { requests }, at: now });
        if is_enough { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - requests) / rate)) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const THREE: NonZeroU32 = NonZeroU32::new(3).unwrap();

    #[tokio::test(start_paused = true)]
    async fn a_second_s_worth_is_taken_at_once_and_then_as_it_fills() {
        let bucket = Bucket::default();
        let begin = Instant::now();
        let taken = |millis| bucket.take(THREE, begin + Duration::from_millis(millis));
        assert_eq!([taken(0), taken(0), taken(0)], [Ok(()); 3]);
        let wait = taken(0).unwrap_err();
        assert!((Duration::from_millis(333)..=Duration::from_millis(334)).contains(&wait), "{wait:?}");
        assert_eq!(taken(334), Ok(()));
        assert!(taken(340).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_away_for_long_has_no_more_than_a_second_s_worth() {
        let bucket = Bucket::default();
        let later = Instant::now() + Duration::from_secs(3600);
        assert!(bucket.take(THREE, Instant::now()).is_ok());
        let taken: Vec<bool> = (0..4).map(|_| bucket.take(THREE, later).is_ok()).collect();
        assert_eq!(taken, [true, true, true, false]);
    }
}
