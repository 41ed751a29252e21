//! What becomes of a claim: it ends, is renewed, given back, completed; and what holds the account back then.

use std::time::Duration;

use common::event::{AccountDetails, Activity};
use common::index::{Claim, ClaimRequest, Completion, Hold, Schedule};
use jiff::Timestamp;

use super::sample::{
    BRIEF, LONG, account, ago, apply, ask, claim, claim_one, details, event, hydrated, key, keys, worker,
};
use super::{PATIENCE, TestClaims, lists};

fn brief(name: &str) -> ClaimRequest {
    ClaimRequest { lease: BRIEF, ..ask(name, 10) }
}

async fn hold_of(index: &TestClaims, cache_key: &str) -> Option<Hold> {
    let accounts = lists::all_due(index, 10).await;
    let found = accounts.into_iter().find(|due| due.account.cache_key == key(cache_key));
    found.expect("it is due by its record").hold
}

/// To whoever asks, with a higher fence; the account is claimed by one of them.
pub async fn a_lease_that_ended_comes_back_by_itself(index: &TestClaims) {
    apply(index, &[account("a", "t", 60), account("b", "t", 50)]).await;
    let first = claim(&*index.claims, &brief("ada")).await;
    assert_eq!(keys(&first), ["a", "b"]);
    let mut again: Vec<Claim> = Vec::new();
    while again.len() < 2 {
        let more = || async { Some(claim(&*index.other, &ask("bob", 10)).await).filter(|more| !more.is_empty()) };
        again.extend(crate::wait_for(PATIENCE, more).await);
    }
    for (first, again) in first.iter().zip(&again) {
        assert!(ago(0) >= first.lease_until, "not before the lease was over");
        assert!(again.held.fence > first.held.fence && again.attempts == 0);
    }
}

/// Nothing holds it any more by then, so nobody may act on it.
pub async fn a_lease_that_ended_is_lost_though_nobody_took_it(index: &TestClaims) {
    apply(index, &[account("a", "t", 60), account("b", "u", 60)]).await;
    let held: Vec<_> = claim(&*index.claims, &brief("ada")).await.into_iter().map(|claim| claim.held).collect();
    // What was claimed after it, for as short a time, has come back; so has it.
    apply(index, &[account("clock", "clock", 60)]).await;
    let clock = ClaimRequest { tenant: Some(super::sample::tenant("clock")), ..brief("clock") };
    claim_one(&*index.claims, &clock).await;
    let is_back = || async { !claim(&*index.claims, &ClaimRequest { lease: LONG, ..clock.clone() }).await.is_empty() };
    crate::wait_until(PATIENCE, is_back).await;
    assert!(index.claims.renew(&held[0], LONG).await.expect_err("refused").is_lost());
    assert!(index.other.complete(&held[1], &Completion::Settled { next: None }).await.expect_err("refused").is_lost());
    assert_eq!(index.other.release(&held).await.expect("an answer"), 0);
    assert_eq!(claim(&*index.claims, &ask("bob", 10)).await.len(), 2);
}

/// A wrong fence, or another worker's: no renewal, no completion, no release, and the hold is as it was.
pub async fn a_stale_claim_changes_nothing(index: &TestClaims) {
    apply(index, &[account("a", "t", 60)]).await;
    let stale = claim_one(&*index.claims, &ask("ada", 1)).await;
    assert_eq!(index.claims.release(std::slice::from_ref(&stale)).await.expect("an answer"), 1);
    let held = claim_one(&*index.other, &ask("ada", 1)).await;
    assert!(held.fence > stale.fence);
    let other = common::index::HeldClaim { worker: worker("bob"), ..held.clone() };
    let nobody = common::index::HeldClaim { cache_key: key("nobody"), ..held.clone() };
    let before = hold_of(index, "a").await;
    for stale in [&stale, &other, &nobody] {
        let failed = Completion::Failed { not_before: None };
        for outcome in [Completion::Settled { next: None }, failed, Completion::Gone] {
            let error = index.claims.complete(stale, &outcome).await.expect_err("refused");
            assert!(error.is_lost() && !error.is_transient(), "{error}");
        }
        assert!(index.claims.renew(stale, LONG).await.expect_err("refused").is_lost());
        assert_eq!(index.claims.release(std::slice::from_ref(stale)).await.expect("an answer"), 0);
    }
    assert_eq!(hold_of(index, "a").await, before);
    index.claims.renew(&held, LONG).await.expect("it is still held");
    index.claims.complete(&held, &Completion::Settled { next: None }).await.expect("completed");
    assert!(
        index.claims.complete(&held, &Completion::Settled { next: None }).await.expect_err("refused").is_lost(),
        "once"
    );
}

