//! Who is due: the list for an operator.

use std::collections::HashSet;

use common::account::CacheKey;
use common::index::{AccountActivity, ClaimError, Completion, Cursor, DueAccount, DueReason, DueRequest, Schedule};
use jiff::Timestamp;

use super::TestClaims;
use super::sample::{account, account_of_app, ago, apply, ask, claim, client, hydrated, key, removed, tenant};

fn until_now(limit: usize) -> DueRequest {
    DueRequest { until: Timestamp::now(), tenant: None, client: None, limit, cursor: None }
}

/// All accounts that are due now, page by page.
pub(super) async fn all_due(index: &TestClaims, limit: usize) -> Vec<DueAccount> {
    all(index, until_now(limit)).await
}

async fn all(index: &TestClaims, mut request: DueRequest) -> Vec<DueAccount> {
    let mut accounts = Vec::new();
    loop {
        let page = index.other.due(&request).await.expect("a page");
        assert!(page.accounts.len() <= request.limit);
        accounts.extend(page.accounts);
        request.cursor = page.next.map(|next| next.to_string().parse::<Cursor>().expect("a cursor"));
        if request.cursor.is_none() {
            return accounts;
        }
    }
}

fn due_keys(due: &[DueAccount]) -> Vec<&str> {
    due.iter().map(|due| due.account.cache_key.as_str()).collect()
}

/// Claimed or not, over all tenants, the most overdue first.
pub async fn due_accounts_are_listed_once_whatever_the_page_size(index: &TestClaims) {
    let overdue = |n: i64| 100 + (n * 37) % 60;
    let mut accounts: Vec<AccountActivity> =
        (0..60).map(|n| account(&format!("key {n}"), &format!("t{}", n % 7), overdue(n))).collect();
    accounts.extend([account("later", "t1", -600), account("gone", "t1", 90), removed("gone")]);
    accounts.extend((0..40).map(|n| account(&format!("at once {n}"), "t2", 90)));
    apply(index, &accounts).await;
    index.claims.schedule(&key("later"), Some(&Schedule::at(ago(30)))).await.expect("scheduled");
    index.claims.schedule(&key("key 1"), Some(&Schedule::at(ago(500)))).await.expect("scheduled");
    claim(&*index.claims, &ask("ada", 20)).await;
    let mut order: Vec<(i64, String)> =
        (0..60).filter(|n| *n != 1).map(|n| (-overdue(n), format!("key {n}"))).collect();
    order.sort_unstable();
    let mut expected: Vec<&str> = vec!["key 1"];
    expected.extend(order.iter().map(|(_, key)| key.as_str()));
    for limit in [1, 7, 1_000] {
        let due = all_due(index, limit).await;
        let all_keys: HashSet<&str> = due_keys(&due).into_iter().collect();
        assert_eq!((due.len(), all_keys.len()), (101, 101), "{limit} to a page");
        assert_eq!(due_keys(&due)[..60], expected, "{limit} to a page");
        assert_eq!(due[100].account.cache_key, key("later"));
        assert!(due.is_sorted_by_key(|due| due.due.at), "the most overdue first");
        assert_eq!((due[0].due.reason, due[1].due.reason), (DueReason::Scheduled, DueReason::AccessTokenExpires));
        assert_eq!(due.iter().filter(|due| due.hold.is_some()).count(), 20);
    }
    for limit in [0, DueRequest::MAX_LIMIT + 1] {
        let error = index.claims.due(&until_now(limit)).await.expect_err("refused");
        assert!(matches!(error, ClaimError::Limit { given, most: 1_000 } if given == limit), "{error}");
    }
}

/// And by time.
pub async fn due_accounts_are_narrowed_by_tenant_and_client(index: &TestClaims) {
    let accounts = [
        account_of_app("one a", "one", "a", 90),
        account_of_app("one b", "one", "b", 80),
        account_of_app("two a", "two", "a", 70),
        account_of_app("one a later", "one", "a", -600),
    ];
    apply(index, &accounts).await;
    let narrowed = |of: Option<&str>, app: Option<&str>, until: i64| DueRequest {
        until: ago(-until),
        tenant: of.map(tenant),
        client: app.map(client),
        ..until_now(10)
    };
    for (request, expected) in [
        (narrowed(Some("one"), None, 0), &["one a", "one b"][..]),
        (narrowed(None, Some("a"), 0), &["one a", "two a"]),
        (narrowed(Some("one"), Some("a"), 0), &["one a"]),
        (narrowed(Some("one"), Some("a"), 900), &["one a", "one a later"]),
        (narrowed(None, None, -75), &["one a", "one b"]),
        (narrowed(Some("three"), None, 900), &[]),
    ] {
        assert_eq!(due_keys(&all(index, request.clone()).await), expected, "{request:?}");
        claim(&*index.claims, &ask("ada", 1)).await;
    }
}

/// And until when, and how often it failed.
pub async fn who_holds_a_due_account_is_told(index: &TestClaims) {
    apply(index, &[account("a", "t", 90), account("b", "t", 80), account("c", "t", 70), account("d", "t", 60)]).await;
    let claimed = claim(&*index.claims, &ask("ada", 3)).await;
    let failed = Completion::Failed { not_before: Some(ago(-900)) };
    index.claims.complete(&claimed[0].held, &failed).await.expect("completed");
    index.claims.release(&[claimed[1].held.clone()]).await.expect("released");
    let due = all_due(index, 10).await;
    assert_eq!(due_keys(&due), ["a", "b", "c", "d"]);
    let hold =
        |n: usize| due[n].hold.as_ref().map(|hold| (hold.worker.as_ref().map(|name| name.as_str()), hold.attempts));
    assert_eq!([hold(0), hold(1), hold(2), hold(3)], [Some((None, 1)), None, Some((Some("ada"), 0)), None]);
    assert_eq!(due[2].hold.as_ref().map(|hold| hold.until), Some(claimed[2].lease_until));
    assert_eq!(due[2].account, claimed[2].account);
}

/// Who is there all the time is seen once.
pub async fn a_page_of_due_accounts_goes_on_while_they_change(index: &TestClaims) {
    let accounts: Vec<AccountActivity> =
        (0..200).map(|n| account(&format!("key {n}"), &format!("t{}", n % 3), 1_000 - n)).collect();
    apply(index, &accounts).await;
    let mut request = until_now(20);
    let mut seen: Vec<CacheKey> = Vec::new();
    for round in 0.. {
        let page = index.other.due(&request).await.expect("a page");
        seen.extend(page.accounts.into_iter().map(|due| due.account.cache_key));
        let Some(next) = page.next else { break };
        request.cursor = Some(next);
        // Some are claimed, some hydrated, some new: none of these may hide one that stays.
        let claimed = claim(&*index.claims, &ask("ada", 5)).await;
        index.claims.complete(&claimed[0].held, &Completion::Settled { next: None }).await.expect("completed");
        index.claims.release(&[claimed[1].held.clone()]).await.expect("released");
        apply(index, &[hydrated(&format!("key {}", 199 - round), "t0", 600)]).await;
        apply(index, &[account(&format!("new {round}"), "t1", 1_000)]).await;
    }
    let once: HashSet<&CacheKey> = seen.iter().collect();
    assert_eq!(seen.len(), once.len(), "none is seen twice");
    let missed: Vec<String> = (0..180).map(|n| format!("key {n}")).filter(|name| !once.contains(&key(name))).collect();
    assert_eq!(missed, Vec::<String>::new());
}
