//! What the stores have in common where accounts are claimed: bounds, and what becomes of a candidate.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    AccountActivity, AccountState, ClaimError, ClaimRates, ClaimRequest, Completion, Due, DuePolicy, Schedule,
};

/// How often one call looks again because what it met was not due.
pub(crate) const ROUNDS: usize = 4;
/// When a schedule is looked at again whose account waits for its user.
const SCHEDULE_POSTPONED: SignedDuration = SignedDuration::from_mins(5);

/// Refuses what no server should be asked.
pub(crate) fn check(request: &ClaimRequest) -> Result<(), ClaimError> {
    if request.limit == 0 || request.limit > ClaimRequest::MAX_LIMIT {
        return Err(ClaimError::Limit { given: request.limit, most: ClaimRequest::MAX_LIMIT });
    }
    check_lease(request.lease)
}

/// Refuses a lease that is out of bounds.
pub(crate) fn check_lease(lease: Duration) -> Result<(), ClaimError> {
    let is_sound = (ClaimRequest::MIN_LEASE..=ClaimRequest::MAX_LEASE).contains(&lease);
    if is_sound { Ok(()) } else { Err(ClaimError::Lease { given: lease }) }
}

/// What a candidate turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is due.
    Due(Due),
    /// It is not: what was known of it is to be put right.
    Not(Correction),
}

/// What is right instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Correction {
    /// When its record makes it due; `None`: never.
    pub(crate) due_at: Option<Timestamp>,
    /// What becomes of its schedule, where it has one.
    pub(crate) schedule: Option<Replan>,
}

/// What becomes of a schedule that cannot be kept now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replan {
    /// It is looked at again then.
    At(Timestamp),
    /// The account is gone.
    Drop,
}

/// Judges an account that a list said was due, by its record.
pub(crate) fn judge(
    policy: &DuePolicy,
    account: Option<&AccountActivity>,
    schedule: Option<&Schedule>,
    now: Timestamp,
) -> Verdict {
    let gone = Correction { due_at: None, schedule: schedule.map(|_| Replan::Drop) };
    let Some(account) = account else { return Verdict::Not(gone) };
    match policy.due_or_scheduled(account, schedule) {
        Some(due) if due.at <= now => Verdict::Due(due),
        Some(due) => {
            let due_at = policy.due(account).map(|due| due.at);
            Verdict::Not(Correction { due_at, schedule: schedule.map(|_| Replan::At(due.at)) })
        }
        None if account.state() == AccountState::Removed && account.removed_at.is_some() => Verdict::Not(gone),
        None => {
            let again = now.checked_add(SCHEDULE_POSTPONED).unwrap_or(Timestamp::MAX);
            Verdict::Not(Correction { due_at: None, schedule: schedule.map(|_| Replan::At(again)) })
        }
    }
}

/// A bound of claims in a time, as a token bucket that holds a second's worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    /// The microseconds one claim takes of it; 0: no bound.
    pub(crate) interval: i64,
    /// How many may be claimed at once.
    pub(crate) burst: i64,
}

impl Rate {
    const MINUTE: i64 = 60_000_000;

    fn per_minute(count: Option<std::num::NonZeroU32>) -> Self {
        let Some(count) = count.map(|count| i64::from(count.get())) else { return Self::default() };
        Self { interval: (Self::MINUTE / count).max(1), burst: (count / 60).max(1) }
    }

    /// One of so many equal parts. At least one claim may be taken of each at once.
    pub(crate) fn part_of(self, parts: usize) -> Self {
        let parts = i64::try_from(parts).unwrap_or(i64::MAX).max(1);
        Self { interval: self.interval.saturating_mul(parts), burst: (self.burst / parts).max(1) }
    }

    /// Of a tenant, and of all.
    pub(crate) fn of(rates: &ClaimRates) -> (Self, Self) {
        (Self::per_minute(rates.per_tenant), Self::per_minute(rates.overall))
    }
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// How long a failed account is held back: `by_chance`, from 0 to 1, of the longest wait after so many failures before.
pub(crate) fn back_off(attempts: u32, by_chance: f64) -> Duration {
    let longest = Completion::FIRST_BACK_OFF.saturating_mul(2_u32.saturating_pow(attempts));
    longest.min(Completion::LONGEST_BACK_OFF).mul_f64(by_chance.clamp(0.0, 1.0))
}
