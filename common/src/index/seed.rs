//! Seeds: what a token cache says of an account of which the log says nothing any more.
//!
//! A seed is an [`AccountActivity`] as any other, with times before every event's. So it is joined like an event, an
//! event always beats it, what was removed stays removed, and a newer seed beats an older one.

use jiff::Timestamp;

use super::{AccountActivity, Register, Stamp};
use crate::account::CacheKey;
use crate::event::AccountDetails;

/// What a token cache says of an account.
#[derive(Debug, Clone, Copy)]
pub struct Seed;

impl Seed {
    /// No stamp of a seed is later than this: the seconds of the year 2286, counted as microseconds.
    pub const NEWEST_MICROS: i64 = 9_999_999_999;

    /// The account whose blob is under `cache_key` at `now`. When its user was last here is not known: it is listed as
    /// the longest idle of all.
    pub fn of(cache_key: CacheKey, details: AccountDetails, now: Timestamp) -> AccountActivity {
        let micros = now.as_second().clamp(Self::LAST_ACTIVITY_MICROS, Self::NEWEST_MICROS);
        let mut seed = AccountActivity::nothing_about(cache_key);
        seed.details = Some(Register { stamp: Stamp { micros, tie_breaker: 0 }, value: details });
        seed.last_activity = Some(Self::last_activity());
        seed
    }

    /// Whether something in `account` was seeded and no event has come since.
    pub fn is_in(account: &AccountActivity) -> bool {
        let details = account.details.as_ref().map(|details| details.stamp.micros);
        Self::is_all_there_is_of_activity(account) || details.is_some_and(|micros| micros <= Self::NEWEST_MICROS)
    }

    /// Whether the user's last activity is not known and was only seeded.
    pub fn is_all_there_is_of_activity(account: &AccountActivity) -> bool {
        account.last_activity == Some(Self::last_activity())
    }

    const LAST_ACTIVITY_MICROS: i64 = 1;

    fn last_activity() -> Timestamp {
        Timestamp::from_microsecond(Self::LAST_ACTIVITY_MICROS).unwrap_or_default()
    }
}
