//! The rules of the fold, one by one.

use common::event::{ActivityEvent, EventId, FailureReason, Properties, Recovery};
use common::index::{AccountState, Query, fold};
use jiff::Timestamp;
use serde_json::json;

use super::sample::{REASONS, activity, at, details, failed, hydrated, key, named, removed, tenant, username};
use super::{TestIndex, apply, assert_is_fold_of, counts_of, list_all};

const KEY: &str = "uid.tenant-0";

/// Nothing, and no error.
pub async fn an_empty_index_knows_nothing(index: &TestIndex) {
    assert_eq!(index.store.get(&key(KEY)).await.expect("an answer"), None);
    assert_is_fold_of(&*index.store, &[]).await;
    let counts = index.store.counts(Some(&tenant("tenant-0"))).await.expect("counts");
    assert_eq!(counts, counts_of([].into_iter()));
    let nobody = Query::User(username("nobody"));
    assert_eq!(list_all(&*index.store, &nobody, &Default::default(), 10).await, []);
}

/// Every field, the free properties with their numbers included.
pub async fn what_a_user_activity_says_comes_back_as_it_was(index: &TestIndex) {
    let properties = json!({
        "a": 0.1, "b": 1e308, "c": i64::MIN, "d": u64::MAX, "e": null, "f": [1, { "g": "é" }], "0.1 + 0.2": 0.1 + 0.2,
        "h": 123_456_789.123_456_79,
    });
    let mut details = named("Ülkü@contoso.com");
    details.access_token_expires_on = Some(i64::MAX);
    details.refresh_token_expires_on = Some(-1);
    details.properties = serde_json::from_value::<Properties>(properties).expect("properties");
    let events = [activity(KEY, 0, details)];
    apply(&*index.store, &events).await;
    assert_is_fold_of(&*index.store, &events).await;
    assert_is_fold_of(&*index.other, &events).await;
}

/// A register: the newest `user-activity` or `hydrated`.
pub async fn the_newest_details_win_in_whatever_order_they_come(index: &TestIndex) {
    let events =
        [activity(KEY, 3, named("third")), hydrated(KEY, 4, named("fourth")), activity(KEY, 1, named("first"))];
    check_one_by_one(index, &events).await;
    let account = index.store.get(&key(KEY)).await.expect("an answer").expect("the account");
    assert_eq!(account.details.expect("details").value.username, Some(username("fourth")));
    assert_eq!((account.last_activity, account.last_hydration), (Some(at(3)), Some(at(4))));
}

/// And an id that is no UUID has its rank too.
pub async fn at_one_time_the_greater_id_wins(index: &TestIndex) {
    let with_id = |id: &str, name: &str| ActivityEvent {
        id: EventId::new(id).expect("an event id"),
        ..activity(KEY, 0, named(name))
    };
    let ids = ["01930000-0000-7000-8000-000000000002", "01930000-0000-7000-8000-000000000001", "b", "a"];
    check_one_by_one(index, &ids.map(|id| with_id(id, id))).await;
}

/// The same id and time with other content: not what emitters do, and still one index.
pub async fn an_id_used_twice_gives_one_index_in_any_order(index: &TestIndex) {
    let one = activity(KEY, 0, named("one"));
    let other = ActivityEvent { id: one.id.clone(), ..activity(KEY, 0, named("other")) };
    let swapped = |event: &ActivityEvent| ActivityEvent { subject: key("swapped.tenant-0"), ..event.clone() };
    check_one_by_one(index, &[one.clone(), other.clone(), swapped(&other), swapped(&one)]).await;
    let name_of = async |of: &str| {
        let account = index.store.get(&key(of)).await.expect("an answer").expect("the account");
        account.details.expect("details").value.username
    };
    assert_eq!(name_of(KEY).await, name_of("swapped.tenant-0").await);
}

/// The user was not there.
pub async fn a_hydration_renews_the_details_and_lists_nobody(index: &TestIndex) {
    let events = [hydrated(KEY, 5, named("renewed"))];
    check_one_by_one(index, &events).await;
    assert_eq!(state(index).await, Some(AccountState::Removed));
    check_one_by_one(index, &[events[0].clone(), activity(KEY, 1, named("stale"))]).await;
    assert_eq!(state(index).await, Some(AccountState::Ready));
}

/// P3: what was removed stays removed.
pub async fn a_hydration_never_brings_a_removed_account_back(index: &TestIndex) {
    let events =
        [activity(KEY, 1, details()), removed(KEY, 2), hydrated(KEY, 3, details()), activity(KEY, 2, details())];
    check_one_by_one(index, &events).await;
    assert_eq!(state(index).await, Some(AccountState::Removed));
}

