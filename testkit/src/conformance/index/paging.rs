//! Pages and cursors.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::account::CacheKey;
use common::event::{AccountDetails, ActivityEvent, FailureReason};
use common::index::{AccountActivity, AccountState, Cursor, Filter, ListError, ListRequest, Query, fold};
use jiff::Timestamp;

use super::sample::{REASONS, activity, at, client, details, failed, named, removed, tenant};
use super::{TestIndex, apply, assert_in_order, check_list, list, list_all};

/// Oldest and newest first; by tenant and username too; with many accounts in one microsecond.
pub async fn every_account_is_listed_once_whatever_the_page_size(index: &TestIndex) {
    let events: Vec<ActivityEvent> =
        (0..60).map(|n| activity(&format!("k{n}"), burst(n), named(["one", "two"][n % 2]))).collect();
    apply(&*index.store, &events).await;
    let fold = fold(&events);
    let by_tenant = Filter { tenant: details().tenant_id, ..Filter::default() };
    let queries = [
        Query::ActiveSince(Timestamp::MIN),
        Query::IdleSince(Timestamp::MAX),
        Query::User(super::sample::username("two")),
    ];
    for limit in [1, 2, 7, 30, 59, 60, 61] {
        for query in &queries {
            check_list(&*index.store, &fold, query, &Filter::default(), limit).await;
            check_list(&*index.store, &fold, query, &by_tenant, limit).await;
        }
    }
    let all = list(&*index.store, &queries[1], &Filter::default(), 60, None).await;
    assert_eq!((all.accounts.len(), all.next), (60, None), "the last page knows that it is the last");
}

/// Thirty accounts in one microsecond, and thirty around it.
fn burst(n: usize) -> i64 {
    let n = i64::try_from(n).expect("a small number");
    if (15..45).contains(&n) { 1_000 } else { n * 100 }
}

/// The account a cursor stands at moves or is removed, in the middle of a burst too, and others come.
pub async fn cursors_stay_valid_while_the_index_changes(index: &TestIndex) {
    for query in [Query::ActiveSince(Timestamp::MIN), Query::IdleSince(at(50_000))] {
        let home = format!("{:?}", query.order());
        let filter = Filter { tenant: Some(tenant(&home)), ..Filter::default() };
        let here = || AccountDetails { tenant_id: Some(tenant(&home)), ..details() };
        let name = |n: usize| format!("{home} {n}");
        let events: Vec<ActivityEvent> = (0..60).map(|n| activity(&name(n), burst(n), here())).collect();
        apply(&*index.store, &events).await;

        let mut seen: Vec<CacheKey> = Vec::new();
        let mut cursor = None;
        loop {
            let page = list(&*index.store, &query, &filter, 4, cursor).await;
            seen.extend(page.accounts.into_iter().map(|account| account.cache_key));
            let Some(next) = page.next else { break };
            cursor = Some(next);
            let last = seen.last().expect("a cursor comes after an account").as_str();
            let change = match seen.len() % 3 {
                0 => None,
                1 => Some(removed(last, 100_000)),
                _ => Some(activity(last, 200_000, here())),
            };
            let newcomer = activity(&format!("{home} new {}", seen.len()), 300_000, here());
            apply(&*index.other, &change.into_iter().chain([newcomer]).collect::<Vec<_>>()).await;
        }
        let mut expected: Vec<CacheKey> = events.into_iter().map(|event| event.subject).collect();
        expected.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, expected, "each account that was there is seen once, {query:?}");
    }
}

