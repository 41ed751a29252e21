//! Times as the tables hold them: microseconds since the Unix epoch.

use std::time::Duration;

use jiff::Timestamp;

pub(super) fn now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

/// Saturates: a duration of more than 292,000 years is for ever.
pub(super) fn in_us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The time of `us`; SQLite could hold numbers that are no time, this crate never writes one.
pub(super) fn time_of(us: i64) -> Timestamp {
    Timestamp::from_microsecond(us).unwrap_or(Timestamp::UNIX_EPOCH)
}
