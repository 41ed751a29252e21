//! Listing: the lists are read and merged, then the records of what they name.
//!
//! Between these two steps an account may have changed. It is shown as it is by then, at the place it had, if it is still
//! asked for.

use futures_util::future::try_join_all;

use super::heads::{Entry, Range};
use super::keys::{Keys, LAYOUT_ID, Listed, MEMBER_BYTES};
use super::layout::Layout;
use super::{RedisGeneration, shards};
use crate::backend::BackendError;
use crate::event::to_microseconds;
use crate::index::paging::{Examine, Examined};
use crate::index::{AccountActivity, Cursor, Filter, InvalidCursor, ListError, ListRequest, Query};
use crate::redis_pool::AnyConnection;

/// How often a part of a page may be read: the layout changes with each new tenant, until there are enough.
const MOST_READINGS: usize = 20;

impl Examine for RedisGeneration {
    async fn examine(
        &self,
        request: &ListRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Examined, ListError> {
        if after.is_some_and(|after| after.member.len() != MEMBER_BYTES) {
            return Err(InvalidCursor.into());
        }
        let connection = self.pool.get().await?;
        let count = self.shards.share_of(count);
        let shards = self.shards.all().iter().map(|keys| {
            let connection = connection.clone();
            self.examine_shard(connection, keys, request, after, count)
        });
        Ok(shards::merged(try_join_all(shards).await?, request.query.order()))
    }
}

impl RedisGeneration {
    async fn examine_shard(
        &self,
        mut connection: AnyConnection,
        keys: &Keys,
        request: &ListRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Examined, BackendError> {
        let order = request.query.order();
        let range = match &request.query {
            Query::User(username) => {
                return self.examine_user(&mut connection, keys, (request, username), after, count).await;
            }
            Query::ActiveSince(time) | Query::IdleSince(time) => {
                Range { order, end: to_microseconds(*time).as_microsecond() }
            }
        };
        for _ in 0..MOST_READINGS {
            let layout = self.layout(&mut connection, keys).await?;
            let lists = self.lists_of(&mut connection, keys, &layout, request).await?;
            let lists: Vec<&str> = lists.iter().map(String::as_str).collect();
            let mut entries = self.first_of(&mut connection, &lists, range, after, count).await?;
            let is_last = entries.len() < count;
            entries.dedup_by(|one, other| one.place == other.place);
            let Some(mut records) = self.records(&mut connection, keys, &layout, &entries).await? else {
                self.layouts.forget(keys);
                continue;
            };
            for (Entry { place, list }, record) in entries.iter().zip(&mut records) {
                if record.is_none() {
                    *record = self.record_again(&mut connection, keys, lists[*list], &place.member).await?;
                }
            }
            let rows = self.rows(entries, records)?;
            if is_last || !rows.is_empty() {
                return Ok(Examined { rows, is_last });
            }
        }
        Err(self.layout_changes())
    }

    /// The lists that have together all of what is asked for, and the fewest accounts beside it.
    async fn lists_of(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
        layout: &Layout,
        request: &ListRequest,
    ) -> Result<Vec<String>, BackendError> {
        let Filter { tenant, client, state } = &request.filter;
        let which = state.and_then(Listed::in_state).unwrap_or(Listed::All);
        let lists = match tenant {
            Some(tenant) => vec![keys.of_tenant(which, tenant)],
            None => {
                let own = layout.own_tenants().map(|tenant| keys.of_tenant(which, tenant));
                own.chain([keys.of_others(which)]).collect()
            }
        };
        let Some(client) = client.as_ref().filter(|client| !layout.is_main(client)) else { return Ok(lists) };
        let of_client = vec![keys.client(client)];
        if which == Listed::All && tenant.is_none() {
            return Ok(of_client);
        }
        let lengths = async |lists: &[String], connection: &mut AnyConnection| -> Result<u64, BackendError> {
            let mut asked = redis::pipe();
            for list in lists {
                asked.zcard(list);
            }
            let lengths: Vec<u64> = asked.query_async(connection).await.map_err(|e| self.pool.error(e))?;
            Ok(lengths.iter().sum())
        };
        let is_shorter = lengths(&of_client, connection).await? < lengths(&lists, connection).await?;
        Ok(if is_shorter { of_client } else { lists })
    }

    /// The records of the entries, if their lists were those of the shard's layout, which never comes again.
    async fn records(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
        layout: &Layout,
        entries: &[Entry],
    ) -> Result<Option<Vec<Option<Vec<u8>>>>, BackendError> {
        let mut asked = redis::pipe();
        asked.hget(keys.layout(), LAYOUT_ID);
        let members: Vec<&[u8]> = entries.iter().map(|entry| &entry.place.member[..]).collect();
        let error = |e| self.pool.error(e);
        let (id, records): (Option<String>, _) = match members.is_empty() {
            true => (asked.query_async::<(_,)>(connection).await.map_err(error)?.0, Vec::new()),
            false => asked.hmget(keys.accounts(), &members).query_async(connection).await.map_err(error)?,
        };
        Ok((id.unwrap_or_default() == layout.id).then_some(records))
    }

    /// The record of an account that had none: it has gone since its list was read, and may have come back.
    ///
    /// # Errors
    /// [`BackendError`]: it is not there, and its list names it.
    async fn record_again(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
        list: &str,
        member: &[u8],
    ) -> Result<Option<Vec<u8>>, BackendError> {
        let mut call = self.scripts.record.prepare_invoke();
        call.key(keys.accounts()).key(list).arg(member);
        let (is_named, record): (bool, Option<Vec<u8>>) =
            call.invoke_async(connection).await.map_err(|e| self.pool.error(e))?;
        if is_named && record.is_none() { Err(self.names_nobody()) } else { Ok(record) }
    }

    fn rows(
        &self,
        entries: Vec<Entry>,
        records: Vec<Option<Vec<u8>>>,
    ) -> Result<Vec<(Cursor, AccountActivity)>, BackendError> {
        let mut rows = Vec::with_capacity(entries.len());
        for (Entry { place, .. }, record) in entries.into_iter().zip(records) {
            if let Some(record) = record {
                let account = self.decode(&place.member, &record)?;
                rows.push((place, account));
            }
        }
        Ok(rows)
    }

    /// An account that a list names.
    pub(super) fn listed(&self, member: &[u8], record: Option<Vec<u8>>) -> Result<AccountActivity, BackendError> {
        self.decode(member, &record.ok_or_else(|| self.names_nobody())?)
    }

    fn names_nobody(&self) -> BackendError {
        self.corrupt("a list names an account that is not there; rebuild the index")
    }
}
