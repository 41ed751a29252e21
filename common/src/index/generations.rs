//! Generations: complete copies of the index, numbered, of which one is live.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AccountActivity, ActivityStore, DuePolicy};
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::log::Bounds;

/// The copies of an index, and which of them is live.
///
/// Each has accounts, lists, counts and checkpoints of its own, and is the fold of the log up to its own checkpoints.
/// Numbers are never given twice, so whoever still works on a copy that is no longer live does no harm.
#[async_trait]
pub trait IndexGenerations: Send + Sync + fmt::Debug {
    /// Which copies there are.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn generations(&self) -> Result<Generations, BackendError>;

    /// Makes `to` of `from`, in one step, if it is still `from`; says whether it was. Queries answer from
    /// [`Generations::live`] of `to` when it returns.
    ///
    /// # Errors
    /// [`BackendError`]; it may have happened then.
    async fn change(&self, from: &Generations, to: &Generations) -> Result<bool, BackendError>;

    /// What makes accounts due in the copy with this number: `wanted`, where nothing was written to it yet, else what
    /// it was built by. It stays the same for the copy's life, since its due lists were made by it.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn due_policy(&self, number: u32, wanted: &DuePolicy) -> Result<DuePolicy, BackendError>;

    /// The copy with this number, whatever becomes live.
    fn generation(&self, number: u32) -> Arc<dyn IndexUpkeep>;

    /// Deletes what a copy holds, in steps that each keep other users of the server waiting some milliseconds at most.
    /// What is written to it afterwards is refused.
    ///
    /// # Errors
    /// [`BackendError`]; part of it may be gone then.
    ///
    /// # Cancel safety
    /// A dropped call leaves the rest for the next one.
    async fn delete(&self, number: u32) -> Result<(), BackendError>;
}

/// What keeping an index right takes beside applying and asking.
#[async_trait]
pub trait IndexUpkeep: ActivityStore {
    /// Some of all accounts, listed or not, in an order of the store's own, from after `after` on.
    ///
    /// An account that is there from the first page to the last is in at least one of them, and may be in two.
    /// A page has about `count` accounts, and may have none and still a next one.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn scan(&self, after: Option<&ScanCursor>, count: usize) -> Result<ScanPage, BackendError>;

    /// What the index knows of each of these cache keys, in their order; like [`ActivityStore::get`], many at once.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn get_many(&self, cache_keys: &[CacheKey]) -> Result<Vec<Option<AccountActivity>>, BackendError>;

    /// Puts exactly `with` where exactly `expected` is, `None` being no account; says whether that was so.
    /// Both are of one cache key. Unlike [`ActivityStore::apply`] it can take away.
    ///
    /// # Errors
    /// [`BackendError`]; it may have happened then.
    async fn replace(
        &self,
        expected: Option<&AccountActivity>,
        with: Option<&AccountActivity>,
    ) -> Result<bool, BackendError>;

    /// Forgets the checkpoint of `partition`: the next reader begins with the first message there is.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn forget_checkpoint(&self, partition: u32) -> Result<(), BackendError>;
}

/// A place in a [scan](IndexUpkeep::scan).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanCursor(pub(crate) String);

/// One page of a scan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScanPage {
    /// The accounts.
    pub accounts: Vec<AccountActivity>,
    /// Where to go on; `None` on the last page.
    pub next: Option<ScanCursor>,
}

/// Which copies of an index there are, and what each is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generations {
    /// The one that answers.
    pub live: u32,
    /// The one that a rebuild is making.
    pub building: Option<Building>,
    /// The one that was live before, kept for a rollback.
    pub retired: Option<u32>,
    /// Those that are to be deleted, and may be in part.
    pub dropping: Vec<u32>,
    /// The highest number that was ever given.
    pub newest: u32,
}

/// A copy that is not complete yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Building {
    /// Its number.
    pub number: u32,
    /// Who makes it.
    pub builder: String,
    /// Goes up while the builder lives.
    pub beats: u64,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// What the log had when it was begun, by partition.
    pub log: BTreeMap<u32, Bounds>,
}

impl Generations {
    /// An index that has one copy only.
    pub fn only(live: u32) -> Self {
        Self { live, building: None, retired: None, dropping: Vec::new(), newest: live }
    }

    /// With a new copy, begun by `builder`.
    #[must_use]
    pub fn begun(&self, builder: &str, log: BTreeMap<u32, Bounds>, now: Timestamp) -> Self {
        let mut to = self.cancelled();
        to.newest += 1;
        to.building = Some(Building { number: to.newest, builder: builder.to_owned(), beats: 0, begun_at: now, log });
        to
    }

    /// With a sign of life of `builder`, who is the builder from now on.
    #[must_use]
    pub fn beaten(&self, builder: &str) -> Self {
        let mut to = self.clone();
        if let Some(building) = &mut to.building {
            building.builder = builder.to_owned();
            building.beats += 1;
        }
        to
    }

    /// With the copy that was being made as the live one, and the one before it kept.
    #[must_use]
    pub fn swapped(&self) -> Self {
        let mut to = self.clone();
        let Some(building) = to.building.take() else { return to };
        to.dropping.extend(to.retired.replace(to.live));
        to.live = building.number;
        to
    }

    /// With the live copy and the one before it in each other's place.
    #[must_use]
    pub fn rolled_back(&self) -> Self {
        let mut to = self.clone();
        if let Some(retired) = to.retired {
            (to.live, to.retired) = (retired, Some(to.live));
        }
        to
    }

    /// Without the copy that was being made.
    #[must_use]
    pub fn cancelled(&self) -> Self {
        let mut to = self.clone();
        to.dropping.extend(to.building.take().map(|building| building.number));
        to
    }

    /// Without the copy that was kept for a rollback.
    #[must_use]
    pub fn without_retired(&self) -> Self {
        let mut to = self.clone();
        to.dropping.extend(to.retired.take());
        to
    }

    /// Without one that is deleted.
    #[must_use]
    pub fn deleted(&self, number: u32) -> Self {
        let mut to = self.clone();
        to.dropping.retain(|dropping| *dropping != number);
        to
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn begun(from: &Generations) -> Generations {
        from.begun("me", BTreeMap::new(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_rebuild_keeps_the_copy_before_it_and_drops_the_one_before_that() {
        let first = begun(&Generations::only(1)).swapped();
        assert_eq!((first.live, first.retired, &*first.dropping), (2, Some(1), &[][..]));
        let second = begun(&first).swapped();
        assert_eq!((second.live, second.retired, &*second.dropping), (3, Some(2), &[1][..]));
        assert!(second.deleted(1).dropping.is_empty());
    }

    #[test]
    fn a_rollback_can_be_taken_back() {
        let swapped = begun(&Generations::only(1)).swapped();
        let back = swapped.rolled_back();
        assert_eq!((back.live, back.retired), (1, Some(2)));
        assert_eq!(back.rolled_back(), swapped);
        assert_eq!(Generations::only(1).rolled_back(), Generations::only(1));
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let cancelled = begun(&Generations::only(1)).cancelled();
        assert_eq!(cancelled.dropping, [2]);
        let again = begun(&cancelled.deleted(2));
        assert_eq!(again.building.as_ref().unwrap().number, 3);
        assert_eq!(begun(&again).dropping, [3], "one at a time");
    }

    #[test]
    fn a_swap_without_a_copy_that_is_made_changes_nothing() {
        assert_eq!(Generations::only(1).swapped(), Generations::only(1));
        assert_eq!(Generations::only(1).without_retired(), Generations::only(1));
    }
}
