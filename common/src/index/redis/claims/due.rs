//! Who is due: the tenants' lists merged in the order of their places, and what holds put aside among them.

use jiff::Timestamp;
use redis::AsyncCommands as _;

use super::super::heads::{Entry, Range};
use super::super::keys::MEMBER_BYTES;
use super::super::shards::by;
use super::ClaimShard;
use crate::backend::BackendError;
use crate::event::to_microseconds;
use crate::index::due_page::{Candidate, Candidates, PlaceKind};
use crate::index::{ClaimError, Cursor, DueRequest, Hold, InvalidCursor, Order, WorkerId};
use crate::redis_pool::AnyConnection;

/// How many lists are looked at in one step.
const LISTS_AT_ONCE: usize = 256;

/// A list of accounts by when they are due.
struct List {
    key: String,
    kind: PlaceKind,
}

/// A place of an account in one of them.
struct Place {
    cursor: Cursor,
    kind: PlaceKind,
}

impl Candidates for ClaimShard<'_> {
    /// Of one shard. Costs a command per tenant that has something due, a bounded number of them in one step.
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
        let range = Range { order: Order::OldestFirst, end: until };
        let mut connection = self.pool.get().await?;
        let mut first: Vec<Place> = Vec::new();
        for some in lists.chunks(LISTS_AT_ONCE) {
            let keys: Vec<&str> = some.iter().map(|list| list.key.as_str()).collect();
            let entries = self.first_of(&mut connection, &keys, range, after, count).await?;
            first.extend(
                entries.into_iter().map(|Entry { place, list }| Place { cursor: place, kind: some[list].kind }),
            );
            first.sort_by(|one, other| by(range.order, &one.cursor, &other.cursor));
            first.truncate(count);
        }
        Ok(self.filled(&mut connection, first).await?)
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

    /// The records, schedules and holds of these entries. What a hold put aside is taken from there alone.
    async fn filled(&self, connection: &mut AnyConnection, places: Vec<Place>) -> Result<Vec<Candidate>, BackendError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let members: Vec<&[u8]> = places.iter().map(|place| &place.cursor.member[..]).collect();
        let (records, schedules, holds, aside, now): Facts = redis::pipe()
            .hmget(self.keys.accounts(), &members)
            .hmget(&self.claim_keys.schedules, &members)
            .hmget(&self.claim_keys.holds, &members)
            .cmd("ZMSCORE")
            .arg(&self.claim_keys.aside)
            .arg(&members)
            .cmd("TIME")
            .query_async(connection)
            .await
            .map_err(|e| self.pool.error(e))?;
        let now = now.0 * 1_000_000 + now.1;
        let mut candidates = Vec::with_capacity(places.len());
        for ((place, record), ((schedule, hold), aside)) in
            places.iter().zip(records).zip(schedules.into_iter().zip(holds).zip(aside))
        {
            let is_elsewhere = place.kind != PlaceKind::Held && aside.is_some();
            let record = record.filter(|_| !is_elsewhere);
            candidates.push(Candidate {
                place: place.cursor.clone(),
                kind: place.kind,
                account: record.map(|record| self.decode(&place.cursor.member, &record)).transpose()?,
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
