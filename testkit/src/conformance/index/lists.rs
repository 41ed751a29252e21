//! What lists hold: filters, bounds, usernames, odd texts.

use common::account::{CacheKey, TenantId};
use common::event::{AccountDetails, ActivityEvent, FailureReason};
use common::index::{AccountState, Filter, Query, fold};
use jiff::{SignedDuration, Timestamp};

use super::sample::{activity, at, client, details, event, failed, key, named, removed, tenant, username};
use super::{TestIndex, apply, assert_is_fold_of, check_list, list_all};

/// By each alone and by all together, at every page size.
pub async fn lists_are_narrowed_by_tenant_client_and_state(index: &TestIndex) {
    let tenants = ["t0", "t1", "t2"];
    let clients = ["c0", "c1"];
    let mut events = Vec::new();
    for n in 0..90_usize {
        let subject = format!("k{n}");
        let micros = i64::try_from(n / 4).expect("a small number");
        let (tenant_id, client_id) = (Some(tenant(tenants[n % 3])), client(clients[n / 3 % 2]));
        events.push(activity(&subject, micros, AccountDetails { tenant_id, client_id, ..named("everyone") }));
        match n % 5 {
            0 => events.push(failed(&subject, 500, FailureReason::Revoked)),
            1 => events.push(failed(&subject, 500, FailureReason::Throttled)),
            2 => events.push(removed(&subject, 500)),
            _ => {}
        }
    }
    apply(&*index.store, &events).await;
    let fold = fold(&events);
    let states = [AccountState::Ready, AccountState::BackingOff, AccountState::Parked, AccountState::Removed];
    let tenants = tenants.map(|id| Some(tenant(id))).into_iter().chain([None, Some(tenant("nobody's"))]);
    for tenant in tenants {
        for client in clients.map(|id| Some(client(id))).into_iter().chain([None]) {
            for state in states.map(Some).into_iter().chain([None]) {
                let filter = Filter { tenant: tenant.clone(), client: client.clone(), state };
                for query in [Query::ActiveSince(at(10)), Query::IdleSince(at(10)), Query::User(username("everyone"))] {
                    check_list(&*index.store, &fold, &query, &filter, 7).await;
                }
            }
        }
    }
}

/// "Since" and "until" are of the microsecond, and include it.
pub async fn times_are_bounds_that_include_their_own_microsecond(index: &TestIndex) {
    let events: Vec<ActivityEvent> = (0..5).map(|n| activity(&format!("k{n}"), n, details())).collect();
    apply(&*index.store, &events).await;
    let nanos = |nanos| SignedDuration::from_nanos(nanos);
    let cases = [(at(2), 3, 3), (at(2) + nanos(1), 2, 3), (at(2) - nanos(1), 3, 2), (at(-1), 5, 0), (at(9), 0, 5)];
    for (time, since, until) in cases {
        let count = async |query| list_all(&*index.store, &query, &Filter::default(), 10).await.len();
        assert_eq!(count(Query::ActiveSince(time)).await, since, "active since {time}");
        assert_eq!(count(Query::IdleSince(time)).await, until, "idle since {time}");
    }
}

/// Before 1970, and beyond what a double holds exactly.
pub async fn times_far_away_are_listed_in_order(index: &TestIndex) {
    let times =
        ["-009999-01-03T00:00:00Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z", "9999-12-29T00:00:00Z"];
    let mut events = vec![activity("now", 0, details())];
    for (n, text) in times.iter().enumerate() {
        // Neighbours, a microsecond apart.
        for micros in 0..3 {
            let time = text.parse::<Timestamp>().expect("a time") + SignedDuration::from_micros(micros);
            let activity = common::event::Activity::UserActivity(details());
            events.push(ActivityEvent { time, ..event(&format!("k{n} {micros}"), 0, activity) });
        }
    }
    apply(&*index.store, &events).await;
    let fold = fold(&events);
    for account in fold.values() {
        assert_eq!(index.store.get(&account.cache_key).await.expect("an answer").as_ref(), Some(account));
        let time = account.last_activity.expect("a time");
        for query in [Query::ActiveSince(time), Query::IdleSince(time)] {
            let listed = keys(list_all(&*index.store, &query, &Filter::default(), 2).await.into_iter());
            let expected = keys(fold.values().filter(|account| query.asks_for(account)).cloned());
            assert_eq!(listed, expected, "{query:?}");
        }
    }
}

