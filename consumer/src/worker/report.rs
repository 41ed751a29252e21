//! What became of the accounts of a run.

use std::collections::BTreeMap;

use common::account::CacheKey;
use common::event::FailureReason;
use serde::Serialize;

use super::account::Hydration;

/// How many accounts without a good end a report names.
const MOST_EXAMPLES: usize = 20;

/// What became of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountOutcome {
    /// Its token was refreshed, and the blob is written back.
    Hydrated,
    /// The token in its blob is valid for long enough.
    StillValid,
    /// There is no token.
    NoToken(FailureReason),
    /// It was not tried.
    Skipped(Skipped),
    /// There was a token, and the job said no.
    JobFailed,
    /// There was a token, and the job panicked.
    JobPanicked,
    /// There was a token, and the job took too long.
    JobTimedOut,
    /// The worker itself failed at it, which is a defect.
    Crashed,
    /// Its tenant is left alone just now, as its identity provider asked for.
    LeftAlone,
    /// It is another worker's by now.
    ClaimLost,
}

/// Why an account was not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// Its user has to come back first.
    Parked,
    /// The provider asked to be left alone until a later time.
    BackingOff,
    /// Its cache was removed.
    Removed,
    /// It belongs to another app.
    OtherClient,
    /// The index knows too little about it.
    Unknown,
}

impl AccountOutcome {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hydrated => "hydrated",
            Self::StillValid => "still_valid",
            Self::NoToken(reason) => reason.as_str(),
            Self::Skipped(skipped) => skipped.as_str(),
            Self::JobFailed => "job_failed",
            Self::JobPanicked => "job_panicked",
            Self::JobTimedOut => "job_timed_out",
            Self::Crashed => "crashed",
            Self::LeftAlone => "left_alone",
            Self::ClaimLost => "claim_lost",
        }
    }

    /// Whether the account has what it needs, or nothing is to be done about it.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Hydrated | Self::StillValid | Self::Skipped(_) | Self::LeftAlone | Self::ClaimLost)
    }
}

impl Skipped {
    /// Every reason there is.
    pub const ALL: [Self; 5] = [Self::Parked, Self::BackingOff, Self::Removed, Self::OtherClient, Self::Unknown];

    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "skipped_parked",
            Self::BackingOff => "skipped_backing_off",
            Self::Removed => "skipped_removed",
            Self::OtherClient => "skipped_other_client",
            Self::Unknown => "skipped_unknown",
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunReport {
    /// Accounts that were looked at.
    pub accounts: u64,
    /// Accounts whose token was refreshed; each has its event.
    pub hydrated: u64,
    /// Accounts by what became of them.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Accounts that have not what they need.
    pub failed: u64,
    /// Failures the log does not know of, because the store did not take the event.
    pub untold: u64,
    /// Whether the run was told to stop before its end.
    pub is_cut_short: bool,
    /// The first of those that failed.
    pub examples: Vec<Example>,
}

/// An account that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Which.
    pub cache_key: CacheKey,
    /// What became of it.
    pub outcome: &'static str,
    /// Why there is no token, in a sentence.
    pub detail: Option<String>,
}

impl RunReport {
    /// Accounts that ended so.
    pub fn count(&self, outcome: AccountOutcome) -> u64 {
        self.outcomes.get(outcome.as_str()).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, cache_key: CacheKey, hydration: Hydration) {
        let Hydration { outcome, is_hydrated, is_untold, detail, .. } = hydration;
        self.accounts += 1;
        self.hydrated += u64::from(is_hydrated);
        self.untold += u64::from(is_untold);
        *self.outcomes.entry(outcome.as_str()).or_default() += 1;
        if outcome.is_good() {
            return;
        }
        self.failed += 1;
        if self.examples.len() < MOST_EXAMPLES {
            self.examples.push(Example { cache_key, outcome: outcome.as_str(), detail });
        }
    }
}
