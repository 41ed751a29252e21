//! Several lists as one: the first entries of all of them together, from after a place on.
//!
//! All are asked for somewhat more than their share, by score, by plain commands in one transaction: a script would take
//! longer to hand the entries on than the server to find them. What stands at the place's own time comes again and is dropped.
//! A list that has more than it was asked for is read on by rank, in a script: that finds its way through any number of
//! accounts of one time, too, where reading by score would begin at the same one for ever.

use redis::{ErrorKind, RedisResult, Script, ServerErrorKind};

use super::RedisGeneration;
use super::shards::by;
use crate::backend::BackendError;
use crate::index::{Cursor, Order};
use crate::redis_pool::AnyConnection;

/// Which entries of the lists are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) order: Order,
    /// The last score, in that order.
    pub(super) end: i64,
}

/// An entry of one of several lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) place: Cursor,
    /// The number of its list, from 0.
    pub(super) list: usize,
}

/// Entries of one list, as Redis gives them.
type Head = Vec<(Vec<u8>, f64)>;

/// The script that reads lists on.
pub(super) fn script() -> Script {
    Script::new(concat!(include_str!("rank.lua"), include_str!("heads.lua")))
}

impl RedisGeneration {
    /// The first `count` entries of all these lists together, in order; fewer if there are no more.
    ///
    /// Lists are read on at a later instant: an entry that is moved to another list by then may be missing, or there twice.
    pub(super) async fn first_of(
        &self,
        connection: &mut AnyConnection,
        lists: &[&str],
        range: Range,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Vec<Entry>, BackendError> {
        let mut first = First::new(range.order, count);
        let each = ample(count / lists.len().max(1)).min(count) + usize::from(after.is_some());
        for (list, head) in self.heads(connection, lists, range, after, each).await?.into_iter().enumerate() {
            first.add(list, head, each, after);
        }
        loop {
            let open = first.merge();
            if open.is_empty() {
                return Ok(first.entries);
            }
            let heads = self.heads_by_rank(connection, lists, range, &open).await?;
            for (open, head) in open.into_iter().zip(heads) {
                first.add(open.list, head, open.wanted, open.last.as_ref());
            }
        }
    }

    /// A server that is full refuses whatever is in a transaction, and a cluster that moves the slot sends none on: a
    /// script takes longer and is let through.
    async fn heads(
        &self,
        connection: &mut AnyConnection,
        lists: &[&str],
        range: Range,
        after: Option<&Cursor>,
        each: usize,
    ) -> Result<Vec<Head>, BackendError> {
        match self.heads_by_score(connection, lists, range, after, each).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ExecAbort) => {
                let all = (0..lists.len()).map(|list| Open { list, last: after.cloned(), wanted: each });
                self.heads_by_rank(connection, lists, range, &all.collect::<Vec<_>>()).await
            }
            heads => heads.map_err(|e| self.pool.error(e)),
        }
    }

    /// From the place's score on, and with it what stands at that score before the place.
    async fn heads_by_score(
        &self,
        connection: &mut AnyConnection,
        lists: &[&str],
        range: Range,
        after: Option<&Cursor>,
        each: usize,
    ) -> RedisResult<Vec<Head>> {
        let mut asked = redis::pipe();
        if lists.len() > 1 {
            asked.atomic();
        }
        let each = isize::try_from(each).unwrap_or(isize::MAX);
        let from = |beginning: &str| after.map_or_else(|| beginning.to_owned(), |after| after.micros.to_string());
        for list in lists {
            match range.order {
                Order::OldestFirst => asked.zrangebyscore_limit_withscores(list, from("-inf"), range.end, 0, each),
                Order::NewestFirst => asked.zrevrangebyscore_limit_withscores(list, from("+inf"), range.end, 0, each),
            };
        }
        asked.query_async(connection).await
    }

    async fn heads_by_rank(
        &self,
        connection: &mut AnyConnection,
        lists: &[&str],
        range: Range,
        open: &[Open],
    ) -> Result<Vec<Head>, BackendError> {
        let mut call = self.scripts.heads.prepare_invoke();
        call.arg(match range.order {
            Order::OldestFirst => "oldest",
            Order::NewestFirst => "newest",
        });
        call.arg(range.end);
        for Open { list, last, wanted } in open {
            call.key(lists[*list]).arg(*wanted);
            match last {
                Some(Cursor { micros, member }) => call.arg(*micros).arg(member),
                None => call.arg("").arg(""),
            };
        }
        call.invoke_async(connection).await.map_err(|e| self.pool.error(e))
    }
}