/// Newer than the last activity and the last hydration; at the same time it is not.
pub async fn a_failure_is_in_force_while_it_is_the_newest(index: &TestIndex) {
    let revoked = |micros| failed(KEY, micros, FailureReason::Revoked);
    let steps = [
        (activity(KEY, 10, details()), AccountState::Ready),
        (revoked(9), AccountState::Ready),
        (revoked(10), AccountState::Ready),
        (revoked(11), AccountState::Parked),
        (hydrated(KEY, 11, details()), AccountState::Ready),
        (revoked(12), AccountState::Parked),
        (activity(KEY, 13, details()), AccountState::Ready),
        (failed(KEY, 14, FailureReason::Throttled), AccountState::BackingOff),
        (revoked(13), AccountState::BackingOff),
        (hydrated(KEY, 20, details()), AccountState::Ready),
    ];
    let mut applied = Vec::new();
    for (event, expected) in steps {
        apply(&*index.store, std::slice::from_ref(&event)).await;
        applied.push(event);
        assert_is_fold_of(&*index.other, &applied).await;
        assert_eq!(state(index).await, Some(expected), "after {} events", applied.len());
    }
}

/// For each reason.
pub async fn what_recovers_by_itself_backs_off_and_the_rest_is_parked(index: &TestIndex) {
    let mut events = Vec::new();
    for reason in REASONS {
        let subject = format!("{reason:?}");
        events.extend([activity(&subject, 0, details()), failed(&subject, 1, reason)]);
    }
    check_one_by_one(index, &events).await;
    for reason in REASONS {
        let account = index.store.get(&key(&format!("{reason:?}"))).await.expect("an answer").expect("the account");
        let expected = match reason.recovery() {
            Recovery::Retry => AccountState::BackingOff,
            Recovery::UserActivity => AccountState::Parked,
        };
        assert_eq!(account.state(), expected, "{reason:?}");
    }
}

/// And stays known.
pub async fn a_removed_account_leaves_every_list(index: &TestIndex) {
    let events = [
        activity(KEY, 1, named("gone")),
        activity("other.tenant-0", 1, named("gone")),
        removed(KEY, 1),
        failed(KEY, 2, FailureReason::CacheMissing),
    ];
    check_one_by_one(index, &events).await;
    let everyone = Query::ActiveSince(Timestamp::MIN);
    assert_eq!(list_all(&*index.store, &everyone, &Default::default(), 10).await.len(), 1);
    assert!(index.store.get(&key(KEY)).await.expect("an answer").is_some());
}

/// Even where the removal is heard of last.
pub async fn the_user_comes_back_after_a_removal(index: &TestIndex) {
    let events = [activity(KEY, 1, named("a")), activity(KEY, 3, named("b")), removed(KEY, 2)];
    check_one_by_one(index, &events).await;
    assert_eq!(state(index).await, Some(AccountState::Ready));
}

/// Idempotent, in every batch it may come again in.
pub async fn applying_again_changes_nothing(index: &TestIndex) {
    let events = [activity(KEY, 1, named("a")), failed(KEY, 2, FailureReason::Throttled), removed("x", 1)];
    for again in [&events[..], &events[1..], &events[..1], &events[2..], &events[..]] {
        apply(&*index.store, again).await;
        apply(&*index.other, again).await;
    }
    assert_is_fold_of(&*index.store, &events).await;
}

/// No events, no error.
pub async fn an_empty_batch_is_nothing(index: &TestIndex) {
    index.store.apply(&[]).await.expect("nothing is applied");
    assert_is_fold_of(&*index.store, &[]).await;
}

/// A batch need not be folded.
pub async fn several_changes_of_one_account_in_a_batch_are_joined(index: &TestIndex) {
    let events = [activity(KEY, 5, named("new")), removed(KEY, 4), activity(KEY, 3, named("old")), removed(KEY, 2)];
    let changes: Vec<_> = events.iter().map(common::index::AccountActivity::of).collect();
    index.store.apply(&changes).await.expect("changes are applied");
    assert_is_fold_of(&*index.store, &events).await;
}

/// Applies the events one after the other, each by another handle than the one before, and checks after each.
async fn check_one_by_one(index: &TestIndex, events: &[ActivityEvent]) {
    for (place, event) in events.iter().enumerate() {
        let (store, other) = if place % 2 == 0 { (&index.store, &index.other) } else { (&index.other, &index.store) };
        apply(&**store, std::slice::from_ref(event)).await;
        let known = fold(&events[..=place]);
        let account = other.get(&event.subject).await.expect("an answer");
        assert_eq!(account.as_ref(), known.get(&event.subject), "after event {place}");
    }
    assert_is_fold_of(&*index.store, events).await;
}

async fn state(index: &TestIndex) -> Option<AccountState> {
    index.store.get(&key(KEY)).await.expect("an answer").map(|account| account.state())
}
