//! The port by which projectors share the partitions of the log: who is here, and who follows which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::backend::BackendError;

/// Leases of partitions, kept beside the index and outside of its generations, which come and go.
///
/// They only spread the work. Two who follow one partition give the same index as one, so a lease needs no fencing, and
/// who cannot ask goes on with what it has. Times are counted by the server that keeps them.
/// Every implementation passes the conformance suite of the `testkit` crate.
#[async_trait]
pub trait PartitionLeases: Send + Sync + fmt::Debug {
    /// Says that `member` is here for `hold`, lets it keep for as long what it holds, and says how things are.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn announce(&self, member: &MemberId, hold: Duration) -> Result<LeaseView, BackendError>;

    /// Takes for `hold` the first of `partitions` that nobody holds, `most` at most, and says which.
    ///
    /// # Errors
    /// [`BackendError`].
    ///
    /// # Cancel safety
    /// A dropped call may have taken some; [`announce`](Self::announce) tells.
    async fn acquire(
        &self,
        member: &MemberId,
        partitions: &[u32],
        most: usize,
        hold: Duration,
    ) -> Result<BTreeSet<u32>, BackendError>;

    /// Gives back those of `partitions` that `member` holds.
    ///
    /// # Errors
    /// [`BackendError`]; they end with their time then.
    async fn release(&self, member: &MemberId, partitions: &BTreeSet<u32>) -> Result<(), BackendError>;

    /// Gives back all that `member` holds, and counts it no more.
    ///
    /// # Errors
    /// [`BackendError`]; it ends with its time then.
    async fn leave(&self, member: &MemberId) -> Result<(), BackendError>;
}

/// One who follows the log: a process, for its life. In the order in which they came, about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(String);

impl MemberId {
    /// An id unlike any other.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The text to store.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn stored(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who is here, and who holds what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseView {
    /// Those whose time is not over.
    pub members: BTreeSet<MemberId>,
    /// Who holds each partition that is held.
    pub holders: BTreeMap<u32, MemberId>,
}

impl LeaseView {
    /// The partitions that `member` holds.
    pub fn held_by(&self, member: &MemberId) -> BTreeSet<u32> {
        let of_member = self.holders.iter().filter(|(_, holder)| *holder == member);
        of_member.map(|(partition, _)| *partition).collect()
    }
}
