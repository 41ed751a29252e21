//! The share of one projector where several follow one log: by lease, never needed for a right index.
//!
//! Every third of a lease a projector says that it is here, renews what it holds, and looks at who else is. Those who
//! are here share all partitions evenly, to one more or less. Who holds more than its share ends the followers of what
//! is too much and gives it back when their checkpoints are stored; who holds less takes what is free. Where one dies,
//! its leases run out, and the others' shares have grown.
//!
//! Where the leases cannot be asked, everybody goes on with what it has, and who never could ask follows all: two who
//! follow one partition give the same index as one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::backend::BackendError;
use common::index::{LeaseView, MemberId, PartitionLeases};
use tokio::time::timeout;

use super::crew::Crew;

/// How often a lease is renewed before it would run out.
const RENEWALS: u32 = 3;
/// Shorter leases would be nothing but renewals.
const SHORTEST: Duration = Duration::from_millis(100);
/// How long the end of a projector waits for its leases to be given back. They run out anyway.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// One projector among several.
#[derive(Debug)]
pub(super) struct Share {
    leases: Arc<dyn PartitionLeases>,
    member: MemberId,
    lease: Duration,
}

/// What a look at the leases came to.
pub(super) struct Shared {
    /// The partitions that are this projector's.
    pub(super) mine: BTreeSet<u32>,
    /// How many projectors there are, this one included.
    pub(super) members: usize,
}

impl Share {
    pub(super) fn new(leases: Arc<dyn PartitionLeases>, lease: Duration) -> Self {
        Self { leases, member: MemberId::fresh(), lease: lease.max(SHORTEST) }
    }

    pub(super) fn look_every(&self) -> Duration {
        self.lease / RENEWALS
    }

    /// Renews, gives back what is too much and no longer followed, takes what is free and due.
    pub(super) async fn look(&self, partitions: u32, crew: &Crew) -> Result<Shared, BackendError> {
        let view = self.leases.announce(&self.member, self.lease).await?;
        let plan = Plan::new(&view, &self.member, partitions, |partition| crew.follows(partition));
        let mut mine = plan.keep;
        if plan.missing > 0 && !plan.free.is_empty() {
            mine.extend(self.leases.acquire(&self.member, &plan.free, plan.missing, self.lease).await?);
        }
        let ended: BTreeSet<u32> = plan.too_much.into_iter().filter(|partition| !crew.is_at(*partition)).collect();
        if !ended.is_empty() {
            self.leases.release(&self.member, &ended).await?;
        }
        Ok(Shared { mine, members: view.members.len() })
    }

    /// Gives everything back, so that nobody has to wait for the leases to run out.
    pub(super) async fn leave(&self) {
        match timeout(LEAVE_WITHIN, self.leases.leave(&self.member)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the leases of partitions are not given back; they run out"),
            Err(_) => tracing::warn!("the leases of partitions are not given back in time; they run out"),
        }
    }
}

/// What a member should do about what it sees.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    keep: BTreeSet<u32>,
    too_much: BTreeSet<u32>,
    /// What nobody holds, in the order in which to take it.
    free: Vec<u32>,
    /// How many of them to take.
    missing: usize,
}

impl Plan {
    /// What is followed already is kept, and taken, before what is not.
    fn new(view: &LeaseView, member: &MemberId, partitions: u32, is_followed: impl Fn(u32) -> bool) -> Self {
        let share = fair_share(view, member, partitions);
        let in_order = |partition: &u32| (!is_followed(*partition), *partition);
        let mut held: Vec<u32> = view.held_by(member).into_iter().collect();
        held.sort_by_key(in_order);
        let mut free: Vec<u32> = (0..partitions).filter(|partition| !view.holders.contains_key(partition)).collect();
        free.sort_by_key(in_order);
        let too_much = held.split_off(share.min(held.len()));
        let missing = share - held.len();
        Self { keep: held.into_iter().collect(), too_much: too_much.into_iter().collect(), free, missing }
    }
}

/// All partitions by all members; where that leaves a rest, those who came first have one more.
fn fair_share(view: &LeaseView, member: &MemberId, partitions: u32) -> usize {
    let (partitions, members) = (partitions as usize, view.members.len().max(1));
    let before = view.members.iter().take_while(|other| *other < member).count();
    partitions / members + usize::from(before < partitions % members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(members: &[&MemberId], holders: &[(u32, &MemberId)]) -> LeaseView {
        LeaseView {
            members: members.iter().copied().cloned().collect(),
            holders: holders.iter().map(|(partition, holder)| (*partition, (*holder).clone())).collect(),
        }
    }

    #[test]
    fn shares_are_even_to_one_and_make_up_the_whole() {
        let members: Vec<MemberId> = (0..5).map(|_| MemberId::fresh()).collect();
        let view = view(&members.iter().collect::<Vec<_>>(), &[]);
        for (partitions, expected) in [(12, [3, 3, 2, 2, 2]), (5, [1; 5]), (3, [1, 1, 1, 0, 0]), (10, [2; 5])] {
            let shares: Vec<usize> = view.members.iter().map(|member| fair_share(&view, member, partitions)).collect();
            assert_eq!(shares, expected, "{partitions} partitions");
        }
    }

    #[test]
    fn one_alone_takes_all() {
        let me = MemberId::fresh();
        let plan = Plan::new(&view(&[&me], &[]), &me, 3, |_| false);
        let expected = Plan { keep: BTreeSet::new(), too_much: BTreeSet::new(), free: vec![0, 1, 2], missing: 3 };
        assert_eq!(plan, expected);
    }

    #[test]
    fn what_is_too_much_is_what_is_not_followed_then_the_last() {
        let (me, other) = (MemberId::fresh(), MemberId::fresh());
        let held = view(&[&me, &other], &[(0, &me), (1, &me), (2, &me), (3, &me)]);
        let too_much = |followed: &[u32]| Plan::new(&held, &me, 4, |p| followed.contains(&p)).too_much;
        assert_eq!(too_much(&[0, 1, 2, 3]), BTreeSet::from([2, 3]));
        assert_eq!(too_much(&[1, 3]), BTreeSet::from([0, 2]), "those that are ending stay those to give back");
    }

    #[test]
    fn what_is_followed_without_a_lease_is_taken_first() {
        let (me, other) = (MemberId::fresh(), MemberId::fresh());
        let plan = Plan::new(&view(&[&me, &other], &[(0, &other)]), &me, 4, |partition| partition == 3);
        assert_eq!((plan.free, plan.missing), (vec![3, 1, 2], 2));
    }
}