/// Pages may be short, or empty, and the cursors lead on.
pub async fn a_filter_that_few_pass_still_comes_to_an_end(index: &TestIndex) {
    let rare = |n: i64| AccountDetails { client_id: client("rare"), ..named(&format!("name {n}")) };
    let events: Vec<ActivityEvent> = (0..5_000)
        .map(|n| activity(&format!("k{n}"), n / 100, if n % 1_700 == 1_699 { rare(n) } else { details() }))
        .collect();
    apply(&*index.store, &events).await;
    let filter = Filter { client: Some(client("rare")), ..Filter::default() };
    let fold = fold(&events);
    check_list(&*index.store, &fold, &Query::ActiveSince(Timestamp::MIN), &filter, 1).await;
    check_list(&*index.store, &fold, &Query::IdleSince(Timestamp::MAX), &filter, 1000).await;
}

/// A page examines a bounded number of accounts, so it can be full only where what is rare has an index of its own.
pub async fn rare_accounts_fill_their_pages_whatever_is_beside_them(index: &TestIndex) {
    let of = |client_id: &str, n: i64| AccountDetails {
        client_id: client(client_id),
        tenant_id: Some(tenant(if n % 2 == 0 { "even" } else { "odd" })),
        ..details()
    };
    // The rare ones are the oldest and the newest, so that either order has all the others before some of them.
    let rare = |n: i64| !(15..6_015).contains(&n);
    let subject = |n: i64| format!("k{n}");
    let mut events: Vec<ActivityEvent> = (0..6_030).map(|n| activity(&subject(n), n, of("bulk", n))).collect();
    apply(&*index.store, &events).await;
    let others: Vec<ActivityEvent> = (0..6_030)
        .filter(|n| rare(*n))
        .flat_map(|n| {
            let parked = failed(&format!("parked {n}"), n + 7_000, FailureReason::Revoked);
            let backing_off = failed(&format!("backing off {n}"), n + 7_000, FailureReason::Throttled);
            [
                activity(&format!("rare {n}"), n, of("rare", n)),
                activity(parked.subject.as_str(), n, of("bulk", n)),
                activity(backing_off.subject.as_str(), n, of("bulk", n)),
                parked,
                backing_off,
            ]
        })
        .collect();
    apply(&*index.store, &others).await;
    events.extend(others);
    let fold = fold(&events);
    let all = Filter::default();
    for narrowed in [
        Filter { client: Some(client("rare")), ..all.clone() },
        Filter { state: Some(AccountState::Parked), ..all.clone() },
        Filter { state: Some(AccountState::BackingOff), ..all.clone() },
    ] {
        for tenant_id in [None, Some(tenant("even"))] {
            let filter = Filter { tenant: tenant_id, ..narrowed.clone() };
            for query in [Query::ActiveSince(Timestamp::MIN), Query::IdleSince(Timestamp::MAX)] {
                check_list(&*index.store, &fold, &query, &filter, 10).await;
                let page = list(&*index.store, &query, &filter, 10, None).await;
                assert_eq!(page.accounts.len(), 10, "{filter:?} {query:?}");
            }
        }
    }
}

/// More tenants than a backend may keep apart, of very different sizes, in every order and page size.
pub async fn accounts_of_many_tenants_are_one_list(index: &TestIndex) {
    let of = |n: usize| AccountDetails {
        tenant_id: match n % 3 {
            0 => None,
            1 => Some(tenant("large")),
            _ => Some(tenant(&format!("small {}", n % 150))),
        },
        ..details()
    };
    let events: Vec<ActivityEvent> =
        (0..900).map(|n| activity(&format!("k{n}"), i64::try_from(n / 5).expect("small"), of(n))).collect();
    for (turn, chunk) in events.chunks(90).enumerate() {
        let store = if turn % 2 == 0 { &index.store } else { &index.other };
        apply(&**store, chunk).await;
    }
    let fold = fold(&events);
    for query in [Query::ActiveSince(at(20)), Query::IdleSince(at(160))] {
        for limit in [7, 100, 1_000] {
            check_list(&*index.store, &fold, &query, &Filter::default(), limit).await;
            check_list(&*index.other, &fold, &query, &Filter::default(), limit).await;
        }
        for name in ["large", "small 2", "small 149"] {
            let filter = Filter { tenant: Some(tenant(name)), ..Filter::default() };
            check_list(&*index.store, &fold, &query, &filter, 4).await;
        }
    }
}

