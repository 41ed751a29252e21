//! The behaviour of [`PartitionLeases`].

#![expect(clippy::expect_used, reason = "a behaviour that is missed is a panic")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::index::{MemberId, PartitionLeases};
use futures_util::future::join_all;

const LONG: Duration = Duration::from_mins(10);
const BRIEF: Duration = Duration::from_millis(100);
/// How long a behaviour may take to show itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs every behaviour on leases that nobody holds; `one` and `other` are two processes, sharing nothing but what is
/// stored.
///
/// # Panics
/// When a behaviour is missed.
pub async fn run_all(one: Arc<dyn PartitionLeases>, other: Arc<dyn PartitionLeases>) {
    members_see_each_other_until_they_leave(&*one, &*other).await;
    a_partition_is_one_members_at_a_time(&*one, &*other).await;
    only_the_holder_gives_a_partition_back(&*one, &*other).await;
    no_more_are_taken_than_asked_for_and_in_that_order(&*one).await;
    what_ran_out_is_taken_by_another(&*one, &*other).await;
    who_announces_itself_keeps_what_it_holds(&*one, &*other).await;
    of_many_who_ask_at_once_one_gets_it(&one, &other).await;
}

async fn take(leases: &dyn PartitionLeases, member: &MemberId, partitions: &[u32], hold: Duration) -> BTreeSet<u32> {
    leases.acquire(member, partitions, partitions.len(), hold).await.expect("an answer")
}

/// Whoever announced itself is seen by all, from its own call on.
pub async fn members_see_each_other_until_they_leave(one: &dyn PartitionLeases, other: &dyn PartitionLeases) {
    let (ada, bob) = (MemberId::fresh(), MemberId::fresh());
    let view = one.announce(&ada, LONG).await.expect("a view");
    assert_eq!(view.members, BTreeSet::from([ada.clone()]));
    let view = other.announce(&bob, LONG).await.expect("a view");
    assert_eq!(view.members, BTreeSet::from([ada.clone(), bob.clone()]));
    assert!(view.members.iter().eq([&ada, &bob]), "in the order in which they came");
    one.leave(&ada).await.expect("left");
    one.leave(&ada).await.expect("to leave twice is no error");
    assert_eq!(other.announce(&bob, LONG).await.expect("a view").members, BTreeSet::from([bob.clone()]));
    other.leave(&bob).await.expect("left");
}

/// Who holds it shows, and nobody takes it, not even the same one twice. It is free when its holder leaves.
pub async fn a_partition_is_one_members_at_a_time(one: &dyn PartitionLeases, other: &dyn PartitionLeases) {
    let (ada, bob) = (MemberId::fresh(), MemberId::fresh());
    assert_eq!(take(one, &ada, &[10, 11], LONG).await, BTreeSet::from([10, 11]));
    assert_eq!(take(other, &bob, &[10, 11, 12], LONG).await, BTreeSet::from([12]));
    assert_eq!(take(one, &ada, &[10], LONG).await, BTreeSet::new());
    let view = other.announce(&bob, LONG).await.expect("a view");
    assert_eq!((view.held_by(&ada), view.held_by(&bob)), (BTreeSet::from([10, 11]), BTreeSet::from([12])));
    one.leave(&ada).await.expect("left");
    assert_eq!(take(other, &bob, &[10, 11], LONG).await, BTreeSet::from([10, 11]));
    other.leave(&bob).await.expect("left");
}

/// Giving back what another holds does nothing.
pub async fn only_the_holder_gives_a_partition_back(one: &dyn PartitionLeases, other: &dyn PartitionLeases) {
    let (ada, bob) = (MemberId::fresh(), MemberId::fresh());
    let both = BTreeSet::from([20, 21]);
    take(one, &ada, &[20], LONG).await;
    take(other, &bob, &[21], LONG).await;
    other.release(&bob, &both).await.expect("released");
    let view = one.announce(&ada, LONG).await.expect("a view");
    assert_eq!((view.held_by(&ada), view.held_by(&bob)), (BTreeSet::from([20]), BTreeSet::new()));
    one.release(&ada, &both).await.expect("released");
    assert_eq!(take(other, &bob, &[20, 21], LONG).await, both);
    for member in [&ada, &bob] {
        one.leave(member).await.expect("left");
    }
}

/// The order is the caller's: what it would rather have comes first.
pub async fn no_more_are_taken_than_asked_for_and_in_that_order(one: &dyn PartitionLeases) {
    let ada = MemberId::fresh();
    let taken = one.acquire(&ada, &[33, 31, 32], 2, LONG).await.expect("an answer");
    assert_eq!(taken, BTreeSet::from([31, 33]));
    assert_eq!(one.acquire(&ada, &[32], 0, LONG).await.expect("an answer"), BTreeSet::new());
    one.leave(&ada).await.expect("left");
}

/// A member that says nothing any more is not counted, and holds nothing.
pub async fn what_ran_out_is_taken_by_another(one: &dyn PartitionLeases, other: &dyn PartitionLeases) {
    let (ada, bob) = (MemberId::fresh(), MemberId::fresh());
    one.announce(&ada, BRIEF).await.expect("a view");
    take(one, &ada, &[40], BRIEF).await;
    crate::wait_until(PATIENCE, || async { !take(other, &bob, &[40], LONG).await.is_empty() }).await;
    let is_alone = || async {
        let view = other.announce(&bob, LONG).await.expect("a view");
        view.members == BTreeSet::from([bob.clone()])
    };
    crate::wait_until(PATIENCE, is_alone).await;
    let view = one.announce(&ada, LONG).await.expect("a view");
    assert_eq!(
        (view.held_by(&ada), view.held_by(&bob)),
        (BTreeSet::new(), BTreeSet::from([40])),
        "what was lost is lost"
    );
    for member in [&ada, &bob] {
        one.leave(member).await.expect("left");
    }
}

/// A lease runs from the last announcement of its holder.
pub async fn who_announces_itself_keeps_what_it_holds(one: &dyn PartitionLeases, other: &dyn PartitionLeases) {
    let (ada, bob) = (MemberId::fresh(), MemberId::fresh());
    take(one, &ada, &[50], BRIEF).await;
    let renewed = one.announce(&ada, LONG).await.expect("a view");
    assert_eq!(renewed.held_by(&ada), BTreeSet::from([50]), "what ran out and nobody took is still its own");
    // What was taken after it for as short a time has run out; it has not.
    take(other, &bob, &[51], BRIEF).await;
    crate::wait_until(PATIENCE, || async { !take(one, &ada, &[51], LONG).await.is_empty() }).await;
    assert_eq!(take(other, &bob, &[50], LONG).await, BTreeSet::new());
    one.leave(&ada).await.expect("left");
}

/// Nobody has to win a race twice.
pub async fn of_many_who_ask_at_once_one_gets_it(one: &Arc<dyn PartitionLeases>, other: &Arc<dyn PartitionLeases>) {
    let members: Vec<MemberId> = (0..16).map(|_| MemberId::fresh()).collect();
    let asked = members.iter().enumerate().map(|(number, member)| {
        let leases = if number % 2 == 0 { one } else { other };
        take(&**leases, member, &[60], LONG)
    });
    let winners = join_all(asked).await.into_iter().filter(|taken| !taken.is_empty()).count();
    assert_eq!(winners, 1);
    for member in &members {
        one.leave(member).await.expect("left");
    }
}
