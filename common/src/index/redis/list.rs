//! Listing: one script per part of a page gives members, scores and records as they are at one instant.

use futures_util::future::try_join_all;

use super::keys::{Keys, MEMBER_BYTES};
use super::{RedisGeneration, shards};
use crate::backend::BackendError;
use crate::event::to_microseconds;
use crate::index::paging::{Examine, Examined};
use crate::index::{AccountActivity, Cursor, InvalidCursor, ListError, ListRequest, Order, Query};
use crate::redis_pool::AnyConnection;

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
        let order = match request.query.order() {
            Order::OldestFirst => "oldest",
            Order::NewestFirst => "newest",
        };
        let (lowest, highest) = scores(&request.query);
        let mut call = self.scripts.page.prepare_invoke();
        call.key(list_of(keys, request)).key(keys.accounts());
        call.arg(order).arg(lowest).arg(highest).arg(count);
        if let Some(Cursor { micros, member }) = after {
            call.arg(*micros).arg(member);
        }
        let (entries, records): (Vec<Vec<u8>>, Vec<Option<Vec<u8>>>) =
            call.invoke_async(&mut connection).await.map_err(|e| self.pool.error(e))?;
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
        let record =
            record.ok_or_else(|| self.corrupt("a list names an account that is not there; rebuild the index"))?;
        let score = std::str::from_utf8(score).ok().and_then(|score| score.parse::<f64>().ok());
        let micros = score.ok_or_else(|| self.corrupt("a score is no number; rebuild the index"))? as i64;
        Ok((Cursor { micros, member: member.to_vec() }, self.decode(member, &record)?))
    }
}

/// The shortest list that has all of what is asked for.
fn list_of(keys: &Keys, request: &ListRequest) -> String {
    match (&request.query, &request.filter.tenant) {
        (Query::User(username), _) => keys.user(&username.lower_cased()),
        (_, Some(tenant)) => keys.tenant(tenant),
        (_, None) => keys.active().to_owned(),
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
