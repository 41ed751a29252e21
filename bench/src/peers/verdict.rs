//! Whether an index is the fold of its events.

use std::collections::HashMap;
use std::fmt;

use common::account::CacheKey;
use common::event::{AccountDetails, AcquisitionFailure, FailureReason};
use common::index::AccountActivity;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::index::Kept;

/// The sorted sets a listed account is in.
const LISTS: usize = 3;

/// What became of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Each account is as the fold has it.
    EqualsTheFold,
    /// So many accounts are not.
    Differs { accounts: usize, of: usize },
    /// The peer did not come to the end in time.
    CutOff { applied: usize, of: usize },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EqualsTheFold => f.write_str("equals the fold"),
            Self::Differs { accounts, of } => write!(f, "WRONG in {accounts} of {of} accounts"),
            Self::CutOff { applied, of } => write!(f, "cut off after {applied} of {of} events"),
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Holds what a peer kept against the fold.
pub(super) fn compare(fold: &HashMap<CacheKey, AccountActivity>, kept: &HashMap<CacheKey, Kept>) -> Verdict {
    let is_wrong = |(key, account): &(&CacheKey, &AccountActivity)| {
        kept.get(*key).and_then(seen_by_peer) != Some(seen_by_fold(account))
    };
    match fold.iter().filter(is_wrong).count() {
        0 => Verdict::EqualsTheFold,
        accounts => Verdict::Differs { accounts, of: fold.len() },
    }
}

/// What a worker would see of an account; nothing of one that was removed or never there.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    last_activity: Option<i64>,
    last_hydration: Option<i64>,
    details: Option<AccountDetails>,
    /// The failure that is in force.
    failure: Option<FailureReason>,
}

fn seen_by_fold(account: &AccountActivity) -> Seen {
    if !account.is_listed() {
        return Seen::default();
    }
    Seen {
        last_activity: account.last_activity.map(Timestamp::as_microsecond),
        last_hydration: account.last_hydration.map(Timestamp::as_microsecond),
        details: account.details.as_ref().map(|details| details.value.clone()),
        failure: account.failure_in_force().map(|failure| failure.value.reason),
    }
}

/// Nothing where what is kept does not fit together, or cannot be read.
fn seen_by_peer(kept: &Kept) -> Option<Seen> {
    let time = |field: &str| kept.hash.get(field).and_then(|text| microseconds(text));
    let last_activity = time("last_activity");
    if last_activity.is_none() {
        return (kept.lists == 0).then(Seen::default);
    }
    let (last_hydration, failed_at) = (time("last_hydration"), time("failure_at"));
    let failure = match kept.hash.get("failure").filter(|_| failed_at > last_activity && failed_at > last_hydration) {
        Some(failure) => Some(serde_json::from_str::<AcquisitionFailure>(failure).ok()?.reason),
        None => None,
    };
    let details = Some(serde_json::from_str(kept.hash.get("details")?).ok()?);
    (kept.lists == LISTS).then_some(Seen { last_activity, last_hydration, details, failure })
}

fn microseconds(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| text.parse().ok().map(Timestamp::as_microsecond))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use common::event::ActivityEvent;
    use common::index::fold;

    use super::super::disorder::disordered;
    use super::*;

    type Mistake<'a> = Box<dyn Fn(&mut Kept) + 'a>;

    fn events() -> Vec<ActivityEvent> {
        disordered(400, 80).unwrap()
    }

    /// An index as a peer that makes no mistake keeps it.
    fn kept_of(account: &AccountActivity) -> Kept {
        let time = |time: Option<Timestamp>| time.map(|time| time.as_microsecond().to_string());
        let details = account.details.as_ref().map(|details| serde_json::to_string(&details.value).unwrap());
        let failure = account.failure.as_ref();
        let fields = [
            ("last_activity", time(account.last_activity)),
            ("last_hydration", account.last_hydration.map(|time| time.to_string())),
            ("removed_at", time(account.removed_at)),
            ("details", details),
            ("failure", failure.map(|failure| serde_json::to_string(&failure.value).unwrap())),
            ("failure_at", failure.map(|failure| failure.stamp.micros.to_string())),
        ];
        let hash = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Kept { hash, lists: if account.is_listed() { LISTS } else { 0 } }
    }

    fn kept(fold: &HashMap<CacheKey, AccountActivity>) -> HashMap<CacheKey, Kept> {
        fold.iter().map(|(key, account)| (key.clone(), kept_of(account))).collect()
    }

    #[test]
    fn an_index_that_is_the_fold_is_said_to_be() {
        let fold = fold(&events());
        assert_eq!(compare(&fold, &kept(&fold)), Verdict::EqualsTheFold);
    }

    #[test]
    fn an_index_of_some_of_the_events_is_said_to_differ() {
        let events = events();
        let kept = kept(&fold(&events[..events.len() / 2]));
        assert!(matches!(compare(&fold(&events), &kept), Verdict::Differs { accounts: 20.., of: 80 }));
    }

    #[test]
    fn each_mistake_about_an_account_is_seen() {
        let fold = fold(&events());
        let right = kept(&fold);
        let is_listed = |key: &&CacheKey| fold[*key].is_listed() && fold[*key].last_hydration.is_some();
        let listed = fold.keys().find(is_listed).unwrap();
        let removed = fold.keys().find(|key| !fold[*key].is_listed()).unwrap();
        let other = fold.keys().find(|key| *key != listed && fold[*key].is_listed()).unwrap();
        let stale = |kept: &mut Kept| drop(kept.hash.insert("last_activity".into(), "2026-11-22T10:00:00Z".into()));
        let foreign = |kept: &mut Kept| drop(kept.hash.insert("details".into(), right[other].hash["details"].clone()));
        let mistakes: [(&CacheKey, Mistake<'_>); 6] = [
            (listed, Box::new(|kept| kept.lists = 2)),
            (listed, Box::new(|kept| drop(kept.hash.remove("last_hydration")))),
            (listed, Box::new(foreign)),
            (listed, Box::new(stale)),
            (removed, Box::new(|kept| kept.lists = 1)),
            (removed, Box::new(|kept| *kept = right[listed].clone())),
        ];
        for (number, (key, mistake)) in mistakes.iter().enumerate() {
            let mut wrong = right.clone();
            mistake(wrong.get_mut(*key).unwrap());
            assert_eq!(compare(&fold, &wrong), Verdict::Differs { accounts: 1, of: fold.len() }, "mistake {number}");
        }
    }
}