fn keys(accounts: impl Iterator<Item = common::index::AccountActivity>) -> Vec<CacheKey> {
    let mut keys: Vec<CacheKey> = accounts.map(|account| account.cache_key).collect();
    keys.sort_unstable();
    keys
}

/// In any alphabet that has cases.
pub async fn usernames_are_found_whatever_their_case(index: &TestIndex) {
    let spellings = [
        ("Alice@Contoso.com", "ALICE@CONTOSO.COM"),
        ("ÜLKÜ@CONTOSO.COM", "ülkü@contoso.com"),
        ("ΩΜΕΓΑ@example.com", "ωμεγα@EXAMPLE.com"),
        ("ДМИТРИЙ", "дмитрий"),
    ];
    let mut events = Vec::new();
    for (n, (one, other)) in spellings.iter().enumerate() {
        events.push(activity(&format!("one {n}"), 1, named(one)));
        events.push(activity(&format!("other {n}"), 2, named(other)));
    }
    apply(&*index.store, &events).await;
    assert_is_fold_of(&*index.store, &events).await;
    for spelling in spellings.iter().flat_map(|(one, other)| [one, other]) {
        let found = list_all(&*index.store, &Query::User(username(spelling)), &Filter::default(), 10).await;
        assert_eq!(found.len(), 2, "{spelling}");
    }
    let nobody = Query::User(username("alice@contoso.co"));
    assert_eq!(list_all(&*index.store, &nobody, &Filter::default(), 10).await, []);
}

/// Newest first, once each.
pub async fn thousands_of_accounts_of_one_username_are_paged(index: &TestIndex) {
    let mut events: Vec<ActivityEvent> =
        (0..3_000).map(|n| activity(&format!("k{n}"), n / 7, named("shared@contoso.com"))).collect();
    events.push(activity("lonely", 0, named("lonely@contoso.com")));
    apply(&*index.store, &events).await;
    let fold = fold(&events);
    check_list(&*index.store, &fold, &Query::User(username("Shared@contoso.com")), &Filter::default(), 700).await;
    check_list(&*index.store, &fold, &Query::User(username("lonely@contoso.com")), &Filter::default(), 5).await;
}

/// Keys of the greatest length, keys that differ in little, and what has a meaning to some store.
pub async fn texts_of_every_shape_are_kept_apart(index: &TestIndex) {
    let longest = "k".repeat(CacheKey::MAX_BYTES);
    let longest_but_one = "k".repeat(CacheKey::MAX_BYTES - 1);
    let wide = "\u{1F511}".repeat(CacheKey::MAX_BYTES / 4);
    let texts = [
        "key",
        "KEY",
        "key ",
        " key",
        "{key}",
        "key:*?[a]",
        "k'e\"y;--",
        "%00",
        "\\0",
        "мой ключ",
        "e\u{301}",
        "é",
        "\u{202e}yek",
        "\u{a0}",
        "\u{feff}",
        "null",
        "-1",
        "1e999",
        "$.x",
        "../../etc",
        &longest,
        &longest_but_one,
        &wide,
    ];
    let mut events = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        let tenant_id = TenantId::new(text.chars().take(30).collect::<String>()).ok();
        let details = AccountDetails { tenant_id, ..named(&text.chars().take(60).collect::<String>()) };
        events.push(activity(text, i64::try_from(n).expect("a small number"), details));
    }
    apply(&*index.store, &events).await;
    assert_is_fold_of(&*index.other, &events).await;
    let fold = fold(&events);
    for account in fold.values() {
        let filter = Filter { tenant: account.tenant_id().cloned(), ..Filter::default() };
        check_list(&*index.store, &fold, &Query::IdleSince(Timestamp::MAX), &filter, 1).await;
    }
    assert_eq!(index.store.get(&key("Key")).await.expect("an answer"), None);
}
