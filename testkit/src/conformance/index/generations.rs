//! Generations, and what keeping an index right takes: scans and replacements.

use std::collections::{BTreeMap, HashMap};

use common::account::CacheKey;
use common::event::ActivityEvent;
use common::index::{AccountActivity, Checkpoint, Generations, IndexUpkeep, Query, fold};
use common::log::{Bounds, MessageDigest};
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::sample::{activity, details, hydrated, key, named, removed, username};
use super::{TestIndex, apply, assert_is_fold_of, counts_of, list, list_all, random_events};

/// Makes a change that nobody else is making.
async fn change(index: &TestIndex, how: impl Fn(&Generations) -> Generations) -> Generations {
    let from = index.generations.generations().await.expect("generations");
    let to = how(&from);
    assert!(index.generations.change(&from, &to).await.expect("a change"));
    to
}

async fn begin(index: &TestIndex) -> u32 {
    let log = BTreeMap::from([(0, Bounds { first: 3, next: 9 })]);
    let to = change(index, |from| from.begun("somebody", log.clone(), Timestamp::UNIX_EPOCH)).await;
    to.building.expect("one that is made").number
}

fn some_events() -> Vec<ActivityEvent> {
    let keys: Vec<String> = (0..40).map(|n| format!("key {n}")).collect();
    random_events(&mut StdRng::seed_from_u64(11), &keys, 300)
}

/// Until it is swapped in, nothing of it is seen, by either handle, and nothing of the live one is in it.
pub async fn a_generation_that_is_built_is_not_seen(index: &TestIndex) {
    let (live, new) = ([activity("live.tenant", 1, details())], [activity("new.tenant", 2, details())]);
    apply(&*index.store, &live).await;
    index.store.store_checkpoint(0, Checkpoint::at(5)).await.expect("stored");
    let number = begin(index).await;
    let building = index.generations.generation(number);
    apply(&*building, &new).await;
    building.store_checkpoint(0, Checkpoint::at(2)).await.expect("stored");
    assert_is_fold_of(&*index.store, &live).await;
    assert_is_fold_of(&*index.other, &live).await;
    assert_is_fold_of(&*building, &new).await;
    assert_eq!(index.other.checkpoint(0).await.expect("an answer"), Some(Checkpoint::at(5)));
    change(index, Generations::swapped).await;
    assert_is_fold_of(&*index.store, &new).await;
    assert_is_fold_of(&*index.other, &new).await;
    assert_eq!(index.other.checkpoint(0).await.expect("an answer"), Some(Checkpoint::at(2)));
    change(index, Generations::rolled_back).await;
    assert_is_fold_of(&*index.other, &live).await;
}

/// What is written to the live one by a handle that has not heard of the swap is in the new one.
pub async fn what_is_applied_around_a_swap_is_in_the_live_generation(index: &TestIndex) {
    let events = some_events();
    let mut applied = Vec::new();
    for (round, part) in events.chunks(30).enumerate() {
        apply(&*index.other, part).await;
        applied.extend_from_slice(part);
        let number = begin(index).await;
        apply(&*index.generations.generation(number), &applied).await;
        change(index, Generations::swapped).await;
        assert_is_fold_of(if round % 2 == 0 { &*index.other } else { &*index.store }, &applied).await;
    }
}

/// Applies and checkpoints of one who follows the log stay together.
pub async fn a_pinned_generation_stays_the_same_when_another_one_becomes_live(index: &TestIndex) {
    let pinned = index.other.pin().await.expect("an answer").expect("a generation");
    assert!(pinned.is_live().await.expect("an answer"));
    begin(index).await;
    assert!(pinned.is_live().await.expect("an answer"));
    change(index, Generations::swapped).await;
    assert!(!pinned.is_live().await.expect("an answer"));
    let late = [activity("late.tenant", 1, details())];
    apply(&*pinned, &late).await;
    pinned.store_checkpoint(0, Checkpoint::at(7)).await.expect("stored");
    assert_is_fold_of(&*index.other, &[]).await;
    assert_eq!(index.other.checkpoint(0).await.expect("an answer"), None);
    change(index, Generations::rolled_back).await;
    assert!(pinned.is_live().await.expect("an answer"));
    assert_is_fold_of(&*index.other, &late).await;
}

/// One of two that both saw the same.
pub async fn a_change_is_made_only_of_what_was_read(index: &TestIndex) {
    let from = index.generations.generations().await.expect("generations");
    let to = from.begun("one", BTreeMap::new(), Timestamp::UNIX_EPOCH);
    let other = from.begun("other", BTreeMap::new(), Timestamp::UNIX_EPOCH);
    assert!(index.generations.change(&from, &to).await.expect("an answer"));
    assert!(!index.generations.change(&from, &other).await.expect("an answer"));
    assert_eq!(index.generations.generations().await.expect("generations"), to);
    let beaten = change(index, |from| from.beaten("other")).await.building.expect("one that is made");
    assert_eq!((beaten.builder.as_str(), beaten.beats), ("other", 1));
}

/// Nothing of it is left, the others are whole, and who comes late is refused.
pub async fn a_deleted_generation_is_gone_and_refuses_writes(index: &TestIndex) {
    let events = some_events();
    apply(&*index.store, &events).await;
    let number = begin(index).await;
    let building = index.generations.generation(number);
    apply(&*building, &events).await;
    building.store_checkpoint(0, Checkpoint::at(1)).await.expect("stored");
    change(index, Generations::cancelled).await;
    index.generations.delete(number).await.expect("deleted");
    change(index, |from| from.deleted(number)).await;
    for refused in [
        building.apply(&[AccountActivity::of(&events[0])]).await.expect_err("it is deleted"),
        building.store_checkpoint(0, Checkpoint::at(2)).await.expect_err("it is deleted"),
    ] {
        assert!(!refused.is_transient(), "{refused}");
    }
    assert_is_fold_of(&*building, &[]).await;
    assert_eq!(building.checkpoint(0).await.expect("an answer"), None);
    assert_is_fold_of(&*index.store, &events).await;
}

