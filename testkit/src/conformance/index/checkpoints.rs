//! Checkpoints.

use futures_util::future::join_all;

use common::index::{ActivityStore, Checkpoint};
use common::log::MessageDigest;

use super::TestIndex;
use super::sample::at;

async fn next_offset(store: &dyn ActivityStore, partition: u32) -> Option<u64> {
    store.checkpoint(partition).await.expect("an answer").map(|checkpoint| checkpoint.next_offset)
}

/// It goes forward with the offset and stays with it; a batch without an event leaves the time before it.
pub async fn a_checkpoint_has_the_time_of_its_newest_event(index: &TestIndex) {
    let steps = [(1, Some(at(5)), Some(at(5))), (2, None, Some(at(5))), (3, Some(at(4)), Some(at(4)))];
    let stale = [(2, Some(at(9)), Some(at(4))), (3, Some(at(9)), Some(at(4)))];
    for (next_offset, newest_event, expected) in steps.into_iter().chain(stale) {
        index
            .store
            .store_checkpoint(0, Checkpoint { newest_event, ..Checkpoint::at(next_offset) })
            .await
            .expect("stored");
        let stored = index.other.checkpoint(0).await.expect("an answer").expect("a checkpoint");
        assert_eq!(stored.newest_event, expected, "after {next_offset}");
    }
    assert_eq!(next_offset(&*index.store, 0).await, Some(3));
}

/// It is of the message before the offset that is stored, and of no earlier one.
pub async fn a_checkpoint_remembers_the_message_before_it(index: &TestIndex) {
    let (one, other) = (Some(MessageDigest::of(b"one")), Some(MessageDigest::of(b"other")));
    let steps = [(1, one, one), (2, other, other), (1, one, other), (2, one, other), (3, None, None), (4, one, one)];
    for (next_offset, last_message, expected) in steps {
        index
            .store
            .store_checkpoint(0, Checkpoint { last_message, ..Checkpoint::at(next_offset) })
            .await
            .expect("stored");
        let stored = index.other.checkpoint(0).await.expect("an answer").expect("a checkpoint");
        assert_eq!(stored.last_message, expected, "after {next_offset}");
    }
}

/// Per partition, and a lower offset changes nothing.
pub async fn checkpoints_never_go_backwards(index: &TestIndex) {
    let stored = async |partition| next_offset(&*index.other, partition).await;
    let store = async |partition, offset| {
        index.store.store_checkpoint(partition, Checkpoint::at(offset)).await.expect("stored");
    };
    assert_eq!(stored(0).await, None, "none at first");
    // Numbers of different length, and beyond what a double holds exactly.
    let highest = i64::MAX as u64;
    let steps = [(0, 0), (9, 9), (10, 10), (9, 10), (100, 100), (99, 100), (highest - 1, highest - 1)];
    for (offset, expected) in steps.into_iter().chain([(highest, highest), (highest - 1, highest), (1, highest)]) {
        store(0, offset).await;
        assert_eq!(stored(0).await, Some(expected), "after {offset}");
    }
    store(u32::MAX, 5).await;
    assert_eq!((stored(0).await, stored(u32::MAX).await, stored(1).await), (Some(highest), Some(5), None));
}

/// From two handles.
pub async fn checkpoints_stored_side_by_side_end_at_the_highest(index: &TestIndex) {
    let calls = (0..100_u64).map(async |n| {
        let store = if n % 2 == 0 { &index.store } else { &index.other };
        store.store_checkpoint(3, Checkpoint::at(n * 37 % 100)).await.expect("stored");
    });
    join_all(calls).await;
    assert_eq!(next_offset(&*index.store, 3).await, Some(99));
}
