//! How a page is filled: examine accounts in order, keep those that pass, stop at the limit or at the bound.

use std::future::Future;

use super::{AccountActivity, AccountState, Cursor, Filter, ListError, ListRequest, Page};

/// How many accounts a page may examine for each one it may return, and at least.
const EXAMINED_PER_ROW: usize = 20;
const EXAMINED_AT_LEAST: usize = 2_000;
/// How many accounts are fetched at once.
const CHUNK: usize = 1_000;
const FILTERED_CHUNK_AT_LEAST: usize = 100;

/// A store's accounts in the order of their last activity.
pub(crate) trait Examine {
    /// Up to `count` listed accounts of the request's range, each with its place, from after `after` on.
    fn examine(
        &self,
        request: &ListRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> impl Future<Output = Result<Examined, ListError>> + Send;
}

/// Accounts one after the other, each with its place.
#[derive(Debug)]
pub(crate) struct Examined {
    /// Without a gap; at least one, unless they are the last.
    pub(crate) rows: Vec<(Cursor, AccountActivity)>,
    /// Whether there are no more after them.
    pub(crate) is_last: bool,
}

/// One page of what `request` asks for.
pub(crate) async fn page(store: &impl Examine, request: &ListRequest) -> Result<Page, ListError> {
    if request.limit == 0 || request.limit > ListRequest::MAX_LIMIT {
        return Err(ListError::Limit(request.limit));
    }
    let mut page = Page { accounts: Vec::new(), next: None };
    if request.filter.state == Some(AccountState::Removed) {
        return Ok(page);
    }
    let mut budget = (request.limit * EXAMINED_PER_ROW).max(EXAMINED_AT_LEAST);
    let mut place = request.cursor.clone();
    loop {
        let count = chunk(request, request.limit - page.accounts.len()).min(budget);
        let Examined { rows, is_last } = store.examine(request, place.as_ref(), count).await?;
        budget -= rows.len();
        page.accounts.reserve(rows.len().min(request.limit - page.accounts.len()));
        for (at, account) in rows {
            if page.accounts.len() == request.limit {
                return Ok(Page { next: place, ..page });
            }
            if request.query.asks_for(&account) && request.filter.lets_through(&account) {
                page.accounts.push(account);
            }
            place = Some(at);
        }
        if is_last {
            return Ok(page);
        }
        if budget == 0 {
            return Ok(Page { next: place, ..page });
        }
    }
}

/// One more than the room there is, to see whether there is a next page; more where some will not pass.
fn chunk(request: &ListRequest, room: usize) -> usize {
    let is_filtered = request.filter != Filter::default();
    let count = if is_filtered { (2 * room).max(FILTERED_CHUNK_AT_LEAST) } else { room + 1 };
    count.min(CHUNK + 1)
}

#[cfg(test)]
mod tests;
