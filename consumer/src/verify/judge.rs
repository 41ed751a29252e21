//! What the index says of an account, held against what the log says.
//!
//! The index moves on while it is looked at, so there is no one right answer but two bounds: it has at least what is
//! before its checkpoints (`lower`), and at most what was in the log when the account had been read (`upper`). What is
//! beyond `upper` and older than the log's first events was cut off the log, and may be right.

use common::event::{AccountDetails, AcquisitionFailure};
use common::index::{AccountActivity, Register};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// What may be in the index of one account.
pub(super) struct Bounds<'a> {
    /// What the log had before the index's checkpoints.
    pub(super) lower: &'a AccountActivity,
    /// What the log has.
    pub(super) upper: &'a AccountActivity,
    /// Up to when, in microseconds, the log may have been cut.
    pub(super) horizon: i64,
}

/// What was found of one account.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    /// The fields that are wrong.
    pub(super) fields: Vec<String>,
    /// Whether the index has something that is older than the log.
    pub(super) has_older: bool,
    /// The account as it should be.
    pub(super) healed: AccountActivity,
}

/// One field in its place between the bounds.
enum Place {
    Right,
    Older,
    Wrong,
}

/// Judges `found`, which says nothing where the index has no such account.
pub(super) fn judge(found: &AccountActivity, bounds: &Bounds<'_>) -> Verdict {
    let horizon = bounds.horizon;
    let removed_at =
        found.removed_at.filter(|at| Some(*at) <= bounds.upper.removed_at || at.as_microsecond() <= horizon);
    let (lower, upper) = (&without(bounds.lower, removed_at), &without(bounds.upper, removed_at));
    let to_be_removed = upper.removed_at.filter(|_| upper.removed_at > found.removed_at).map(Timestamp::as_microsecond);
    let mut judge = Judge { horizon, to_be_removed, fields: Vec::new(), has_older: false };
    let mut healed = AccountActivity::nothing_about(found.cache_key.clone());
    healed.details = judge.register("details", &found.details, &lower.details, &upper.details, details_of);
    healed.failure =
        judge.register("failure", &found.failure, &lower.failure, &upper.failure, |failure| failure_of(failure));
    healed.last_activity = judge.time("last_activity", found.last_activity, lower.last_activity, upper.last_activity);
    healed.last_hydration =
        judge.time("last_hydration", found.last_hydration, lower.last_hydration, upper.last_hydration);
    healed.removed_at = judge.time("removed_at", found.removed_at, bounds.lower.removed_at, bounds.upper.removed_at);
    Verdict { fields: judge.fields, has_older: judge.has_older, healed }
}

/// The account without what a removal makes the index forget.
fn without(account: &AccountActivity, removed_at: Option<Timestamp>) -> AccountActivity {
    let mut left = account.clone();
    left.merge(&AccountActivity { removed_at, ..AccountActivity::nothing_about(account.cache_key.clone()) });
    left
}

struct Judge {
    horizon: i64,
    /// The log has a removal that the index has not seen yet: what is as old as this is about to go.
    to_be_removed: Option<i64>,
    fields: Vec<String>,
    has_older: bool,
}

impl Judge {
    fn place<T: PartialOrd>(&self, found: &Option<T>, lower: &Option<T>, upper: &Option<T>, micros: i64) -> Place {
        if found < lower {
            Place::Wrong
        } else if found <= upper || self.to_be_removed.is_some_and(|removed_at| micros <= removed_at) {
            Place::Right
        } else if micros <= self.horizon {
            Place::Older
        } else {
            Place::Wrong
        }
    }

    fn time(
        &mut self,
        name: &str,
        found: Option<Timestamp>,
        lower: Option<Timestamp>,
        upper: Option<Timestamp>,
    ) -> Option<Timestamp> {
        match self.place(&found, &lower, &upper, found.map_or(i64::MIN, Timestamp::as_microsecond)) {
            Place::Right => upper,
            Place::Older => {
                self.has_older = true;
                found
            }
            Place::Wrong => {
                self.fields.push(name.to_owned());
                upper
            }
        }
    }

    fn register<T: Clone + Serialize + PartialEq>(
        &mut self,
        name: &str,
        found: &Option<Register<T>>,
        lower: &Option<Register<T>>,
        upper: &Option<Register<T>>,
        fields_of: fn(&T) -> Value,
    ) -> Option<Register<T>> {
        let stamp = |register: &Option<Register<T>>| register.as_ref().map(|register| register.stamp);
        let of_that_stamp = [upper, lower].into_iter().find(|said| stamp(said) == stamp(found));
        if let Some(said) = of_that_stamp {
            self.fields.extend(differing(name, found, said, fields_of));
            return upper.clone();
        }
        match self.place(&stamp(found), &stamp(lower), &stamp(upper), stamp(found).map_or(i64::MIN, |s| s.micros)) {
            Place::Right => upper.clone(),
            Place::Older => {
                self.has_older = true;
                found.clone()
            }
            Place::Wrong => {
                let names = differing(name, found, upper, fields_of);
                self.fields.extend(if names.is_empty() { vec![format!("{name}.stamp")] } else { names });
                upper.clone()
            }
        }
    }
}