/// As after an import: the place of a cursor is in the middle of them, in the lists of all tenants.
pub async fn thousands_of_accounts_at_one_time_are_paged(index: &TestIndex) {
    let tenant_of = |n: i64| match n % 8 {
        0 => None,
        1..=4 => Some(tenant("large")),
        rest => Some(tenant(&format!("small {rest}"))),
    };
    let time = |n: i64| if n < 3_000 { 500 } else { n - 3_000 };
    let events: Vec<ActivityEvent> = (0..3_600)
        .map(|n| activity(&format!("k{n}"), time(n), AccountDetails { tenant_id: tenant_of(n), ..details() }))
        .collect();
    apply(&*index.store, &events).await;
    let fold = fold(&events);
    let of_large = Filter { tenant: Some(tenant("large")), ..Filter::default() };
    for filter in [Filter::default(), of_large] {
        for (since, until) in [(Timestamp::MIN, Timestamp::MAX), (at(500), at(500))] {
            for limit in [100, 1_000] {
                check_list(&*index.store, &fold, &Query::ActiveSince(since), &filter, limit).await;
                check_list(&*index.store, &fold, &Query::IdleSince(until), &filter, limit).await;
            }
            let all = (Query::ActiveSince(Timestamp::MIN), Query::IdleSince(Timestamp::MAX));
            let newest_first = list_all(&*index.store, &all.0, &filter, 100).await;
            let oldest_first = list_all(&*index.other, &all.1, &filter, 1_000).await;
            assert!(newest_first.iter().rev().eq(&oldest_first), "either order is the other one reversed");
        }
    }
}

/// A page may be of one of many lists alone, or begin with one and end with another.
pub async fn tenants_that_are_active_one_after_the_other_are_one_list(index: &TestIndex) {
    let of = |n: i64| AccountDetails { tenant_id: Some(tenant(&format!("t{}", n / 150))), ..details() };
    let now_and_then = || AccountDetails { tenant_id: Some(tenant("now and then")), ..details() };
    let block = (0..1_500).map(|n| activity(&format!("k{n}"), n, of(n)));
    let events: Vec<ActivityEvent> =
        block.chain((0..30).map(|n| activity(&format!("other {n}"), 50 * n, now_and_then()))).collect();
    apply(&*index.store, &events).await;
    let fold = fold(&events);
    for query in [Query::ActiveSince(at(100)), Query::IdleSince(at(1_400))] {
        for limit in [40, 200, 1_000] {
            check_list(&*index.store, &fold, &query, &Filter::default(), limit).await;
        }
    }
}

