//! Listing: one script per part of a page gives members, scores and records as they are at one instant.

use super::RedisGeneration;
use super::keys::MEMBER_BYTES;
use crate::backend::BackendError;
use crate::event::to_microseconds;
use crate::index::paging::Examine;
use crate::index::{AccountActivity, Cursor, InvalidCursor, ListError, ListRequest, Order, Query};

impl Examine for RedisGeneration {
    async fn examine(
        &self,
        request: &ListRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Vec<(Cursor, AccountActivity)>, ListError> {
        if after.is_some_and(|after| after.member.len() != MEMBER_BYTES) {
            return Err(InvalidCursor.into());
        }
        let order = match request.query.order() {
            Order::OldestFirst => "oldest",
            Order::NewestFirst => "newest",
        };
        let (lowest, highest) = scores(&request.query);
        let mut call = self.scripts.page.prepare_invoke();
        call.key(self.list_of(request)).key(self.keys.accounts());
        call.arg(order).arg(lowest).arg(highest).arg(count);
        if let Some(Cursor { micros, member }) = after {
            call.arg(*micros).arg(member);
        }
        let mut connection = self.pool.get().await?;
        let (entries, records): (Vec<Vec<u8>>, Vec<Option<Vec<u8>>>) =
            call.invoke_async(&mut *connection).await.map_err(|e| self.pool.error(e))?;
        let entries = entries.chunks_exact(2).zip(records);
        entries.map(|(entry, record)| Ok(self.row(&entry[0], &entry[1], record)?)).collect()
    }
}

impl RedisGeneration {
    /// The shortest list that has all of what is asked for.
    fn list_of(&self, request: &ListRequest) -> String {
        match (&request.query, &request.filter.tenant) {
            (Query::User(username), _) => self.keys.user(&username.lower_cased()),
            (_, Some(tenant)) => self.keys.tenant(tenant),
            (_, None) => self.keys.active().to_owned(),
        }
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

fn scores(query: &Query) -> (String, String) {
    let (lowest, highest) = ("-inf".to_owned(), "+inf".to_owned());
    match query {
        Query::ActiveSince(time) => (to_microseconds(*time).as_microsecond().to_string(), highest),
        Query::IdleSince(time) => (lowest, to_microseconds(*time).as_microsecond().to_string()),
        Query::User(_) => (lowest, highest),
    }
}
