//! Taking accounts: who is due, in which order, and each for one worker.

use std::collections::HashSet;
use std::time::Duration;

use common::event::FailureReason;
use common::index::{AccountActivity, ClaimError, ClaimRequest, DueReason};
use futures_util::future::join_all;

use super::TestClaims;
use super::sample::{
    LONG, account, account_of_app, ago, apply, ask, claim, claim_one, client, failed, hydrated, keys, removed, tenant,
};

/// And asking is no error.
pub async fn nothing_is_claimed_of_an_empty_index(index: &TestClaims) {
    assert_eq!(claim(&*index.claims, &ask("ada", 10)).await, []);
}

/// All a worker needs to begin is in the claim.
pub async fn what_is_due_is_claimed_and_says_why(index: &TestClaims) {
    let due = account("a", "t", 60);
    apply(index, std::slice::from_ref(&due)).await;
    let before = ago(0);
    let claimed = claim(&*index.claims, &ask("ada", 10)).await;
    assert_eq!(claimed.len(), 1);
    let claimed = &claimed[0];
    assert_eq!((&claimed.account, claimed.attempts), (&due, 0));
    assert_eq!((claimed.held.worker.as_str(), &claimed.held.cache_key), ("ada", &due.cache_key));
    assert_eq!(claimed.due.reason, DueReason::AccessTokenExpires);
    assert!(claimed.due.at < before && claimed.due.at >= ago(120));
    assert!(claimed.lease_until >= before + LONG && claimed.lease_until <= ago(0) + LONG);
}

/// Whatever the order they were written in.
pub async fn the_most_overdue_is_claimed_first(index: &TestClaims) {
    let accounts: Vec<AccountActivity> =
        (0..20).map(|n| account(&format!("key {n}"), "t", 100 + (n * 7) % 20)).collect();
    apply(index, &accounts).await;
    let mut expected: Vec<(i64, String)> = (0..20).map(|n| (-(100 + (n * 7) % 20), format!("key {n}"))).collect();
    expected.sort_unstable();
    let expected: Vec<&str> = expected.iter().map(|(_, key)| key.as_str()).collect();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let claimed = claim(&*index.claims, &ask("ada", 5)).await;
        seen.extend(keys(&claimed).into_iter().map(str::to_owned));
    }
    assert_eq!(seen, expected);
}

/// Many workers at once, until nothing is left: each account once. Fences are of one account: shards may give out the same.
pub async fn no_account_is_two_workers_at_a_time(index: &TestClaims) {
    const ACCOUNTS: usize = 2_000;
    const WORKERS: usize = 16;
    let accounts: Vec<AccountActivity> =
        (0..ACCOUNTS).map(|n| account(&format!("key {n}"), &format!("t{}", n % 7), 60)).collect();
    apply(index, &accounts).await;
    let work = (0..WORKERS).map(|number| async move {
        let claims = if number % 2 == 0 { &index.claims } else { &index.other };
        let mut mine = Vec::new();
        loop {
            let claimed = claim(&**claims, &ask(&format!("worker {number}"), 1 + number * 5)).await;
            if claimed.is_empty() {
                return mine;
            }
            mine.extend(claimed.into_iter().map(|claim| claim.held));
        }
    });
    let all: Vec<_> = join_all(work).await.into_iter().flatten().collect();
    let accounts: HashSet<_> = all.iter().map(|held| &held.cache_key).collect();
    assert_eq!((all.len(), accounts.len()), (ACCOUNTS, ACCOUNTS));
}

/// Not yet, not any more, not before its user comes, not before its back-off is over.
pub async fn who_is_not_due_is_not_claimed(index: &TestClaims) {
    let waiting = ["parked", "removed", "backing off"].map(|key| account(key, "t", 60));
    apply(index, &waiting).await;
    let nothing = hydrated("only hydrated", "t", -60);
    apply(index, &[account("later", "t", -600), nothing, failed("nobody", FailureReason::Throttled)]).await;
    let unavailable = failed("backing off", FailureReason::IdentityProviderUnavailable);
    apply(index, &[failed("parked", FailureReason::Revoked), removed("removed"), unavailable]).await;
    assert_eq!(claim(&*index.claims, &ask("ada", 10)).await, []);
}

/// Whatever else is due, and more overdue.
pub async fn a_filter_takes_its_tenant_and_its_app_alone(index: &TestClaims) {
    let accounts = [
        account_of_app("one a", "one", "a", 90),
        account_of_app("one b", "one", "b", 80),
        account_of_app("two a", "two", "a", 70),
        account_of_app("two b", "two", "b", 60),
    ];
    apply(index, &accounts).await;
    let one_b = ClaimRequest { tenant: Some(tenant("one")), client: Some(client("b")), ..ask("ada", 10) };
    assert_eq!(keys(&claim(&*index.claims, &one_b).await), ["one b"]);
    let b = ClaimRequest { client: Some(client("b")), ..ask("ada", 10) };
    assert_eq!(keys(&claim(&*index.claims, &b).await), ["two b"]);
    let two = ClaimRequest { tenant: Some(tenant("two")), ..ask("ada", 10) };
    assert_eq!(keys(&claim(&*index.claims, &two).await), ["two a"]);
    let nobody = ClaimRequest { tenant: Some(tenant("three")), ..ask("ada", 10) };
    assert_eq!(claim(&*index.claims, &nobody).await, []);
    assert_eq!(keys(&claim(&*index.claims, &ask("ada", 10)).await), ["one a"]);
}

/// Its worker asks again and again; each call looks at a bounded number of accounts, and comes to them all the same.
pub async fn an_app_of_few_accounts_is_served_behind_another_of_many(index: &TestClaims) {
    let many = (0..5_000).map(|n| account_of_app(&format!("key {n}"), "t", "many", 1_000));
    let few = (0..3).map(|n| account_of_app(&format!("few {n}"), "t", "few", 60));
    apply(index, &many.chain(few).collect::<Vec<_>>()).await;
    let request = ClaimRequest { client: Some(client("few")), ..ask("ada", 10) };
    let mut seen = HashSet::new();
    for _ in 0..200 {
        seen.extend(claim(&*index.claims, &request).await.into_iter().map(|claim| claim.held.cache_key));
        if seen.len() == 3 {
            break;
        }
    }
    assert_eq!(seen.len(), 3);
    let rest = claim(&*index.other, &ask("bob", 1_000)).await;
    assert_eq!(rest.len(), 1_000, "looking at the others' accounts kept nobody from claiming them");
}

/// With what is right in the error.
pub async fn limits_and_leases_out_of_bounds_are_refused(index: &TestClaims) {
    apply(index, &[account("a", "t", 60)]).await;
    for limit in [0, ClaimRequest::MAX_LIMIT + 1] {
        let error = index.claims.claim(&ask("ada", limit)).await.expect_err("refused");
        assert!(matches!(error, ClaimError::Limit { given, most: 1_000 } if given == limit), "{error}");
        assert!(!error.is_transient());
    }
    let leases = [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(3601), Duration::MAX];
    for lease in leases {
        let error = index.claims.claim(&ClaimRequest { lease, ..ask("ada", 1) }).await.expect_err("refused");
        assert!(matches!(error, ClaimError::Lease { given } if given == lease), "{error}");
    }
    let held = claim_one(&*index.claims, &ask("ada", 1)).await;
    for lease in leases {
        let error = index.claims.renew(&held, lease).await.expect_err("refused");
        assert!(matches!(error, ClaimError::Lease { .. }), "{error}");
    }
    index.claims.renew(&held, LONG).await.expect("it is still held");
}
