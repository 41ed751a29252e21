//! Any order, any duplication, any number of appliers: one index.

use common::account::TenantId;
use common::event::ActivityEvent;
use common::index::{AccountActivity, Filter, Query, fold};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::sample::{activity, details, named, random_events, shuffled_with_duplicates, tenant, username};
use super::{TestIndex, apply, assert_is_fold_of, check_counts, list_all};

const SEEDS: u64 = 8;

/// Random events in random chunks, by two handles in turn.
pub async fn any_order_chunks_and_duplicates_give_the_fold(index: &TestIndex) {
    let mut events: Vec<ActivityEvent> = Vec::new();
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let keys: Vec<String> = (0..5).map(|n| format!("seed {seed}, key {n}")).collect();
        events.extend(random_events(&mut random, &keys, 60));
        let mut left = &shuffled_with_duplicates(&mut random, &events)[..];
        while !left.is_empty() {
            let (chunk, rest) = left.split_at(random.random_range(1..=left.len().min(40)));
            let store = if random.random() { &index.store } else { &index.other };
            apply(&**store, chunk).await;
            left = rest;
        }
        assert_is_fold_of(&*index.store, &events).await;
    }
}

/// All of them write the same few accounts.
pub async fn appliers_side_by_side_give_the_fold(index: &TestIndex) {
    let mut random = StdRng::seed_from_u64(SEEDS);
    let keys: Vec<String> = (0..6).map(|n| format!("hot {n}")).collect();
    let events = random_events(&mut random, &keys, 120);
    let appliers = (0..6).map(|n| {
        let store = if n % 2 == 0 { &index.store } else { &index.other };
        let mine = shuffled_with_duplicates(&mut random, &events);
        async move {
            for chunk in mine.chunks(10) {
                apply(&**store, chunk).await;
            }
        }
    });
    join_all(appliers).await;
    assert_is_fold_of(&*index.other, &events).await;
}

/// In all and by tenant.
pub async fn counts_are_those_of_the_fold_after_every_change(index: &TestIndex) {
    let caller = std::panic::Location::caller();
    let mut random = StdRng::seed_from_u64(SEEDS + 1);
    let keys: Vec<String> = (0..4).map(|n| format!("counted {n}")).collect();
    let events = random_events(&mut random, &keys, 60);
    for (place, event) in events.iter().enumerate() {
        apply(&*index.store, std::slice::from_ref(event)).await;
        check_counts(&*index.other, &fold(&events[..=place]), caller).await;
    }
}

/// From one tenant's list and count, and one username's list, to another's.
pub async fn an_account_that_changes_tenant_and_name_moves(index: &TestIndex) {
    let at_other_tenant = |name| common::event::AccountDetails { tenant_id: Some(tenant("b")), ..named(name) };
    let events = [activity("k", 1, named("before")), activity("k", 2, at_other_tenant("after"))];
    for event in &events {
        apply(&*index.store, std::slice::from_ref(event)).await;
    }
    assert_is_fold_of(&*index.store, &events).await;
    let found = async |query: Query, tenant: Option<TenantId>| {
        list_all(&*index.store, &query, &Filter { tenant, ..Filter::default() }, 10).await.len()
    };
    let idle = || Query::IdleSince(jiff::Timestamp::MAX);
    assert_eq!(found(idle(), details().tenant_id).await, 0, "the tenant before");
    assert_eq!(found(idle(), Some(tenant("b"))).await, 1, "the tenant after");
    assert_eq!(found(Query::User(username("before")), None).await, 0, "the name before");
    assert_eq!(found(Query::User(username("after")), None).await, 1, "the name after");
    let accounts = [AccountActivity::of(&events[1])];
    let counts = index.store.counts(details().tenant_id.as_ref()).await.expect("counts");
    assert_eq!(counts, super::counts_of(accounts[..0].iter()), "the tenant before counts nobody");
}