/// A list goes on in the new generation where it was in the old one.
pub async fn cursors_stay_valid_across_a_swap(index: &TestIndex) {
    let events: Vec<ActivityEvent> = (0..40).map(|n| activity(&format!("key {n}"), n, details())).collect();
    apply(&*index.store, &events).await;
    let number = begin(index).await;
    apply(&*index.generations.generation(number), &events).await;
    let query = Query::IdleSince(Timestamp::MAX);
    let first = list(&*index.other, &query, &Default::default(), 15, None).await;
    change(index, Generations::swapped).await;
    let rest = list(&*index.other, &query, &Default::default(), 40, first.next).await;
    let seen: Vec<CacheKey> =
        first.accounts.into_iter().chain(rest.accounts).map(|account| account.cache_key).collect();
    let expected: Vec<CacheKey> = (0..40).map(|n| key(&format!("key {n}"))).collect();
    assert_eq!(seen, expected);
}

async fn scan_all(store: &dyn IndexUpkeep, count: usize) -> HashMap<CacheKey, AccountActivity> {
    let mut accounts = HashMap::new();
    let mut cursor = None;
    loop {
        let page = store.scan(cursor.as_ref(), count).await.expect("a page");
        accounts.extend(page.accounts.into_iter().map(|account| (account.cache_key.clone(), account)));
        cursor = page.next;
        if cursor.is_none() {
            return accounts;
        }
    }
}

async fn live(index: &TestIndex) -> std::sync::Arc<dyn IndexUpkeep> {
    index.generations.generation(index.generations.generations().await.expect("generations").live)
}

/// Listed or not, whatever the size of the pages.
pub async fn a_scan_has_every_account(index: &TestIndex) {
    assert!(scan_all(&*live(index).await, 10).await.is_empty());
    let many = (0..1_200).map(|n| activity(&format!("many {n}"), n, details()));
    let events: Vec<ActivityEvent> =
        some_events().into_iter().chain([hydrated("unlisted", 1, details()), removed("gone", 1)]).chain(many).collect();
    apply(&*index.store, &events).await;
    for count in [1, 100, 10_000] {
        assert_eq!(scan_all(&*live(index).await, count).await, fold(&events), "{count} to a page");
    }
    let keys: Vec<CacheKey> = ["gone", "nobody", "many 7", "gone"].map(key).to_vec();
    let found = live(index).await.get_many(&keys).await.expect("an answer");
    let expected: Vec<_> = keys.iter().map(|key| fold(&events).remove(key)).collect();
    assert_eq!(found, expected, "many at once, in their order");
}

/// Record, lists and counts, to what a join would never give; and not if the account is another by then.
pub async fn a_replacement_puts_exactly_what_it_is_given(index: &TestIndex) {
    let store = live(index).await;
    let right = AccountActivity::of(&activity("right.tenant", 5, named("right")));
    let wrong = AccountActivity::of(&activity("right.tenant", 9, named("wrong")));
    let parked = AccountActivity::of(&removed("right.tenant", 7));
    let steps = [
        (None, Some(&wrong), true),
        (None, Some(&right), false),
        (Some(&parked), Some(&right), false),
        (Some(&wrong), Some(&right), true),
        (Some(&right), Some(&parked), true),
        (Some(&right), None, false),
        (Some(&parked), Some(&wrong), true),
        (Some(&wrong), None, true),
        (Some(&wrong), None, false),
        (None, None, true),
        (None, Some(&right), true),
    ];
    let mut stored: Option<&AccountActivity> = None;
    for (expected, with, is_done) in steps {
        assert_eq!(store.replace(expected, with).await.expect("an answer"), is_done, "{expected:?} {with:?}");
        if is_done && (expected, with) != (None, None) {
            stored = with;
        }
        assert_eq!(index.other.get(&key("right.tenant")).await.expect("an answer").as_ref(), stored);
        assert_eq!(index.other.counts(None).await.expect("counts"), counts_of(stored.into_iter()));
        for (name, query) in [("right", "right"), ("wrong", "wrong")] {
            let listed = list_all(&*index.other, &Query::User(username(query)), &Default::default(), 10).await;
            let belongs = stored.filter(|account| Query::User(username(name)).asks_for(account));
            assert_eq!(listed.iter().collect::<Vec<_>>(), belongs.into_iter().collect::<Vec<_>>());
        }
        let listed = list_all(&*index.other, &Query::IdleSince(Timestamp::MAX), &Default::default(), 10).await;
        assert_eq!(listed.len(), stored.into_iter().filter(|account| account.is_listed()).count());
    }
}

/// The next reader begins anew.
pub async fn a_checkpoint_that_is_forgotten_is_none(index: &TestIndex) {
    let store = live(index).await;
    for partition in [0, 1] {
        let checkpoint = Checkpoint {
            next_offset: 9,
            newest_event: Some(Timestamp::UNIX_EPOCH),
            last_message: Some(MessageDigest::of(b"a message")),
        };
        store.store_checkpoint(partition, checkpoint).await.expect("stored");
    }
    store.forget_checkpoint(0).await.expect("forgotten");
    assert_eq!(index.other.checkpoint(0).await.expect("an answer"), None);
    store.store_checkpoint(0, Checkpoint::at(2)).await.expect("stored");
    assert_eq!(index.other.checkpoint(0).await.expect("an answer"), Some(Checkpoint::at(2)));
    assert_eq!(index.other.checkpoint(1).await.expect("an answer").map(|c| c.next_offset), Some(9));
}
