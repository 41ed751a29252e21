//! The shards of one generation: which account is where, and how what each of them says is put together.

use std::cmp::Ordering;
use std::sync::Arc;

use super::keys::{Keys, MEMBER_BYTES, member, shard_of};
use crate::account::CacheKey;
use crate::index::paging::Examined;
use crate::index::{AccountActivity, Cursor, Order};

/// The keys of all shards of one generation. All that one script touches is of one shard.
#[derive(Debug, Clone)]
pub(super) struct Shards(Arc<[Keys]>);

impl Shards {
    pub(super) fn new(prefix: &str, generation: u32, shards: u32) -> Self {
        Self((0..shards.max(1)).map(|shard| Keys::new(prefix, generation, shard, shards)).collect())
    }

    /// The shard that has what is of no account: the checkpoints.
    pub(super) fn first(&self) -> &Keys {
        &self.0[0]
    }

    pub(super) fn all(&self) -> &[Keys] {
        &self.0
    }

    pub(super) fn of(&self, member: &[u8; MEMBER_BYTES]) -> &Keys {
        &self.0[shard_of(member, self.0.len())]
    }

    /// In each shard the accounts that are kept there, with the place each has in `cache_keys`.
    pub(super) fn places<'a>(&self, cache_keys: impl Iterator<Item = &'a CacheKey>) -> Vec<Vec<(usize, Member)>> {
        let mut shards = vec![Vec::new(); self.0.len()];
        for (place, cache_key) in cache_keys.enumerate() {
            let member = member(cache_key);
            shards[shard_of(&member, self.0.len())].push((place, member));
        }
        shards
    }

    /// How many rows to ask each shard for, so that all together are about `count`. Accounts are spread evenly.
    pub(super) fn share_of(&self, count: usize) -> usize {
        /// Some shard has more than its part: by how much, in rows and as a part of it.
        const MORE: usize = 8;
        const MORE_PART: usize = 4;
        match self.0.len() {
            1 => count,
            shards => (count / shards + count / shards / MORE_PART + MORE).min(count),
        }
    }
}

/// What stands for an account.
pub(super) type Member = [u8; MEMBER_BYTES];

/// What the shards have together, as far as all of them have said: up to the first end of one that has more.
pub(super) fn merged(mut shards: Vec<Examined>, order: Order) -> Examined {
    if shards.len() == 1 {
        return shards.swap_remove(0);
    }
    let open = shards.iter().filter(|shard| !shard.is_last);
    let end = open.filter_map(|shard| shard.rows.last()).map(|(cursor, _)| cursor).min_by(|a, b| by(order, a, b));
    let end = end.cloned();
    let is_last = end.is_none();
    let mut rows: Vec<(Cursor, AccountActivity)> = shards.into_iter().flat_map(|shard| shard.rows).collect();
    if let Some(end) = end {
        rows.retain(|(cursor, _)| by(order, cursor, &end) != Ordering::Greater);
    }
    rows.sort_unstable_by(|(a, _), (b, _)| by(order, a, b));
    Examined { rows, is_last }
}

/// The order of the sorted sets: by score, and of one score by member.
pub(super) fn by(order: Order, a: &Cursor, b: &Cursor) -> Ordering {
    let ascending = a.micros.cmp(&b.micros).then_with(|| a.member.cmp(&b.member));
    match order {
        Order::OldestFirst => ascending,
        Order::NewestFirst => ascending.reverse(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn examined(micros: &[i64], is_last: bool) -> Examined {
        let row = |micros: &i64| {
            let account = AccountActivity::nothing_about(CacheKey::new(format!("k{micros}")).unwrap());
            (Cursor { micros: *micros, member: Vec::new() }, account)
        };
        Examined { rows: micros.iter().map(row).collect(), is_last }
    }

    fn times(examined: &Examined) -> Vec<i64> {
        examined.rows.iter().map(|(cursor, _)| cursor.micros).collect()
    }

    #[test]
    fn what_lies_beyond_the_end_of_a_shard_with_more_waits_for_it() {
        let all = merged(vec![examined(&[1, 4], false), examined(&[2, 3, 5], false)], Order::OldestFirst);
        assert_eq!((times(&all), all.is_last), (vec![1, 2, 3, 4], false));
        let all = merged(vec![examined(&[9, 4], true), examined(&[8, 5], false)], Order::NewestFirst);
        assert_eq!((times(&all), all.is_last), (vec![9, 8, 5], false));
    }

    #[test]
    fn when_no_shard_has_more_all_is_said() {
        let all = merged(vec![examined(&[], true), examined(&[2, 7], true), examined(&[3], true)], Order::OldestFirst);
        assert_eq!((times(&all), all.is_last), (vec![2, 3, 7], true));
        assert!(merged(vec![examined(&[], true)], Order::OldestFirst).is_last);
    }

    #[test]
    fn one_shard_is_asked_for_exactly_what_is_wanted() {
        assert_eq!(Shards::new("p:", 1, 1).share_of(1_001), 1_001);
        assert_eq!(Shards::new("p:", 1, 4).share_of(1_000), 250 + 62 + 8);
        assert_eq!(Shards::new("p:", 1, 64).share_of(1), 1);
    }
}
