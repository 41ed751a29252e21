//! What a worker on due accounts is doing, and whether it really works.

use std::time::Duration;

use common::account::CacheKey;
use common::event::FailureReason;
use tokio::time::Instant;

use super::settings::DueWorkerSettings;
use crate::worker::account::Hydration;
use crate::worker::{AccountOutcome, RunReport};

/// So many polls without an answer, and it is not ready.
const MISSED_POLLS: u32 = 5;
/// The least time without an answer for that.
const LEAST_SILENCE: Duration = Duration::from_secs(15);
/// After so many accounts in a row that failed for want of a server, it is not ready.
const IN_VAIN: u64 = 10;

/// What a worker on due accounts is doing.
#[derive(Debug, Clone)]
pub struct DueWorkerStatus {
    /// Accounts that are under way.
    pub in_flight: u64,
    /// Accounts claimed so far.
    pub claimed: u64,
    /// Claims that were given back undone at the end.
    pub released: u64,
    /// What became of the accounts.
    pub report: RunReport,
    /// Why accounts cannot be claimed just now.
    pub trouble: Option<String>,
    /// Accounts in a row that failed for want of a server, and which.
    pub in_vain: u64,
    last_reason: Option<FailureReason>,
    last_answer: Option<Instant>,
    last_end: Option<Instant>,
    silence: Duration,
    longest_task: Duration,
    concurrency: u64,
}

/// Why a worker is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It has not asked yet.
    #[error("no accounts were claimed yet")]
    Starting,
    /// The index does not give accounts.
    #[error("no accounts can be claimed: {0}")]
    NoClaims(String),
    /// Each account fails for want of a server.
    #[error("the last {accounts} accounts failed: {}", reason.as_str())]
    InVain {
        /// How many.
        accounts: u64,
        /// For want of what.
        reason: FailureReason,
    },
    /// All hands are full, and nothing ends.
    #[error("{in_flight} accounts are under way and none has ended for {seconds} s")]
    Stuck {
        /// How many.
        in_flight: u64,
        /// For how long.
        seconds: u64,
    },
}

impl DueWorkerStatus {
    pub(super) fn new(settings: &DueWorkerSettings) -> Self {
        Self {
            in_flight: 0,
            claimed: 0,
            released: 0,
            report: RunReport::default(),
            trouble: None,
            in_vain: 0,
            last_reason: None,
            last_answer: None,
            last_end: None,
            silence: (settings.poll * 2 * MISSED_POLLS).max(LEAST_SILENCE),
            longest_task: settings.hydration.job_time_limit + settings.lease,
            concurrency: settings.concurrency() as u64,
        }
    }

    pub(super) fn claimed(&mut self, accounts: usize) {
        let now = Instant::now();
        self.claimed += accounts as u64;
        self.in_flight += accounts as u64;
        self.last_answer = Some(now);
        self.last_end.get_or_insert(now);
        self.trouble = None;
    }

    pub(super) fn ended(&mut self, cache_key: CacheKey, hydration: Hydration) {
        self.in_flight -= 1;
        self.last_end = Some(Instant::now());
        match hydration.outcome {
            AccountOutcome::NoToken(
                reason @ (FailureReason::StoreUnavailable | FailureReason::IdentityProviderUnavailable),
            ) => {
                self.in_vain += 1;
                self.last_reason = Some(reason);
            }
            AccountOutcome::LeftAlone | AccountOutcome::ClaimLost => {}
            _ => self.in_vain = 0,
        }
        self.report.add(cache_key, hydration);
    }

    /// Whether it works, and is not only connected: accounts are given out to it, and what it does with them ends.
    ///
    /// # Errors
    /// [`NotReady`].
    pub fn ready(&self) -> Result<(), NotReady> {
        let now = Instant::now();
        let Some(answered) = self.last_answer else {
            return Err(self.trouble.clone().map_or(NotReady::Starting, NotReady::NoClaims));
        };
        if let (Some(reason), true) = (self.last_reason, self.in_vain >= IN_VAIN) {
            return Err(NotReady::InVain { accounts: self.in_vain, reason });
        }
        let without_end = self.last_end.map_or(Duration::ZERO, |end| now - end);
        if self.in_flight >= self.concurrency {
            if without_end > self.longest_task {
                return Err(NotReady::Stuck { in_flight: self.in_flight, seconds: without_end.as_secs() });
            }
            return Ok(());
        }
        if now - answered > self.silence {
            let why = self.trouble.clone().unwrap_or_else(|| "no answer".to_owned());
            return Err(NotReady::NoClaims(why));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use common::index::WorkerId;
    use tokio::time::advance;

    use super::*;

    fn status() -> DueWorkerStatus {
        DueWorkerStatus::new(&DueWorkerSettings::new(WorkerId::new("w").unwrap()))
    }

    fn end(status: &mut DueWorkerStatus, outcome: AccountOutcome) {
        status.claimed(1);
        status.ended("key".parse().unwrap(), Hydration::without_token(outcome));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_ready_while_the_index_answers_it() {
        let mut status = status();
        assert_eq!(status.ready(), Err(NotReady::Starting));
        status.trouble = Some("redis is away".to_owned());
        assert_eq!(status.ready(), Err(NotReady::NoClaims("redis is away".to_owned())));
        status.claimed(0);
        assert_eq!(status.ready(), Ok(()));
        advance(LEAST_SILENCE + Duration::from_secs(1)).await;
        assert_eq!(status.ready(), Err(NotReady::NoClaims("no answer".to_owned())), "connected, and not working");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_whose_accounts_all_fail_for_want_of_a_server_is_not_ready() {
        let mut status = status();
        let reason = FailureReason::IdentityProviderUnavailable;
        (0..IN_VAIN).for_each(|_| end(&mut status, AccountOutcome::NoToken(reason)));
        assert_eq!(status.ready(), Err(NotReady::InVain { accounts: IN_VAIN, reason }));
        end(&mut status, AccountOutcome::Hydrated);
        assert_eq!(status.ready(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_whose_hands_are_full_for_longer_than_a_job_may_take_is_not_ready() {
        let mut status = status();
        status.claimed(16);
        advance(Duration::from_secs(300)).await;
        assert_eq!(status.ready(), Ok(()), "busy is not stuck");
        advance(Duration::from_secs(61)).await;
        assert_eq!(status.ready(), Err(NotReady::Stuck { in_flight: 16, seconds: 361 }));
    }
}
