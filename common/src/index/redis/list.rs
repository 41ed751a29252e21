//! Listing: one script per part of a page gives members, scores and records as they are at one instant.

use futures_util::future::try_join_all;
use redis::ScriptInvocation;

use super::keys::{Keys, Listed, MEMBER_BYTES};
use super::layout::{Layout, is_outdated};
use super::{RedisGeneration, shards};
use crate::backend::BackendError;
use crate::event::to_microseconds;
use crate::index::paging::{Examine, Examined};
use crate::index::{AccountActivity, Cursor, Filter, InvalidCursor, ListError, ListRequest, Order, Query};
use crate::redis_pool::AnyConnection;

/// How often a page may find that the layout has changed: it does with each new tenant, until there are enough.
const MOST_LAYOUTS: usize = 20;

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
        if let Query::User(username) = &request.query {
            return self.examine_user(&mut connection, keys, (request, username), after, count).await;
        }
        for _ in 0..MOST_LAYOUTS {
            let layout = self.layout(&mut connection, keys).await?;
            let lists = self.lists_of(&mut connection, keys, &layout, request).await?;
            let call = self.page_call(keys, &layout, &lists, request, after, count);
            match call.invoke_async(&mut connection).await {
                Ok((entries, records)) => return self.rows(entries, records, count),
                Err(error) if is_outdated(&error) => self.layouts.forget(keys),
                Err(error) => return Err(self.pool.error(error)),
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

    fn page_call(
        &self,
        keys: &Keys,
        layout: &Layout,
        lists: &[String],
        request: &ListRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> ScriptInvocation<'_> {
        let order = match request.query.order() {
            Order::OldestFirst => "oldest",
            Order::NewestFirst => "newest",
        };
        let (lowest, highest) = scores(&request.query);
        let mut call = self.scripts.page.prepare_invoke();
        call.key(keys.accounts()).key(keys.layout()).key(lists);
        call.arg(&layout.id).arg(order).arg(lowest).arg(highest).arg(count);
        if let Some(Cursor { micros, member }) = after {
            call.arg(*micros).arg(member);
        }
        call
    }

    fn rows(
        &self,
        entries: Vec<Vec<u8>>,
        records: Vec<Option<Vec<u8>>>,
        count: usize,
    ) -> Result<Examined, BackendError> {
        let entries = entries.chunks_exact(2).zip(records);
        let rows = entries.map(|(entry, record)| self.row(&entry[0], &entry[1], record));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let is_last = rows.len() < count;
        Ok(Examined { rows, is_last })
    }

    fn row(
        &self,
        member: &[u8],
        score: &[u8],
        record: Option<Vec<u8>>,
    ) -> Result<(Cursor, AccountActivity), BackendError> {
        let score = std::str::from_utf8(score).ok().and_then(|score| score.parse::<f64>().ok());
        let micros = score.ok_or_else(|| self.corrupt("a score is no number; rebuild the index"))? as i64;
        Ok((Cursor { micros, member: member.to_vec() }, self.listed(member, record)?))
    }

    /// An account that a list names.
    pub(super) fn listed(&self, member: &[u8], record: Option<Vec<u8>>) -> Result<AccountActivity, BackendError> {
        let missing = || self.corrupt("a list names an account that is not there; rebuild the index");
        self.decode(member, &record.ok_or_else(missing)?)
    }
}

fn scores(query: &Query) -> (String, String) {
    let (lowest, highest) = ("-inf".to_owned(), "+inf".to_owned());
    match query {
        Query::ActiveSince(time) => (to_microseconds(*time).as_microsecond().to_string(), highest),
        Query::IdleSince(time) => (lowest, to_microseconds(*time).as_microsecond().to_string()),
        Query::User(_) => (lowest, highest),
    }
}