/// From now on, and not from the end of the lease before.
pub async fn a_renewed_claim_is_held_for_another_lease(index: &TestClaims) {
    apply(index, &[account("a", "t", 60), account("clock", "u", 60)]).await;
    let claimed = claim(&*index.claims, &brief("ada")).await;
    let held = claimed.iter().find(|claim| claim.held.cache_key == key("a")).expect("it was due").held.clone();
    let before = ago(0);
    let renewed = index.other.renew(&held, LONG).await.expect("renewed");
    assert!(renewed.lease_until >= before + LONG && renewed.lease_until <= ago(0) + LONG);
    assert_eq!(renewed.paused_until, None);
    let come_back = || async { Some(claim(&*index.other, &ask("bob", 10)).await).filter(|some| !some.is_empty()) };
    assert_eq!(keys(&crate::wait_for(PATIENCE, come_back).await), ["clock"]);
    index.claims.complete(&held, &Completion::Settled { next: None }).await.expect("completed");
}

/// At once, in the order as before.
pub async fn what_is_released_is_claimed_again_in_its_place(index: &TestClaims) {
    apply(index, &[account("a", "t", 90), account("b", "t", 80), account("c", "t", 70)]).await;
    let held: Vec<_> = claim(&*index.claims, &ask("ada", 2)).await.into_iter().map(|claim| claim.held).collect();
    assert_eq!(index.other.release(&held).await.expect("an answer"), 2);
    assert_eq!(index.other.release(&held).await.expect("an answer"), 0);
    assert_eq!(index.other.release(&[]).await.expect("an answer"), 0);
    let again = claim(&*index.claims, &ask("bob", 10)).await;
    assert_eq!(keys(&again), ["a", "b", "c"]);
    assert!(again[0].held.fence > held[0].fence && again[0].attempts == 0);
}

/// Nobody takes it meanwhile; what the index says then decides.
pub async fn a_settled_account_waits_for_the_index(index: &TestClaims) {
    apply(index, &[account("a", "t", 90), account("b", "t", 80)]).await;
    for claim in claim(&*index.claims, &ask("ada", 2)).await {
        let before = ago(0);
        index.claims.complete(&claim.held, &Completion::Settled { next: None }).await.expect("completed");
        let hold = hold_of(index, claim.held.cache_key.as_str()).await.expect("it is held back");
        assert_eq!((hold.worker, hold.attempts), (None, 0));
        assert!(hold.until >= before + Completion::SETTLING && hold.until <= ago(0) + Completion::SETTLING);
    }
    assert_eq!(claim(&*index.claims, &ask("bob", 10)).await, []);
    apply(index, &[hydrated("a", "t", 600)]).await;
    for key in ["a", "b"].map(key) {
        index.claims.forget_hold(&key).await.expect("forgotten");
    }
    assert_eq!(keys(&claim(&*index.claims, &ask("bob", 10)).await), ["b"]);
}

/// Even when nothing holds it back any more; but a job that asks for it need not wait.
pub async fn an_account_is_not_due_while_its_worker_knows_better(index: &TestClaims) {
    apply(index, &[account("a", "t", 90)]).await;
    let held = claim_one(&*index.claims, &ask("ada", 1)).await;
    index.claims.complete(&held, &Completion::Settled { next: Some(ago(-900)) }).await.expect("completed");
    index.claims.forget_hold(&key("a")).await.expect("forgotten");
    assert_eq!(claim(&*index.claims, &ask("bob", 10)).await, []);
    index.claims.schedule(&key("a"), Some(&Schedule::at(ago(1)))).await.expect("scheduled");
    assert_eq!(keys(&claim(&*index.claims, &ask("bob", 10)).await), ["a"]);
}

/// Each time for longer at most, by chance; nobody takes it before, and a success begins anew.
pub async fn a_failed_account_backs_off_and_its_attempts_are_counted(index: &TestClaims) {
    apply(index, &[account("a", "t", 90)]).await;
    for attempts in 0..9 {
        let claimed = claim(&*index.claims, &ask("ada", 1)).await.pop().expect("it is due");
        assert_eq!(claimed.attempts, attempts);
        let before = ago(0);
        index.claims.complete(&claimed.held, &Completion::Failed { not_before: None }).await.expect("completed");
        let hold = hold_of(index, "a").await.expect("it backs off");
        let longest = (Completion::FIRST_BACK_OFF * 2_u32.pow(attempts)).min(Completion::LONGEST_BACK_OFF);
        assert_eq!((hold.worker, hold.attempts), (None, attempts + 1));
        assert!(hold.until >= before && hold.until <= ago(0) + longest, "{} after {attempts}", hold.until);
        // The hold is over; the failures are remembered.
        index.claims.forget_hold(&key("a")).await.expect("forgotten");
    }
    let claimed = claim(&*index.claims, &ask("ada", 1)).await.remove(0);
    assert_eq!(index.claims.release(&[claimed.held]).await.expect("an answer"), 1);
    let claimed = claim(&*index.claims, &ask("ada", 1)).await.remove(0);
    assert_eq!(claimed.attempts, 9, "what is given back undone neither failed nor succeeded");
    index.claims.complete(&claimed.held, &Completion::Settled { next: None }).await.expect("completed");
    assert_eq!(hold_of(index, "a").await.map(|hold| hold.attempts), Some(0));
}

