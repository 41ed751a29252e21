//! The index on SQLite and on Redis.

mod claims;
mod leases;
mod redis;
mod redis_cluster;
mod sqlite;

use common::event::ActivityEvent;
use common::index::{AccountActivity, ActivityStore, Filter, ListError, ListRequest, Page, Query, fold};
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use testkit::conformance::index::random_events;

/// Events of every kind about eight accounts.
fn some_events() -> Vec<ActivityEvent> {
    let keys: Vec<String> = (0..8).map(|n| format!("key {n}")).collect();
    random_events(&mut StdRng::seed_from_u64(7), &keys, 200)
}

fn changes(events: &[ActivityEvent]) -> Vec<AccountActivity> {
    fold(events).into_values().collect()
}

async fn list_all(store: &dyn ActivityStore) -> Result<Page, ListError> {
    let query = Query::IdleSince(Timestamp::MAX);
    store.list(&ListRequest { query, filter: Filter::default(), limit: 100, cursor: None }).await
}
