#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::index::arbitrary;
use crate::index::fold;

fn key() -> CacheKey {
    CacheKey::new("uid.utid").unwrap()
}

fn said() -> impl Strategy<Value = AccountActivity> {
    arbitrary::event_about(key()).prop_map(|event| AccountActivity::of(&event))
}

fn joined<'a>(parts: impl IntoIterator<Item = &'a AccountActivity>) -> AccountActivity {
    let mut all = AccountActivity::nothing_about(key());
    parts.into_iter().for_each(|part| all.merge(part));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn joining_two_copies_gives_the_same_in_either_order(a in vec(said(), 0..5), b in vec(said(), 0..5)) {
        let (a, b) = (joined(&a), joined(&b));
        prop_assert_eq!(joined([&a, &b]), joined([&b, &a]));
    }

    #[test]
    fn taking_a_copy_over_gives_what_joining_it_gives(a in vec(said(), 0..5), b in vec(said(), 0..5)) {
        let (a, b) = (joined(&a), joined(&b));
        let mut taken_over = a.clone();
        taken_over.absorb(b.clone());
        prop_assert_eq!(taken_over, joined([&a, &b]));
    }

    #[test]
    fn joining_three_copies_gives_the_same_however_they_are_paired(a in said(), b in said(), c in said()) {
        let (left, right) = (joined([&a, &b]), joined([&b, &c]));
        prop_assert_eq!(joined([&left, &c]), joined([&a, &right]));
    }

    #[test]
    fn joining_a_copy_to_itself_changes_nothing(parts in vec(said(), 0..5)) {
        let all = joined(&parts);
        prop_assert_eq!(joined([&all, &all]), all);
    }

    #[test]
    fn any_order_and_duplication_of_events_gives_the_same_fold(
        events in vec(arbitrary::event_about(key()), 1..8).prop_flat_map(|events| {
            let again = vec(prop::sample::select(events.clone()), 0..8);
            (Just(events), again)
        }).prop_flat_map(|(events, again)| {
            let all: Vec<ActivityEvent> = events.iter().cloned().chain(again).collect();
            (Just(events), Just(all).prop_shuffle())
        })
    ) {
        let (events, shuffled) = events;
        prop_assert_eq!(fold(&events), fold(&shuffled));
    }

    #[test]
    fn a_removal_leaves_nothing_of_what_came_before_it(events in vec(arbitrary::event_about(key()), 1..8)) {
        let all = joined(&events.iter().map(AccountActivity::of).collect::<Vec<_>>());
        let Some(removed_at) = all.removed_at else { return Ok(()) };
        let times = [
            all.details.as_ref().map(|details| details.stamp.time()),
            all.failure.as_ref().map(|failure| failure.stamp.time()),
            all.last_activity,
            all.last_hydration,
        ];
        prop_assert!(times.into_iter().flatten().all(|time| time > removed_at));
    }
}
