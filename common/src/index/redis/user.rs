//! The accounts of one username.
//!
//! A list of usernames is not kept in the order of last activity: each activity would have to write it, for a question
//! that is about a handful of accounts. So all of a list is read, some at a time, and the page's part of it is kept.

use super::RedisGeneration;
use super::keys::Keys;
use super::shards::by;
use crate::account::Username;
use crate::backend::BackendError;
use crate::index::paging::Examined;
use crate::index::{AccountActivity, Cursor, ListRequest};
use crate::redis_pool::AnyConnection;

/// How many accounts of a list are read at once.
const READ_AT_ONCE: usize = 1_000;

impl RedisGeneration {
    /// Up to `count` of the shard's accounts of a username, in the order of the request, after a place.
    pub(super) async fn examine_user(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
        (request, username): (&ListRequest, &Username),
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Examined, BackendError> {
        let order = request.query.order();
        let list = keys.user(&username.lower_cased());
        let (mut rows, mut from, mut is_last) = (Vec::new(), b"-".to_vec(), true);
        loop {
            let mut call = self.scripts.user.prepare_invoke();
            call.key(keys.accounts()).key(&list).arg(&from).arg(READ_AT_ONCE);
            let (members, records): (Vec<Vec<u8>>, Vec<Option<Vec<u8>>>) =
                call.invoke_async(connection).await.map_err(|e| self.pool.error(e))?;
            let is_end = members.len() < READ_AT_ONCE;
            from = members.last().map(|last| [b"(", &last[..]].concat()).unwrap_or_default();
            for (member, record) in members.into_iter().zip(records) {
                let account = self.listed(&member, record)?;
                let Some(place) = place(&account, member).filter(|_| request.query.asks_for(&account)) else {
                    continue;
                };
                if after.is_none_or(|after| by(order, &place, after).is_gt()) {
                    rows.push((place, account));
                }
            }
            rows.sort_unstable_by(|(a, _), (b, _)| by(order, a, b));
            is_last &= rows.len() <= count;
            rows.truncate(count);
            if is_end {
                return Ok(Examined { rows, is_last });
            }
        }
    }
}

/// Its place among those by last activity.
fn place(account: &AccountActivity, member: Vec<u8>) -> Option<Cursor> {
    Some(Cursor { micros: account.last_activity?.as_microsecond(), member })
}
