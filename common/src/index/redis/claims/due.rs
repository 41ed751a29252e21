//! Who is due: the tenants' lists merged in the order of their places, and what holds put aside among them.

use jiff::Timestamp;
use redis::AsyncCommands as _;

use super::super::keys::MEMBER_BYTES;
use super::ClaimShard;
use crate::backend::BackendError;
use crate::event::to_microseconds;
use crate::index::due_page::{Candidate, Candidates, PlaceKind};
use crate::index::{ClaimError, Cursor, DueRequest, Hold, InvalidCursor, WorkerId};

/// How many lists one script looks at.
const LISTS_AT_ONCE: usize = 256;
/// How many entries of a list are read at once, at least.
const READ_AT_LEAST: usize = 8;

/// A list of accounts by when they are due.
struct List {
    key: String,
    kind: PlaceKind,
}

/// An entry of one.
#[derive(Clone)]
struct Entry {
    micros: i64,
    member: Vec<u8>,
    kind: PlaceKind,
}

impl Entry {
    fn cursor(&self) -> Cursor {
        Cursor { micros: self.micros, member: self.member.clone() }
    }
}

impl Candidates for ClaimShard<'_> {
    /// Of one shard. Costs some steps per tenant that has something due, in scripts of a bounded number of them.
    async fn candidates(
        &self,
        request: &DueRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Vec<Candidate>, ClaimError> {
        if after.is_some_and(|after| after.member.len() != MEMBER_BYTES) {
            return Err(InvalidCursor.into());
        }
        let until = to_microseconds(request.until).as_microsecond();
        let lists = self.due_lists(request, until).await?;
        let mut first: Vec<Entry> = Vec::new();
        for some in lists.chunks(LISTS_AT_ONCE) {
            first.extend(self.first_of(some, until, after, count).await?);
            first.sort_by(|one, other| (one.micros, &one.member).cmp(&(other.micros, &other.member)));
            first.truncate(count);
        }
        Ok(self.filled(first).await?)
    }
}

