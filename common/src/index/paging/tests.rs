#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;

use super::*;
use crate::account::{CacheKey, ClientId};
use crate::index::Query;

/// Endless accounts that no filter lets through.
#[derive(Default)]
struct Endless {
    examined: AtomicUsize,
}

impl Examine for Endless {
    async fn examine(&self, _: &ListRequest, after: Option<&Cursor>, count: usize) -> Result<Examined, ListError> {
        self.examined.fetch_add(count, Ordering::Relaxed);
        let first = after.map_or(0, |cursor| cursor.micros + 1);
        let last = first + i64::try_from(count).unwrap();
        let rows = (first..last).map(|micros| (Cursor { micros, member: Vec::new() }, account(micros))).collect();
        Ok(Examined { rows, is_last: false })
    }
}

fn account(micros: i64) -> AccountActivity {
    let mut account = AccountActivity::nothing_about(CacheKey::new(format!("key {micros}")).unwrap());
    account.last_activity = Timestamp::from_microsecond(micros).ok();
    account
}

fn request(limit: usize) -> ListRequest {
    ListRequest { query: Query::IdleSince(Timestamp::MAX), filter: Filter::default(), limit, cursor: None }
}

#[tokio::test]
async fn a_page_examines_a_bounded_number_and_says_where_to_go_on() {
    let by_client = Filter { client: ClientId::new("c").ok(), ..Filter::default() };
    for (limit, bound) in [(1, 2_000), (100, 2_000), (10_000, 200_000)] {
        let store = Endless::default();
        let page = page(&store, &ListRequest { filter: by_client.clone(), ..request(limit) }).await.unwrap();
        assert_eq!(store.examined.into_inner(), bound, "limit {limit}");
        assert_eq!((page.accounts.len(), page.next.unwrap().micros), (0, bound as i64 - 1));
    }
}

#[tokio::test]
async fn a_page_without_a_filter_examines_one_more_than_it_returns() {
    let store = Endless::default();
    let page = page(&store, &request(10)).await.unwrap();
    assert_eq!((page.accounts.len(), page.next.unwrap().micros, store.examined.into_inner()), (10, 9, 11));
}

#[tokio::test]
async fn a_limit_of_none_or_too_many_is_refused() {
    for limit in [0, ListRequest::MAX_LIMIT + 1] {
        let error = page(&Endless::default(), &request(limit)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the limit is {limit}; give 1 to 10000"));
    }
}

#[tokio::test]
async fn removed_accounts_are_in_no_list() {
    let store = Endless::default();
    let filter = Filter { state: Some(AccountState::Removed), ..Filter::default() };
    let page = page(&store, &ListRequest { filter, ..request(10) }).await.unwrap();
    assert_eq!((page, store.examined.into_inner()), (Page { accounts: Vec::new(), next: None }, 0));
}