/// A list that may have more.
#[derive(Debug, Clone)]
struct Open {
    list: usize,
    /// Where it was read to; `None` where it begins.
    last: Option<Cursor>,
    /// How many entries are asked for.
    wanted: usize,
}

/// The first entries of several lists, as far as they are read.
struct First {
    order: Order,
    count: usize,
    entries: Vec<Entry>,
    open: Vec<Open>,
}

impl First {
    fn new(order: Order, count: usize) -> Self {
        Self { order, count, entries: Vec::new(), open: Vec::new() }
    }

    /// Takes what a list gave that was asked for so many entries after a place.
    fn add(&mut self, list: usize, head: Head, wanted: usize, after: Option<&Cursor>) {
        let is_full = head.len() == wanted;
        let mut last = after;
        let before = self.entries.len();
        let places = head.into_iter().map(|(member, score)| Cursor { micros: score as i64, member });
        let places = places.filter(|place| after.is_none_or(|after| by(self.order, place, after).is_gt()));
        self.entries.extend(places.map(|place| Entry { place, list }));
        if let Some(entry) = self.entries[before..].last() {
            last = Some(&entry.place);
        }
        if let Some(last) = last.filter(|_| is_full) {
            self.open.push(Open { list, last: Some(last.clone()), wanted });
        }
    }

    /// Puts what was added in order; the lists that may have more of the first ones are to be read on.
    fn merge(&mut self) -> Vec<Open> {
        self.entries.sort_by(|a, b| by(self.order, &a.place, &b.place));
        self.entries.truncate(self.count);
        let open = std::mem::take(&mut self.open);
        open.into_iter().filter_map(|open| self.read_on(open)).collect()
    }

    /// A list is taken to go on as densely as it was, so that most are read on once.
    fn read_on(&self, open: Open) -> Option<Open> {
        let last = open.last.as_ref()?;
        let passed = self.entries.partition_point(|entry| by(self.order, &entry.place, last).is_le());
        let room = self.count - passed;
        let its_own = self.entries[..passed].iter().filter(|entry| entry.list == open.list).count();
        let expected = its_own * room / passed.max(1);
        let wanted = ample(expected).max(open.wanted).min(room);
        (wanted > 0).then_some(Open { wanted, ..open })
    }
}

/// Enough for a list that has `fair` entries on average, by three standard deviations and more.
fn ample(fair: usize) -> usize {
    fair + 3 * fair.isqrt() + 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(scores: impl IntoIterator<Item = i64>) -> Head {
        scores.into_iter().map(|score| (vec![0; 14], score as f64)).collect()
    }

    fn scores(first: &First) -> Vec<i64> {
        first.entries.iter().map(|entry| entry.place.micros).collect()
    }

    #[test]
    fn a_list_is_read_on_where_it_ends_within_what_is_wanted() {
        let mut first = First::new(Order::OldestFirst, 6);
        first.add(0, head([1, 2, 3]), 3, None);
        first.add(1, head([4, 9, 10]), 3, None);
        first.add(2, head([5]), 3, None);
        let open = first.merge();
        assert_eq!(scores(&first), [1, 2, 3, 4, 5, 9]);
        let [Open { list: 0, last: Some(last), wanted: 3 }] = &open[..] else { panic!("{open:?}") };
        first.add(0, head([4, 5, 6]), 3, Some(last));
        assert!(first.merge().is_empty(), "the fourth of the first list is in, and nothing can come before its last");
        assert_eq!(scores(&first), [1, 2, 3, 4, 4, 5]);
    }

    #[test]
    fn a_list_that_gave_nothing_but_what_is_before_the_place_goes_on_from_there() {
        let after = Cursor { micros: 7, member: vec![9; 14] };
        let mut first = First::new(Order::NewestFirst, 100);
        first.add(0, vec![(vec![9; 14], 7.0), (vec![10; 14], 7.0)], 2, Some(&after));
        let open = first.merge();
        assert_eq!((first.entries.len(), open.len(), &open[0].last), (0, 1, &Some(after.clone())));
    }

    #[test]
    fn most_of_one_list_is_read_on_at_once() {
        let mut first = First::new(Order::OldestFirst, 1_000);
        first.add(0, head(0..40), 40, None);
        first.add(1, head((0..40).map(|n| 10 * n)), 40, None);
        let open = first.merge();
        assert_eq!(open.iter().map(|open| open.list).collect::<Vec<_>>(), [0, 1]);
        assert!(open[0].wanted > 800 && open[1].wanted < 1_000, "{open:?}");
    }
}