impl ClaimShard<'_> {
    /// The lists that may have something due by then.
    async fn due_lists(&self, request: &DueRequest, until: i64) -> Result<Vec<List>, BackendError> {
        let mut lists = vec![List { key: self.claim_keys.aside.clone(), kind: PlaceKind::Held }];
        let directories =
            [(self.keys.due_tenants(), PlaceKind::Due), (self.claim_keys.scheduled.as_str(), PlaceKind::Scheduled)];
        let mut connection = self.pool.get().await?;
        for (directory, kind) in directories {
            let tenants: Vec<String> = match &request.tenant {
                Some(tenant) => vec![tenant.to_string()],
                None => connection.zrangebyscore(directory, "-inf", until).await.map_err(|e| self.pool.error(e))?,
            };
            lists.extend(tenants.into_iter().map(|tenant| List { key: format!("{directory}:{tenant}"), kind }));
        }
        Ok(lists)
    }

    /// At least the first `count` entries of all these lists together.
    async fn first_of(
        &self,
        lists: &[List],
        until: i64,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Vec<Entry>, BackendError> {
        let mut all = Vec::new();
        let mut left: Vec<(&List, Option<Cursor>)> = lists.iter().map(|list| (list, after.cloned())).collect();
        let mut each = (2 * count / lists.len().max(1)).clamp(READ_AT_LEAST, count.max(READ_AT_LEAST));
        while !left.is_empty() {
            let mut unfinished = Vec::new();
            for (place, lists) in by_place(left) {
                for (list, entries) in self.heads(&lists, until, place.as_ref(), each).await? {
                    if entries.len() == each {
                        unfinished.extend(entries.last().map(|last| (list, last.clone())));
                    }
                    all.extend(entries);
                }
            }
            all.sort_by(|one: &Entry, other| (one.micros, &one.member).cmp(&(other.micros, &other.member)));
            all.truncate(count);
            let is_behind = |last: &Entry| {
                all.len() < count
                    || all.last().is_some_and(|end| (last.micros, &last.member) < (end.micros, &end.member))
            };
            unfinished.retain(|(_, last)| is_behind(last));
            left = unfinished.into_iter().map(|(list, last)| (list, Some(last.cursor()))).collect();
            each = count;
        }
        Ok(all)
    }

    async fn heads<'a>(
        &self,
        lists: &[&'a List],
        until: i64,
        after: Option<&Cursor>,
        each: usize,
    ) -> Result<Vec<(&'a List, Vec<Entry>)>, BackendError> {
        let mut call = self.scripts.claims.heads.prepare_invoke();
        for list in lists {
            call.key(&list.key);
        }
        call.arg(until).arg(each);
        if let Some(Cursor { micros, member }) = after {
            call.arg(*micros).arg(member);
        }
        let mut connection = self.pool.get().await?;
        let heads: Vec<Vec<(Vec<u8>, String)>> =
            call.invoke_async(&mut *connection).await.map_err(|e| self.pool.error(e))?;
        let mut found = Vec::with_capacity(lists.len());
        for (list, entries) in lists.iter().zip(heads) {
            let entries = entries
                .into_iter()
                .map(|(member, score)| Ok(Entry { micros: self.micros_of(&score)?, member, kind: list.kind }));
            found.push((*list, entries.collect::<Result<Vec<Entry>, BackendError>>()?));
        }
        Ok(found)
    }

    /// The records, schedules and holds of these entries. What a hold put aside is taken from there alone.
    async fn filled(&self, entries: Vec<Entry>) -> Result<Vec<Candidate>, BackendError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let members: Vec<&[u8]> = entries.iter().map(|entry| &entry.member[..]).collect();
        let mut connection = self.pool.get().await?;
        let (records, schedules, holds, aside, now): Facts = redis::pipe()
            .hmget(self.keys.accounts(), &members)
            .hmget(&self.claim_keys.schedules, &members)
            .hmget(&self.claim_keys.holds, &members)
            .cmd("ZMSCORE")
            .arg(&self.claim_keys.aside)
            .arg(&members)
            .cmd("TIME")
            .query_async(&mut *connection)
            .await
            .map_err(|e| self.pool.error(e))?;
        let now = now.0 * 1_000_000 + now.1;
        let mut candidates = Vec::with_capacity(entries.len());
        for ((entry, record), ((schedule, hold), aside)) in
            entries.iter().zip(records).zip(schedules.into_iter().zip(holds).zip(aside))
        {
            let is_elsewhere = entry.kind != PlaceKind::Held && aside.is_some();
            let record = record.filter(|_| !is_elsewhere);
            candidates.push(Candidate {
                place: entry.cursor(),
                kind: entry.kind,
                account: record.map(|record| self.decode(&entry.member, &record)).transpose()?,
                schedule: schedule.map(|stored| self.schedule(&stored)).transpose()?,
                hold: hold.map(|stored| self.hold(&stored, now)).transpose()?.flatten(),
            });
        }
        Ok(candidates)
    }

    /// A hold as it is stored; `None` where it is over.
    fn hold(&self, stored: &str, now: i64) -> Result<Option<Hold>, BackendError> {
        let mut lines = stored.split('\n');
        let until: Option<i64> = lines.next().and_then(|until| until.parse().ok());
        let attempts: Option<u32> = lines.nth(1).and_then(|attempts| attempts.parse().ok());
        let (Some(until), Some(attempts)) = (until, attempts) else {
            return Err(self.corrupt("a hold cannot be read"));
        };
        let worker = lines.next().and_then(|worker| WorkerId::new(worker).ok());
        let until: Timestamp = if until > now { self.time(until)? } else { return Ok(None) };
        Ok(Some(Hold { until, worker, attempts }))
    }
}

/// Records, schedules, holds, places put aside, and the time, of some members.
type Facts = (Vec<Option<Vec<u8>>>, Vec<Option<String>>, Vec<Option<String>>, Vec<Option<String>>, (i64, i64));

/// Lists that go on at one place, together.
fn by_place<'a>(lists: Vec<(&'a List, Option<Cursor>)>) -> Vec<(Option<Cursor>, Vec<&'a List>)> {
    let mut places: Vec<(Option<Cursor>, Vec<&'a List>)> = Vec::new();
    for (list, place) in lists {
        match places.iter_mut().find(|(known, _)| *known == place) {
            Some((_, lists)) => lists.push(list),
            None => places.push((place, vec![list])),
        }
    }
    places
}
