//! Counts of token requests.

use std::collections::BTreeMap;

use serde::Serialize;

/// Token requests of one tenant since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TokenRequests {
    /// All requests.
    pub total: u64,
    /// Those answered with tokens.
    pub succeeded: u64,
    /// Requests by `grant_type`, whatever came of them.
    pub by_grant: BTreeMap<String, u64>,
    /// Requests by outcome: `ok`, an OAuth error code, `dropped`, or `answer_lost`.
    pub by_outcome: BTreeMap<String, u64>,
}

impl TokenRequests {
    /// Requests with this `grant_type`.
    #[must_use]
    pub fn with_grant(&self, grant_type: &str) -> u64 {
        self.by_grant.get(grant_type).copied().unwrap_or_default()
    }

    /// Requests that ended this way.
    #[must_use]
    pub fn with_outcome(&self, outcome: &str) -> u64 {
        self.by_outcome.get(outcome).copied().unwrap_or_default()
    }

    pub(super) fn count(&mut self, grant_type: &str, outcome: &str) {
        self.total += 1;
        self.succeeded += u64::from(outcome == OK);
        *self.by_grant.entry(grant_type.to_owned()).or_default() += 1;
        *self.by_outcome.entry(outcome.to_owned()).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.succeeded += other.succeeded;
        for (sum, parts) in [(&mut self.by_grant, &other.by_grant), (&mut self.by_outcome, &other.by_outcome)] {
            for (name, count) in parts {
                *sum.entry(name.clone()).or_default() += count;
            }
        }
    }
}

/// The outcome of a request that got its tokens.
pub(super) const OK: &str = "ok";
