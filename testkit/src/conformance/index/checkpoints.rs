//! Checkpoints.

use futures_util::future::join_all;

use super::TestIndex;

/// Per partition, and a lower offset changes nothing.
pub async fn checkpoints_never_go_backwards(index: &TestIndex) {
    let stored = async |partition| index.other.checkpoint(partition).await.expect("an answer");
    let store = async |partition, offset| index.store.store_checkpoint(partition, offset).await.expect("stored");
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
        store.store_checkpoint(3, n * 37 % 100).await.expect("stored");
    });
    join_all(calls).await;
    assert_eq!(index.store.checkpoint(3).await.expect("an answer"), Some(99));
}
