//! When an account is due: a pure function of what the index knows of it.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{AccountActivity, AccountState, JobReason, Schedule};
use crate::event::AccountDetails;

/// How long a failure that passes by itself keeps an account from being due, where it does not say so itself.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// What makes an account due. Each generation of an index is built by one, see [`super::IndexGenerations::due_policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DuePolicy {
    /// How many seconds before its access token expires an account is due; `None`: that makes nobody due.
    pub horizon_seconds: Option<u32>,
    /// How many seconds a refresh token lives unused, where nothing else is known of it.
    pub refresh_token_life_seconds: u32,
    /// How many seconds before its refresh token dies an account is due; `None`: a third of the life above.
    pub keep_alive_seconds: Option<u32>,
}

impl Default for DuePolicy {
    /// 5 minutes before the access token expires, which is when MSAL libraries take it for expired; 30 days before a
    /// refresh token would have been idle for the 90 days that Entra ID allows.
    fn default() -> Self {
        const DAY: u32 = 24 * 60 * 60;
        Self { horizon_seconds: Some(300), refresh_token_life_seconds: 90 * DAY, keep_alive_seconds: None }
    }
}

/// Why an account is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueReason {
    /// Its access token expires soon, or has.
    AccessTokenExpires,
    /// Its refresh token would die of idleness.
    RefreshTokenIdle,
    /// What failed before may work now.
    Retry,
    /// A job asked for it.
    Scheduled,
}

impl DueReason {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessTokenExpires => "access_token_expires",
            Self::RefreshTokenIdle => "refresh_token_idle",
            Self::Retry => "retry",
            Self::Scheduled => "scheduled",
        }
    }
}

impl fmt::Display for DueReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When an account is due, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// From when on.
    pub at: Timestamp,
    /// Why.
    pub reason: DueReason,
    /// What the job said that [scheduled](DueReason::Scheduled) it, if it said so.
    pub scheduled_for: Option<JobReason>,
}

impl Due {
    fn by_itself(at: Timestamp, reason: DueReason) -> Self {
        Self { at, reason, scheduled_for: None }
    }
}

impl DuePolicy {
    /// When `account` is due by what the index knows; `None`: never, as things are. It is not listed, it waits for its
    /// user, nothing can be refreshed, or nothing is known to expire.
    pub fn due(&self, account: &AccountActivity) -> Option<Due> {
        let details = &account.details.as_ref()?.value;
        let state = account.state();
        if !details.has_refresh_token || matches!(state, AccountState::Removed | AccountState::Parked) {
            return None;
        }
        let due = self.first_to_expire(account, details)?;
        match retry_at(account).filter(|_| state == AccountState::BackingOff) {
            Some(at) if at > due.at => Some(Due::by_itself(at, DueReason::Retry)),
            _ => Some(due),
        }
    }

    /// The same, and not later than what a job [scheduled](super::Claims::schedule). A schedule makes nobody due who
    /// never is, and a failure that passes by itself keeps the account from being due for a job, too.
    pub fn due_or_scheduled(&self, account: &AccountActivity, schedule: Option<&Schedule>) -> Option<Due> {
        let due = self.due(account)?;
        let Some(schedule) = schedule else { return Some(due) };
        let not_before = retry_at(account).filter(|_| account.state() == AccountState::BackingOff);
        let at = not_before.map_or(schedule.at, |not_before| not_before.max(schedule.at));
        let for_job = || Due { at, reason: DueReason::Scheduled, scheduled_for: schedule.reason.clone() };
        Some(if at < due.at { for_job() } else { due })
    }

    fn first_to_expire(&self, account: &AccountActivity, details: &AccountDetails) -> Option<Due> {
        let access = self.access_token_due(details).map(|at| Due::by_itself(at, DueReason::AccessTokenExpires));
        let idle = self.keep_alive_due(account, details).map(|at| Due::by_itself(at, DueReason::RefreshTokenIdle));
        [access, idle].into_iter().flatten().min_by_key(|due| due.at)
    }

    fn access_token_due(&self, details: &AccountDetails) -> Option<Timestamp> {
        let horizon = self.horizon_seconds?;
        Some(before(seconds(details.access_token_expires_on?), horizon))
    }

    fn keep_alive_due(&self, account: &AccountActivity, details: &AccountDetails) -> Option<Timestamp> {
        let life = self.refresh_token_life_seconds;
        let dies = match details.refresh_token_expires_on {
            Some(at) => seconds(at),
            None => after(account.last_activity.max(account.last_hydration)?, SignedDuration::from_secs(life.into())),
        };
        Some(before(dies, self.keep_alive_seconds.unwrap_or(life / 3)))
    }
}

/// When a failure in force lets the account be tried again.
fn retry_at(account: &AccountActivity) -> Option<Timestamp> {
    let failure = account.failure_in_force()?;
    let by_itself = || after(failure.stamp.time(), SignedDuration::from_secs(RETRY_AFTER_FAILURE.as_secs() as i64));
    Some(failure.value.retry_after.map_or_else(by_itself, seconds))
}