/// The names of the fields whose values differ; the register's own where one of them is not there.
fn differing<T>(
    name: &str,
    found: &Option<Register<T>>,
    said: &Option<Register<T>>,
    fields_of: fn(&T) -> Value,
) -> Vec<String> {
    let (found, said) = match (found, said) {
        (None, None) => return Vec::new(),
        (Some(found), Some(said)) => (fields_of(&found.value), fields_of(&said.value)),
        _ => return vec![name.to_owned()],
    };
    let (Value::Object(found), Value::Object(said)) = (found, said) else { return Vec::new() };
    let mut names: Vec<&String> = found.keys().chain(said.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let differing = names.into_iter().filter(|field| found.get(*field) != said.get(*field));
    differing.map(|field| format!("{name}.{field}")).collect()
}

fn details_of(details: &AccountDetails) -> Value {
    serde_json::to_value(details).unwrap_or_default()
}

fn failure_of(failure: &AcquisitionFailure) -> Value {
    serde_json::to_value(failure).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use common::account::{CacheKey, ClientId, Environment, HomeAccountId};
    use common::event::{Activity, EventDraft, EventSource, Properties};

    use super::*;

    fn at(micros: i64, client: &str) -> AccountActivity {
        let details = AccountDetails {
            home_account_id: HomeAccountId::new("uid.utid").unwrap(),
            object_id: None,
            tenant_id: None,
            environment: Environment::new("login.microsoftonline.com").unwrap(),
            client_id: ClientId::new(client).unwrap(),
            username: None,
            access_token_expires_on: None,
            refresh_token_expires_on: None,
            has_refresh_token: true,
            properties: Properties::default(),
        };
        let source = EventSource::new("/apps/test").unwrap();
        let key = CacheKey::new("uid.utid").unwrap();
        let event = EventDraft::new(source, key, Activity::UserActivity(details));
        AccountActivity::of(&event.at(Timestamp::from_microsecond(micros).unwrap()))
    }

    fn nothing() -> AccountActivity {
        AccountActivity::nothing_about(CacheKey::new("uid.utid").unwrap())
    }

    fn wrong(found: &AccountActivity, lower: &AccountActivity, upper: &AccountActivity) -> Vec<String> {
        judge(found, &Bounds { lower, upper, horizon: 5 }).fields
    }

    #[test]
    fn what_is_between_the_bounds_is_right() {
        let (early, late) = (at(10, "a"), at(20, "b"));
        for (found, lower, upper) in [(&early, &early, &late), (&late, &early, &late), (&early, &nothing(), &early)] {
            assert_eq!(wrong(found, lower, upper), [""; 0], "{found:?}");
        }
        assert_eq!(wrong(&nothing(), &nothing(), &late), [""; 0], "it is not applied yet");
    }

    #[test]
    fn what_is_before_the_checkpoint_has_to_be_there() {
        let (early, late) = (at(10, "a"), at(20, "b"));
        let verdict = judge(&early, &Bounds { lower: &late, upper: &late, horizon: 5 });
        assert_eq!(verdict.fields, ["details.client_id", "last_activity"]);
        assert_eq!(verdict.healed, late);
        assert_eq!(wrong(&nothing(), &late, &late), ["details", "last_activity"]);
    }

    #[test]
    fn what_the_log_never_said_is_wrong_unless_it_is_older_than_the_log() {
        let (early, late, oldest) = (at(10, "a"), at(20, "b"), at(4, "c"));
        let verdict = judge(&late, &Bounds { lower: &early, upper: &early, horizon: 5 });
        assert_eq!((verdict.fields.len(), &verdict.healed), (2, &early));
        assert_eq!(wrong(&late, &nothing(), &nothing()), ["details", "last_activity"]);
        let verdict = judge(&oldest, &Bounds { lower: &nothing(), upper: &nothing(), horizon: 5 });
        assert_eq!((verdict.fields.len(), verdict.has_older, &verdict.healed), (0, true, &oldest));
    }

    #[test]
    fn a_value_another_event_wrote_is_named_by_its_field() {
        let right = at(10, "a");
        let mut wrong_value = right.clone();
        wrong_value.details.as_mut().unwrap().value.client_id = ClientId::new("other").unwrap();
        assert_eq!(wrong(&wrong_value, &right, &right), ["details.client_id"]);
        wrong_value.last_activity = None;
        assert_eq!(wrong(&wrong_value, &right, &right), ["details.client_id", "last_activity"]);
    }

    fn removed(account: &AccountActivity, micros: i64) -> AccountActivity {
        without(account, Timestamp::from_microsecond(micros).ok())
    }

    #[test]
    fn what_a_removal_makes_the_index_forget_is_right_before_and_after_the_index_has_seen_it() {
        let (early, gone) = (at(10, "a"), removed(&at(10, "a"), 15));
        assert_eq!(gone.details, None);
        for (found, lower, upper) in [(&early, &early, &gone), (&gone, &early, &gone), (&gone, &gone, &gone)] {
            assert_eq!(wrong(found, lower, upper), [""; 0], "{found:?}");
        }
        let kept = AccountActivity { removed_at: gone.removed_at, ..early.clone() };
        assert_eq!(wrong(&kept, &gone, &gone), ["details", "last_activity"], "it had to be forgotten");
        let before_the_log = removed(&at(3, "a"), 4);
        assert_eq!(wrong(&before_the_log, &at(3, "a"), &at(3, "a")), [""; 0], "the removal was cut off the log");
    }
}
