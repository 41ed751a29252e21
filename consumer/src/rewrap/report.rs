//! What became of all blobs.

use common::account::CacheKey;
use common::token_cache::encryption::Rewrapped;
use serde::Serialize;

use super::Outcome;

/// How many problems a report names; all are counted and logged.
pub const MOST_PROBLEMS_SHOWN: usize = 20;

/// How many blobs there were of each kind. A key that comes twice in a scan counts twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RewrapReport {
    /// Under the active key now, under another one before.
    pub rewrapped: u64,
    /// Under the active key now, plain text before.
    pub encrypted: u64,
    /// Under the active key since before.
    pub already_active: u64,
    /// Plain text, and left so.
    pub plain_text: u64,
    /// They do not open, and are left as they are.
    pub undecryptable: u64,
    /// The store cannot give them: another layout, or another program's keys.
    pub unreadable: u64,
    /// Names under the instance name that are no cache key.
    pub unreadable_names: u64,
    /// They changed each time between reading and writing.
    pub contended: u64,
    /// Removed or expired meanwhile.
    pub vanished: u64,
    /// Whether all of the cache was walked through.
    pub is_complete: bool,
    /// The first of those that are not under the active key.
    pub problems: Vec<Problem>,
}

/// A blob that is not under the active key, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its key.
    pub cache_key: CacheKey,
    /// Why.
    pub why: String,
}

impl RewrapReport {
    /// Whether every blob there was is under the active key.
    pub fn is_all_done(&self) -> bool {
        let left = [self.plain_text, self.undecryptable, self.unreadable, self.unreadable_names, self.contended];
        self.is_complete && left.iter().all(|count| *count == 0)
    }

    /// Whether every blob was under the active key before.
    pub fn was_all_done(&self) -> bool {
        self.is_all_done() && self.rewrapped == 0 && self.encrypted == 0
    }

    pub(super) fn count(&mut self, key: &CacheKey, outcome: Outcome) {
        let (count, why) = match outcome {
            Ok(Rewrapped::Done) => (&mut self.rewrapped, None),
            Ok(Rewrapped::Encrypted) => (&mut self.encrypted, None),
            Ok(Rewrapped::AlreadyActive) => (&mut self.already_active, None),
            Ok(Rewrapped::Vanished) => (&mut self.vanished, None),
            Ok(Rewrapped::PlainText) => (&mut self.plain_text, Some("it is plain text".to_owned())),
            Ok(Rewrapped::Undecryptable(reason)) => (&mut self.undecryptable, Some(reason.to_string())),
            Ok(Rewrapped::Contended) => (&mut self.contended, Some("it changed again and again; run again".to_owned())),
            Err(why) => (&mut self.unreadable, Some(why)),
        };
        *count += 1;
        if let Some(why) = why {
            tracing::debug!(%key, why, "not under the active key");
            if self.problems.len() < MOST_PROBLEMS_SHOWN {
                self.problems.push(Problem { cache_key: key.clone(), why });
            }
        }
    }
}