/// Unix seconds, the nearest there is where they are none.
fn seconds(unix: i64) -> Timestamp {
    Timestamp::from_second(unix).unwrap_or(if unix < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

fn before(time: Timestamp, seconds: u32) -> Timestamp {
    time.checked_sub(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MIN)
}

fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::event::{AcquisitionFailure, FailureReason, Properties};
    use crate::index::{Register, Stamp};

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 24 * 60 * 60;

    /// Listed, active at `NOW`, with an access token for an hour and a refresh token of unknown life.
    fn account() -> AccountActivity {
        let value = AccountDetails {
            home_account_id: "uid.utid".parse().unwrap(),
            object_id: None,
            tenant_id: None,
            environment: "login.microsoftonline.com".parse().unwrap(),
            client_id: "app".parse().unwrap(),
            username: None,
            access_token_expires_on: Some(NOW + 3600),
            refresh_token_expires_on: None,
            has_refresh_token: true,
            properties: Properties::default(),
        };
        AccountActivity {
            details: Some(Register { stamp: Stamp { micros: NOW * 1_000_000, tie_breaker: 0 }, value }),
            last_activity: Some(seconds(NOW)),
            ..AccountActivity::nothing_about("uid.utid".parse().unwrap())
        }
    }

    fn failed(reason: FailureReason, retry_after: Option<i64>) -> AccountActivity {
        let mut account = account();
        let hint = (&account.details.as_ref().unwrap().value).into();
        let value = AcquisitionFailure { reason, error: None, suberror: None, retry_after, account: hint };
        account.failure = Some(Register {
            stamp: Stamp { micros: (NOW + 4000) * 1_000_000, tie_breaker: 1 },
            value: Box::new(value),
        });
        account
    }

    fn due(policy: &DuePolicy, account: &AccountActivity) -> Option<(i64, DueReason)> {
        policy.due(account).map(|due| (due.at.as_second() - NOW, due.reason))
    }

    #[test]
    fn an_account_is_due_a_while_before_its_access_token_expires() {
        assert_eq!(due(&DuePolicy::default(), &account()), Some((3300, DueReason::AccessTokenExpires)));
    }

    #[test]
    fn a_refresh_token_is_kept_alive_for_a_third_of_its_life_before_it_dies() {
        let policy = DuePolicy { horizon_seconds: None, ..DuePolicy::default() };
        assert_eq!(due(&policy, &account()), Some((60 * DAY, DueReason::RefreshTokenIdle)));
        let mut spa = account();
        spa.details.as_mut().unwrap().value.refresh_token_expires_on = Some(NOW + DAY);
        let policy = DuePolicy { refresh_token_life_seconds: 86_400, ..policy };
        assert_eq!(due(&policy, &spa), Some((DAY * 2 / 3, DueReason::RefreshTokenIdle)));
        let policy = DuePolicy { keep_alive_seconds: Some(60), ..policy };
        assert_eq!(due(&policy, &spa), Some((DAY - 60, DueReason::RefreshTokenIdle)));
    }

    #[test]
    fn a_hydration_keeps_the_refresh_token_alive_as_the_user_does() {
        let policy = DuePolicy { horizon_seconds: None, ..DuePolicy::default() };
        let hydrated = AccountActivity { last_hydration: Some(seconds(NOW + DAY)), ..account() };
        assert_eq!(due(&policy, &hydrated), Some((61 * DAY, DueReason::RefreshTokenIdle)));
    }

    #[test]
    fn who_waits_for_the_user_or_is_removed_or_has_nothing_to_refresh_is_never_due() {
        let policy = DuePolicy::default();
        assert_eq!(due(&policy, &failed(FailureReason::Revoked, None)), None);
        let removed = AccountActivity { removed_at: Some(seconds(NOW + 1)), ..account() };
        assert_eq!(due(&policy, &removed), None);
        let mut nothing = account();
        nothing.details.as_mut().unwrap().value.has_refresh_token = false;
        assert_eq!(due(&policy, &nothing), None);
    }

    #[test]
    fn who_backs_off_is_due_when_the_failure_says_so_or_a_minute_later() {
        let policy = DuePolicy::default();
        let said = failed(FailureReason::Throttled, Some(NOW + 9000));
        assert_eq!(due(&policy, &said), Some((9000, DueReason::Retry)));
        let unsaid = failed(FailureReason::IdentityProviderUnavailable, None);
        assert_eq!(due(&policy, &unsaid), Some((4060, DueReason::Retry)));
        let mut later = failed(FailureReason::StoreUnavailable, None);
        later.details.as_mut().unwrap().value.access_token_expires_on = Some(NOW + 9000);
        assert_eq!(due(&policy, &later), Some((8700, DueReason::AccessTokenExpires)));
    }

    #[test]
    fn a_job_makes_an_account_due_earlier_and_never_later_nor_while_it_waits() {
        let policy = DuePolicy::default();
        let due = |account: &AccountActivity, at: i64| {
            let due = policy.due_or_scheduled(account, Some(&Schedule::at(seconds(NOW + at))));
            due.map(|due| (due.at.as_second() - NOW, due.reason))
        };
        assert_eq!(due(&account(), 10), Some((10, DueReason::Scheduled)));
        assert_eq!(due(&account(), 5000), Some((3300, DueReason::AccessTokenExpires)));
        assert_eq!(due(&failed(FailureReason::Revoked, None), 10), None);
        let mut later = failed(FailureReason::StoreUnavailable, None);
        later.details.as_mut().unwrap().value.access_token_expires_on = Some(NOW + 9000);
        assert_eq!(due(&later, 10), Some((4060, DueReason::Scheduled)), "not before the failure is over");
    }

    #[test]
    fn expiries_that_no_clock_knows_are_no_trouble() {
        let mut odd = account();
        odd.details.as_mut().unwrap().value.access_token_expires_on = Some(i64::MIN);
        assert_eq!(DuePolicy::default().due(&odd).unwrap().at, Timestamp::MIN);
        odd.details.as_mut().unwrap().value.access_token_expires_on = Some(i64::MAX);
        let policy = DuePolicy { refresh_token_life_seconds: u32::MAX, ..DuePolicy::default() };
        assert!(policy.due(&odd).is_some());
    }
}
