//! A log as bad days leave it: all kinds of events, some of them twice, in any order.

use std::time::Duration;

use anyhow::Context as _;
use common::event::{AccountDetails, AcquisitionFailure, Activity, ActivityEvent, EventDraft, FailureReason};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::events::{POPULATION, draft};

/// Of how many past seconds the events are, one a second.
const EVERY: Duration = Duration::from_secs(1);
/// 5 % of all, in 1/256.
const TWICE: u8 = 13;

/// Events about so many accounts, shuffled, one in twenty of them twice. The order is the same each time.
pub(super) fn disordered(count: usize, accounts: u64) -> anyhow::Result<Vec<ActivityEvent>> {
    let span = EVERY * u32::try_from(count).context("too many events")?;
    let mut time = Timestamp::now() - SignedDuration::try_from(span)?;
    let mut events = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let chance: [u8; 32] = Sha256::digest(number.to_be_bytes()).into();
        let event = drafted(number % accounts, chance[0], time)?.at(time);
        if chance[1] < TWICE {
            events.push((chance[16..].to_vec(), event.clone()));
        }
        events.push((chance[2..16].to_vec(), event));
        time += SignedDuration::try_from(EVERY)?;
    }
    events.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(events.into_iter().map(|(_, event)| event).collect())
}

/// In 256: 200 activities, 28 hydrations, 14 failures, 14 removals.
fn drafted(user: u64, chance: u8, now: Timestamp) -> anyhow::Result<EventDraft> {
    let mut draft = draft(&POPULATION.user(user), now)?;
    let Activity::UserActivity(details) = draft.activity else {
        anyhow::bail!("a write is the user's activity");
    };
    draft.activity = match chance {
        0..200 => Activity::UserActivity(details),
        200..228 => Activity::Hydrated(details),
        228..242 => Activity::AcquisitionFailed(failure(&details)),
        242.. => Activity::Removed((&details).into()),
    };
    Ok(draft)
}

fn failure(details: &AccountDetails) -> AcquisitionFailure {
    let reason = FailureReason::InteractionRequired;
    AcquisitionFailure { reason, error: None, suberror: None, retry_after: None, account: details.into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::HashSet;

    use common::index::AccountState;

    use super::*;

    #[test]
    fn the_disorder_has_every_state_and_one_event_in_twenty_twice() {
        let events = disordered(4_000, 800).unwrap();
        let ids: HashSet<_> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids.len(), 4_000);
        assert!((4_150..4_250).contains(&events.len()), "{} events", events.len());
        assert!(!events.is_sorted_by_key(|event| event.time));
        let states: HashSet<_> = common::index::fold(&events).values().map(|account| account.state()).collect();
        assert_eq!(states, HashSet::from([AccountState::Ready, AccountState::Parked, AccountState::Removed]));
    }
}
