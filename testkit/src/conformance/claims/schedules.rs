//! What jobs ask for.

use common::event::{Activity, FailureReason};
use common::index::{Completion, Due, DueReason, DueRequest, HeldClaim, JobReason, Schedule};

use super::sample::{account, ago, apply, ask, claim, claim_one, details, event, failed, key, keys, removed};
use super::{PATIENCE, TestClaims};

/// Earlier than it would be; once; and at the last time that was asked for.
pub async fn a_job_makes_an_account_due(index: &TestClaims) {
    apply(index, &[account("a", "t", -3600), account("b", "t", -3600), account("c", "t", 60)]).await;
    index.claims.schedule(&key("a"), Some(&Schedule::at(ago(-3000)))).await.expect("scheduled");
    index.claims.schedule(&key("b"), Some(&Schedule::at(ago(30)))).await.expect("scheduled");
    index.claims.schedule(&key("c"), Some(&Schedule::at(ago(-3000)))).await.expect("scheduled");
    let claimed = claim(&*index.other, &ask("ada", 10)).await;
    assert_eq!(keys(&claimed), ["c", "b"], "a schedule makes nobody due later");
    assert_eq!(claimed[1].due.reason, DueReason::Scheduled);
    assert!(claimed[1].due.at <= ago(29) && claimed[1].due.at >= ago(60));
    index.claims.schedule(&key("a"), Some(&Schedule::at(ago(0)))).await.expect("scheduled");
    let a = claim_one(&*index.other, &ask("ada", 10)).await;
    assert_eq!(a.cache_key, key("a"));
    index.claims.release(std::slice::from_ref(&a)).await.expect("released");
    let a = claim_one(&*index.other, &ask("ada", 10)).await;
    index.claims.complete(&a, &Completion::Settled { next: None }).await.expect("completed");
    index.claims.forget_hold(&a.cache_key).await.expect("forgotten");
    assert_eq!(claim(&*index.claims, &ask("ada", 10)).await, [], "the job has what it asked for");
}

/// Shown with what is due and claimed for it, and kept where the time is set again without one; not after it was taken
/// back.
pub async fn why_a_job_asks_is_told(index: &TestClaims) {
    apply(index, &[account("a", "t", -3600), account("b", "t", 60)]).await;
    let reason: JobReason = "nightly export: Köln, \"A\"".parse().expect("a reason");
    for name in ["a", "b"] {
        let schedule = Schedule { at: ago(30), reason: Some(reason.clone()) };
        index.claims.schedule(&key(name), Some(&schedule)).await.expect("scheduled");
    }
    index.other.schedule(&key("a"), Some(&Schedule::at(ago(20)))).await.expect("scheduled");
    let told = |due: Vec<Due>| -> Vec<_> { due.into_iter().map(|due| (due.reason, due.scheduled_for)).collect() };
    let expected = [(DueReason::AccessTokenExpires, None), (DueReason::Scheduled, Some(reason))];
    let request = DueRequest { until: ago(0), tenant: None, client: None, limit: 10, cursor: None };
    let page = index.other.due(&request).await.expect("a page").accounts;
    assert_eq!(told(page.into_iter().map(|account| account.due).collect()), expected);
    let claimed = claim(&*index.other, &ask("ada", 10)).await;
    assert_eq!(told(claimed.iter().map(|claim| claim.due.clone()).collect()), expected);
    let held: Vec<HeldClaim> = claimed.into_iter().map(|claim| claim.held).collect();
    index.claims.release(&held).await.expect("released");
    index.claims.schedule(&key("a"), None).await.expect("taken back");
    index.claims.schedule(&key("a"), Some(&Schedule::at(ago(20)))).await.expect("scheduled");
    let claimed = claim(&*index.claims, &ask("ada", 10)).await;
    assert_eq!(told(claimed.into_iter().map(|claim| claim.due).collect())[1], (DueReason::Scheduled, None));
}

/// And to take back what there is not is no error.
pub async fn a_schedule_that_is_taken_back_is_none(index: &TestClaims) {
    apply(index, &[account("a", "t", -3600)]).await;
    index.claims.schedule(&key("a"), None).await.expect("nothing to take back");
    index.claims.schedule(&key("a"), Some(&Schedule::at(ago(30)))).await.expect("scheduled");
    index.other.schedule(&key("a"), None).await.expect("taken back");
    assert_eq!(claim(&*index.claims, &ask("ada", 10)).await, []);
}

/// Who needs the user is not claimed for a job; when the user has come, the job's time still counts.
pub async fn a_schedule_waits_with_the_account_for_its_user(index: &TestClaims) {
    apply(index, &[account("a", "t", -3600), failed("a", FailureReason::Revoked)]).await;
    index.claims.schedule(&key("a"), Some(&Schedule::at(ago(30)))).await.expect("scheduled");
    for _ in 0..2 {
        assert_eq!(claim(&*index.claims, &ask("ada", 10)).await, []);
    }
    apply(index, &[event("a", ago(0), Activity::UserActivity(details("t", -3600)))]).await;
    index.claims.schedule(&key("a"), Some(&Schedule::at(ago(20)))).await.expect("scheduled");
    let is_claimed = || async { Some(claim(&*index.claims, &ask("ada", 10)).await).filter(|some| !some.is_empty()) };
    assert_eq!(keys(&crate::wait_for(PATIENCE, is_claimed).await), ["a"]);
}

/// Removed, or never known: nothing is claimed, and nothing is left that is looked at for ever.
pub async fn a_schedule_of_nobody_is_dropped(index: &TestClaims) {
    apply(index, &[account("a", "t", -3600), removed("a")]).await;
    for nobody in ["a", "nobody"].map(key) {
        index.claims.schedule(&nobody, Some(&Schedule::at(ago(30)))).await.expect("scheduled");
        assert_eq!(claim(&*index.claims, &ask("ada", 10)).await, []);
    }
    let back = ["a", "nobody"].map(|key| event(key, ago(0), Activity::UserActivity(details("t", -3600))));
    apply(index, &back).await;
    assert_eq!(claim(&*index.claims, &ask("ada", 10)).await, [], "what was asked for before is forgotten");
}
