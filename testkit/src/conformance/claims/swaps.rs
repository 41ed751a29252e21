//! Claims are of no generation of the index.

use std::collections::{BTreeMap, HashSet};

use common::index::{AccountActivity, Completion, Generations, Schedule};
use jiff::Timestamp;

use super::TestClaims;
use super::sample::{LONG, account, ago, apply, ask, claim, key, keys};

async fn change(index: &TestClaims, how: impl Fn(&Generations) -> Generations) -> Generations {
    let from = index.generations.generations().await.expect("generations");
    let to = how(&from);
    assert!(index.generations.change(&from, &to).await.expect("a change"));
    to
}

/// Makes a new generation of these accounts and swaps it in; the one before the last is deleted.
async fn swap(index: &TestClaims, accounts: &[AccountActivity]) {
    let to = change(index, |from| from.begun("somebody", BTreeMap::new(), Timestamp::UNIX_EPOCH)).await;
    let number = to.building.expect("one that is made").number;
    index.generations.generation(number).apply(accounts).await.expect("applied");
    let to = change(index, Generations::swapped).await;
    for old in to.dropping {
        index.generations.delete(old).await.expect("deleted");
        change(index, |from| from.deleted(old)).await;
    }
}

/// Claimed, backing off, scheduled, paused: all that is as it was, by either handle.
pub async fn leases_outlast_a_swap_of_generations(index: &TestClaims) {
    let accounts: Vec<AccountActivity> =
        (0..4).map(|n| account(&format!("key {n}"), "t", 100 - n)).chain([account("later", "t", -3600)]).collect();
    apply(index, &accounts).await;
    let held: Vec<_> = claim(&*index.other, &ask("ada", 3)).await.into_iter().map(|claim| claim.held).collect();
    let failed = Completion::Failed { not_before: Some(ago(0) + LONG) };
    index.other.complete(&held[0], &failed).await.expect("completed");
    index.other.schedule(&key("later"), Some(&Schedule::at(ago(30)))).await.expect("scheduled");
    for _ in 0..3 {
        swap(index, &accounts).await;
        index.other.renew(&held[1], LONG).await.expect("still held");
    }
    assert_eq!(keys(&claim(&*index.claims, &ask("bob", 10)).await), ["key 3", "later"]);
    index.other.complete(&held[1], &Completion::Settled { next: None }).await.expect("completed");
    assert_eq!(index.other.release(&held[2..]).await.expect("an answer"), 1);
    index.other.forget_hold(&key("key 0")).await.expect("forgotten");
    assert_eq!(keys(&claim(&*index.claims, &ask("bob", 10)).await), ["key 0", "key 2"]);
}

/// Workers claim while generations are swapped beneath them.
pub async fn claims_around_swaps_are_never_doubled(index: &TestClaims) {
    let accounts: Vec<AccountActivity> =
        (0..600).map(|n| account(&format!("key {n}"), &format!("t{}", n % 5), 60)).collect();
    apply(index, &accounts).await;
    let swaps = async {
        for _ in 0..6 {
            swap(index, &accounts).await;
        }
    };
    let work = |name: &'static str, other: bool| async move {
        let claims = if other { &index.other } else { &index.claims };
        let mut mine = Vec::new();
        while let claimed = claim(&**claims, &ask(name, 20)).await
            && !claimed.is_empty()
        {
            mine.extend(claimed.into_iter().map(|claim| claim.held.cache_key));
        }
        mine
    };
    let ((), ada, bob) = futures_util::future::join3(swaps, work("ada", false), work("bob", true)).await;
    let mut all: Vec<_> = ada.into_iter().chain(bob).collect();
    all.extend(claim(&*index.claims, &ask("eve", 1_000)).await.into_iter().map(|claim| claim.held.cache_key));
    let accounts: HashSet<_> = all.iter().collect();
    assert_eq!((all.len(), accounts.len()), (600, 600), "each once, and none is lost");
}