/// However short the time that was drawn.
pub async fn a_failed_account_waits_as_long_as_the_provider_says(index: &TestClaims) {
    apply(index, &[account("a", "t", 90)]).await;
    let held = claim_one(&*index.claims, &ask("ada", 1)).await;
    let not_before: Timestamp = ago(0) + Duration::from_secs(7200);
    let failed = Completion::Failed { not_before: Some(not_before) };
    index.claims.complete(&held, &failed).await.expect("completed");
    let until = hold_of(index, "a").await.expect("it backs off").until;
    assert_eq!(until.as_microsecond(), not_before.as_microsecond());
    assert_eq!(claim(&*index.other, &ask("bob", 1)).await, []);
}

/// Until the index says something else of it.
pub async fn what_is_gone_is_not_claimed_again(index: &TestClaims) {
    apply(index, &[account("a", "t", 90)]).await;
    index.claims.schedule(&key("a"), Some(&Schedule::at(ago(10)))).await.expect("scheduled");
    let held = claim_one(&*index.claims, &ask("ada", 1)).await;
    index.claims.complete(&held, &Completion::Gone).await.expect("completed");
    assert_eq!(claim(&*index.other, &ask("bob", 1)).await, []);
    assert!(index.claims.complete(&held, &Completion::Gone).await.expect_err("refused").is_lost());
    apply(index, &[event("a", ago(0), Activity::UserActivity(details("t", 10)))]).await;
    assert_eq!(keys(&claim(&*index.other, &ask("bob", 1)).await), ["a"]);
}

/// Due earlier, due later, or as it was: it is the worker's.
pub async fn a_hold_stays_when_the_account_is_written_again(index: &TestClaims) {
    apply(index, &[account("a", "t", 90)]).await;
    let held = claim_one(&*index.claims, &ask("ada", 1)).await;
    for overdue in [90, 5_000, 20] {
        let details = AccountDetails { username: None, ..details("t", overdue) };
        apply(index, &[event("a", ago(0), Activity::UserActivity(details))]).await;
        assert_eq!(claim(&*index.other, &ask("bob", 1)).await, []);
        assert_eq!(claim(&*index.claims, &ask("ada", 1)).await, []);
    }
    index.claims.renew(&held, LONG).await.expect("it is still held");
    assert_eq!(index.claims.release(&[held]).await.expect("an answer"), 1);
    assert_eq!(keys(&claim(&*index.other, &ask("bob", 1)).await), ["a"]);
}

/// An operator's word: try again now.
pub async fn a_hold_can_be_forgotten_and_a_claim_cannot(index: &TestClaims) {
    apply(index, &[account("a", "t", 90)]).await;
    index.claims.forget_hold(&key("a")).await.expect("to forget nothing is no error");
    index.claims.forget_hold(&key("nobody")).await.expect("to forget nothing is no error");
    let held = claim_one(&*index.claims, &ask("ada", 1)).await;
    index.claims.forget_hold(&key("a")).await.expect("an answer");
    assert_eq!(claim(&*index.other, &ask("bob", 1)).await, []);
    let failed = Completion::Failed { not_before: Some(ago(0) + LONG) };
    index.claims.complete(&held, &failed).await.expect("completed");
    assert_eq!(claim(&*index.other, &ask("bob", 1)).await, []);
    index.claims.forget_hold(&key("a")).await.expect("forgotten");
    assert_eq!(keys(&claim(&*index.other, &ask("bob", 1)).await), ["a"]);
}

/// Whoever had it has lost it; the record alone decides.
pub async fn what_is_forgotten_is_as_if_it_had_never_been_claimed(index: &TestClaims) {
    apply(index, &[account("a", "t", 90), account("later", "t", -3600)]).await;
    index.claims.schedule(&key("later"), Some(&Schedule::at(ago(10)))).await.expect("scheduled");
    let held = claim_one(&*index.claims, &ask("ada", 1)).await;
    index.claims.complete(&held, &Completion::Failed { not_before: None }).await.expect("completed");
    index.claims.forget_hold(&held.cache_key).await.expect("forgotten");
    let held = claim_one(&*index.claims, &ask("ada", 1)).await;
    for name in ["a", "later", "nobody"].map(key) {
        index.other.forget(&name).await.expect("forgotten");
    }
    assert!(index.claims.renew(&held, LONG).await.expect_err("refused").is_lost());
    let claimed = claim(&*index.claims, &ask("bob", 10)).await;
    assert_eq!((keys(&claimed), claimed[0].attempts), (vec!["a"], 0));
}
