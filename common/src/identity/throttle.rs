//! What `Retry-After` asked for, kept for the whole process: a tenant that throttles is not called before it is over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// The most tenants that are remembered; each is forgotten when its time is over, an hour later at most.
const MOST_TENANTS: usize = 10_000;

/// Until when each tenant is left alone.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    until: Mutex<HashMap<String, Timestamp>>,
}

impl Throttle {
    /// Until when `tenant` is to be left alone, if it is now.
    pub(super) fn in_force(&self, tenant: &str, now: Timestamp) -> Option<Timestamp> {
        let mut all = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let until = *all.get(tenant)?;
        if until <= now {
            all.remove(tenant);
            return None;
        }
        Some(until)
    }

    /// Leaves `tenant` alone until the time. A later time that was asked for before stays.
    pub(super) fn set(&self, tenant: &str, until: Timestamp, now: Timestamp) {
        let mut all = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_TENANTS && !all.contains_key(tenant) {
            all.retain(|_, until| *until > now);
            drop_soonest(&mut all);
        }
        let kept = all.entry(tenant.to_owned()).or_insert(until);
        *kept = until.max(*kept);
    }
}

/// Makes place by forgetting the one whose time is over next.
fn drop_soonest(all: &mut HashMap<String, Timestamp>) {
    if all.len() < MOST_TENANTS {
        return;
    }
    let soonest = all.iter().min_by_key(|(_, until)| **until).map(|(tenant, _)| tenant.clone());
    if let Some(tenant) = soonest {
        all.remove(&tenant);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_tenant_is_left_alone_until_its_time_and_no_other_with_it() {
        let throttle = Throttle::default();
        throttle.set("a", at(10), at(0));
        assert_eq!(throttle.in_force("a", at(9)), Some(at(10)));
        assert_eq!(throttle.in_force("b", at(9)), None);
        assert_eq!(throttle.in_force("a", at(10)), None);
    }

    #[test]
    fn a_shorter_time_does_not_replace_a_longer_one() {
        let throttle = Throttle::default();
        throttle.set("a", at(10), at(0));
        throttle.set("a", at(5), at(0));
        assert_eq!(throttle.in_force("a", at(7)), Some(at(10)));
    }

    #[test]
    fn it_remembers_a_bounded_number_of_tenants() {
        let throttle = Throttle::default();
        for tenant in 0..=MOST_TENANTS {
            throttle.set(&tenant.to_string(), at(1_000_000 + i64::try_from(tenant).unwrap()), at(0));
        }
        assert_eq!(throttle.until.lock().unwrap().len(), MOST_TENANTS);
        assert_eq!(throttle.in_force("0", at(0)), None);
    }
}
