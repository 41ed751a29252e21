//! Tenants side by side: served in turn, left alone, at a rate.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use common::index::{AccountActivity, Claim, ClaimRates, ClaimRequest, HeldClaim};

use super::sample::{LONG, account, ago, apply, ask, claim, claim_one, key, keys, tenant};
use super::{PATIENCE, TestClaims};

fn tenant_of(claim: &Claim) -> String {
    claim.account.tenant_id().expect("a tenant").to_string()
}

/// One tenant has nine of ten accounts, and the most overdue ones: none of the others waits for more than twice its
/// fair share of the claims.
pub async fn small_tenants_are_served_in_turn(index: &TestClaims) {
    const SMALL: usize = 9;
    const OF_SMALL: usize = 20;
    let big = (0..SMALL * OF_SMALL * 9).map(|n| account(&format!("big {n}"), "big", 1_000));
    let small = (0..SMALL * OF_SMALL).map(|n| account(&format!("small {n}"), &format!("small {}", n % SMALL), 60));
    apply(index, &big.chain(small).collect::<Vec<AccountActivity>>()).await;
    let mut claims = 0;
    let mut last: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    // Sizes that do not divide the number of tenants.
    for limit in [1, 7, 3, 16, 4].into_iter().cycle() {
        if last.iter().filter(|(tenant, _)| tenant.as_str() != "big").all(|(_, (count, _))| *count == OF_SMALL)
            && last.len() == SMALL + 1
        {
            break;
        }
        let claimed = claim(&*index.claims, &ask("ada", limit)).await;
        assert_eq!(claimed.len(), limit, "the big tenant has enough for all");
        for claim in &claimed {
            claims += 1;
            let (count, at) = last.entry(tenant_of(claim)).or_default();
            assert!(claims - *at <= 2 * (SMALL + 1), "{} waited from {at} to {claims}", tenant_of(claim));
            (*count, *at) = (*count + 1, claims);
        }
    }
    assert!(claims <= 2 * OF_SMALL * (SMALL + 1), "all small tenants were through after {claims} claims");
}

/// Whoever holds a claim of it is told; a pause is never made shorter, and it ends.
pub async fn a_paused_tenant_is_left_alone_and_the_others_are_served(index: &TestClaims) {
    let accounts = [account("a 1", "a", 90), account("a 2", "a", 80), account("b 1", "b", 70), account("b 2", "b", 60)];
    apply(index, &accounts).await;
    let only = |name: &str| ClaimRequest { tenant: Some(tenant(name)), ..ask("ada", 1) };
    let (a, b) = (claim_one(&*index.claims, &only("a")).await, claim_one(&*index.claims, &only("b")).await);
    let until = ago(0) + Duration::from_secs(2);
    index.other.pause(&tenant("a"), until).await.expect("paused");
    index.other.pause(&tenant("a"), ago(-1)).await.expect("an answer");
    index.other.pause(&tenant("b"), ago(60)).await.expect("an answer");
    let renewed = index.claims.renew(&a, LONG).await.expect("renewed");
    assert_eq!(renewed.paused_until.map(|time| time.as_microsecond()), Some(until.as_microsecond()));
    assert_eq!(index.claims.renew(&b, LONG).await.expect("renewed").paused_until, None);
    let other = |held: &HeldClaim, one, two| if held.cache_key == key(one) { two } else { one };
    assert_eq!(keys(&claim(&*index.claims, &ask("ada", 10)).await), [other(&b, "b 1", "b 2")]);
    assert_eq!(claim(&*index.claims, &only("a")).await, []);
    let come_back = || async { Some(claim(&*index.claims, &ask("ada", 10)).await).filter(|some| !some.is_empty()) };
    assert_eq!(keys(&crate::wait_for(PATIENCE, come_back).await), [other(&a, "a 1", "a 2")]);
    assert!(ago(0) >= until);
    assert_eq!(index.claims.renew(&a, LONG).await.expect("renewed").paused_until, None);
}

/// Of one tenant, and of all together; what is not claimed in time does not add up.
pub async fn claims_are_given_out_at_the_rate_that_is_asked_for(index: &TestClaims) {
    let accounts: Vec<AccountActivity> =
        (0..400).map(|n| account(&format!("key {n}"), &format!("t{}", n % 4), 60)).collect();
    apply(index, &accounts).await;
    let rates =
        |per_tenant, overall| ClaimRates { per_tenant: NonZeroU32::new(per_tenant), overall: NonZeroU32::new(overall) };
    let of_tenants = ClaimRequest { rates: rates(120, 0), ..ask("ada", 100) };
    let first = claim(&*index.claims, &of_tenants).await;
    assert_eq!(first.len(), 8, "two of each, a second's worth");
    let begun = ago(0);
    let mut count = 0;
    let more = claim(&*index.other, &of_tenants).await;
    count += more.len();
    while count < 8 {
        let more = || async { Some(claim(&*index.other, &of_tenants).await).filter(|more| !more.is_empty()) };
        count += crate::wait_for(PATIENCE, more).await.len();
    }
    assert!(ago(0).duration_since(begun) >= jiff::SignedDuration::from_millis(400), "{count} more since {begun}");
    // The rate of all comes on top of that of the tenants, which is spent.
    let of_all = ClaimRequest { rates: rates(0, 60), ..ask("ada", 100) };
    assert_eq!(claim(&*index.claims, &of_all).await.len(), 1);
    assert_eq!(claim(&*index.other, &of_all).await.len(), 0);
    assert_eq!(claim(&*index.other, &ask("ada", 100)).await.len(), 100, "who asks for no rate has none");
}