/// Others come, go for good, move to another place, tenant and state while the pages are read.
pub async fn a_list_has_who_stays_while_others_come_and_go(index: &TestIndex) {
    let generations = index.generations.generations().await.expect("generations");
    let writer = index.generations.generation(generations.live);
    let of = |n: i64| AccountDetails { tenant_id: Some(tenant(&format!("t{}", n % 7))), ..details() };
    let staying: Vec<ActivityEvent> = (0..700).map(|n| activity(&format!("stays {n}"), 10 * n, of(n))).collect();
    apply(&*index.store, &staying).await;
    let fold = fold(&staying);
    let is_read = AtomicBool::new(false);
    let others = async {
        for turn in 0.. {
            let comes = |n: i64| activity(&format!("comes {n}"), 10 * n + 5, of(n + turn));
            let moves = |n: i64| activity(&format!("moves {n}"), 13 * turn + 3 * n, of(n + turn));
            let fails = |n: i64| failed(&format!("moves {n}"), 8_000, REASONS[(turn + n) as usize % REASONS.len()]);
            let come: Vec<AccountActivity> = (0..50).map(|n| AccountActivity::of(&comes(n))).collect();
            writer.apply(&come).await.expect("applied");
            apply(&*writer, &(0..50).flat_map(|n| [moves(n), fails(n)]).collect::<Vec<_>>()).await;
            for account in &come {
                assert!(writer.replace(Some(account), None).await.expect("an answer"));
            }
            if is_read.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    let reading = async {
        for round in 0..10 {
            for query in [Query::ActiveSince(Timestamp::MIN), Query::IdleSince(Timestamp::MAX)] {
                let mut seen = list_all(&*index.store, &query, &Filter::default(), 30 + 40 * round).await;
                seen.retain(|account| fold.contains_key(&account.cache_key));
                assert_in_order(&seen, query.order());
                assert_eq!(seen.len(), fold.len(), "{query:?}");
                assert!(seen.iter().all(|account| fold.get(&account.cache_key) == Some(account)));
            }
        }
        is_read.store(true, Ordering::Relaxed);
    };
    tokio::join!(others, reading);
}

/// And leaves no trace in the lists it was in.
pub async fn an_account_that_changes_client_and_state_moves(index: &TestIndex) {
    const KEY: &str = "mover";
    let of = |client_id: &str, tenant_id: &str| AccountDetails {
        client_id: client(client_id),
        tenant_id: Some(tenant(tenant_id)),
        ..details()
    };
    let steps = [
        activity("stays", 0, of("a", "t")),
        activity(KEY, 1, of("b", "t")),
        failed(KEY, 2, FailureReason::Revoked),
        activity(KEY, 3, of("a", "u")),
        failed(KEY, 4, FailureReason::Throttled),
        failed(KEY, 5, FailureReason::Revoked),
        activity(KEY, 6, of("c", "t")),
        removed(KEY, 7),
        activity(KEY, 8, of("b", "u")),
    ];
    for upto in 1..=steps.len() {
        apply(&*index.store, &steps[upto - 1..upto]).await;
        let fold = fold(&steps[..upto]);
        let clients = ["a", "b", "c"].map(|id| Some(client(id))).into_iter().chain([None]);
        for client in clients {
            for state in [None, Some(AccountState::Ready), Some(AccountState::Parked), Some(AccountState::BackingOff)] {
                for tenant in [None, Some(tenant("t")), Some(tenant("u"))] {
                    let filter = Filter { tenant, client: client.clone(), state };
                    check_list(&*index.other, &fold, &Query::IdleSince(Timestamp::MAX), &filter, 5).await;
                }
            }
        }
    }
}

/// 0, and more than the largest.
pub async fn a_limit_of_none_or_too_many_is_refused(index: &TestIndex) {
    for limit in [0, ListRequest::MAX_LIMIT + 1] {
        let error = index.store.list(&request(limit, None)).await.expect_err("a refusal");
        assert!(matches!(error, ListError::Limit(refused) if refused == limit), "{error}");
    }
}

/// And a cursor of another backend's list is refused or leads somewhere, and harms nothing.
pub async fn a_text_that_is_no_cursor_is_refused(index: &TestIndex) {
    apply(&*index.store, &[activity("k", 0, details())]).await;
    for text in ["", "1", "%%%", "MTIz", "garbage"] {
        assert!(text.parse::<Cursor>().is_err(), "{text:?}");
    }
    for member in [&b""[..], b"k", b"0123456789abcd", &[0xff; 14], &[0xff; 40]] {
        let bytes = [&b"1"[..], &0_i64.to_be_bytes(), member].concat();
        let cursor: Cursor = URL_SAFE_NO_PAD.encode(bytes).parse().expect("the shape of a cursor");
        match index.store.list(&request(10, Some(cursor))).await {
            Ok(page) => assert!(page.accounts.len() <= 1),
            Err(error) => assert!(matches!(error, ListError::Cursor(_)), "{error}"),
        }
    }
}

fn request(limit: usize, cursor: Option<Cursor>) -> ListRequest {
    ListRequest { query: Query::IdleSince(Timestamp::MAX), filter: Filter::default(), limit, cursor }
}
