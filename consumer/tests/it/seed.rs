//! The index is filled up from the token caches where the log is silent.

use std::sync::Arc;

use common::account::CacheKey;
use common::event::UsernamePolicy;
use common::index::{AccountActivity, AccountState, Filter, ListRequest, Query, Seed};
use common::token_cache::{CacheWrite, Precondition, SqliteTokenCache, SqliteTokenCacheOptions, TokenCacheStore as _};
use consumer::seed::{SeedReport, Seeding};
use consumer::verify::{Verify, VerifySettings};
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::program::Servers;
use crate::rebuild::{differences, rebuild_of};
use crate::rig::{Rig, random_events, settings};

/// A cache of a user, as MSAL writes it.
fn blob(user: &str) -> Vec<u8> {
    let home = format!("{user}.tenant");
    let token = json!({
        "home_account_id": home, "environment": "login.microsoftonline.com", "client_id": "client",
        "secret": "fake-refresh-token", "credential_type": "RefreshToken",
    });
    let account = json!({
        "home_account_id": home, "environment": "login.microsoftonline.com", "realm": "tenant",
        "local_account_id": user, "username": format!("{user}@contoso.com"), "authority_type": "MSSTS",
    });
    let key = format!("{home}-login.microsoftonline.com");
    let blob = json!({ "Account": { format!("{key}-tenant"): account }, "RefreshToken": { format!("{key}-refreshtoken-client--"): token } });
    blob.to_string().into_bytes()
}

fn key(user: &str) -> CacheKey {
    CacheKey::new(format!("{user}.tenant")).unwrap()
}

/// Caches of these users beside the rig's log and index.
pub(crate) async fn caches(rig: &Rig, users: &[&str]) -> SqliteTokenCache {
    let cache = SqliteTokenCache::open(rig.database(), SqliteTokenCacheOptions::default()).await.unwrap();
    for user in users {
        write(&cache, &key(user), &blob(user)).await;
    }
    cache
}

async fn write(cache: &SqliteTokenCache, key: &CacheKey, blob: &[u8]) {
    let (expiry, precondition) = (Default::default(), Precondition::None);
    cache.write(CacheWrite { key, blob, expiry, precondition, event: None, fence: None }).await.unwrap();
}

fn seeding(cache: &SqliteTokenCache) -> Seeding {
    Seeding::new(Arc::new(cache.clone()), None, UsernamePolicy::Plain)
}

async fn seed(rig: &Rig, cache: &SqliteTokenCache) -> SeedReport {
    seeding(cache).run(&*rig.store, &|_| {}).await.unwrap()
}

async fn listed(rig: &Rig) -> Vec<AccountActivity> {
    let query = Query::IdleSince(Timestamp::MAX);
    let request = ListRequest { query, filter: Filter::default(), limit: 1_000, cursor: None };
    rig.store.list(&request).await.unwrap().accounts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_cache_and_no_event_is_listed_as_the_longest_idle() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(50, 10, 150), 150).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    let known = listed(&rig).await[0].clone();
    let cache = caches(&rig, &["new", "other"]).await;
    write(&cache, &known.cache_key, &blob("user-1")).await;
    write(&cache, &key("garbage"), b"not json").await;
    write(&cache, &key("empty"), b"{}").await;
    for _ in 0..2 {
        let report = seed(&rig, &cache).await;
        let expected = SeedReport { caches: 5, seeded: 2, known: 1, removed: 0, of_nobody: 1, unreadable: 1 };
        assert_eq!(report, expected);
    }
    let account = rig.store.get(&key("new")).await.unwrap().unwrap();
    assert!(Seed::is_in(&account) && account.state() == AccountState::Ready);
    assert_eq!(account.details.unwrap().value.username.unwrap().as_str(), "new@contoso.com");
    assert!(listed(&rig).await[..2].iter().all(Seed::is_in), "nobody knows when they were here");
    assert_eq!(rig.store.get(&known.cache_key).await.unwrap().as_ref(), Some(&known));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_beats_a_seed_whichever_comes_first() {
    let rig = Rig::embedded(1).await;
    let events = random_events(200, 20, 151);
    let users: Vec<String> = (0..20).map(|user| format!("user-{user}")).collect();
    let cache = caches(&rig, &users.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(seed(&rig, &cache).await.seeded, 20);
    rig.append_shuffled(&events, 151).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    let report = seed(&rig, &cache).await;
    assert_eq!((report.caches, report.seeded + report.known + report.removed), (20, 20), "{report:?}");
    let fold = common::index::fold(&events);
    for account in rig.live().await.scan(None, 100).await.unwrap().accounts {
        let Some(said) = fold.get(&account.cache_key) else { continue };
        let is_removed = said.removed_at.is_some() && !said.is_listed();
        assert!(!(is_removed && account.is_listed()), "what was removed stays removed");
        if said.last_activity.is_some() {
            assert_eq!(account.last_activity, said.last_activity);
        }
    }
    assert_eq!(differences(&rig).await, 0, "what was seeded is no difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_fills_the_index_up_and_passes_a_gap() {
    let rig = Rig::embedded(1).await;
    caches(&rig, &["one", "two"]).await;
    rig.append_shuffled(&random_events(50, 10, 152), 152).await;
    rig.store.store_checkpoint(0, common::index::Checkpoint::at(1)).await.unwrap();
    rig.cut_log().await;
    let url = rig.url();
    let servers = Servers { log: Some(url.clone()), index: Some(url.clone()), ..Servers::default() };
    let output = servers.command(&["seed", "--json"]).env("TOKEN_CACHE_URL", &url).output().await.unwrap();
    let said = crate::program::text(&output.stdout);
    assert!(output.status.success(), "{}", crate::program::text(&output.stderr));
    let report: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&report["seeded"], &report["gaps_accepted"]), (&json!(2), &json!([0])));
    let projector = rig.projector(settings());
    rig.append_shuffled(&random_events(50, 10, 153), 153).await;
    rig.projected().await;
    projector.stop().await;
    assert_eq!(differences(&rig).await, 0);
    let account = servers.json(&["account", "show", "one.tenant", "--json"]).await;
    assert_eq!((&account["is_seeded"], &account["last_activity"]), (&json!(true), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_with_seeds_keeps_those_the_log_has_forgotten() {
    let rig = Rig::embedded(1).await;
    let events = random_events(100, 10, 154);
    rig.append_shuffled(&events, 154).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    let users: Vec<String> = listed(&rig).await.iter().map(|account| account.cache_key.to_string()).collect();
    let names: Vec<&str> = users.iter().map(|key| key.strip_suffix(".tenant").unwrap()).collect();
    let cache = caches(&rig, &names).await;
    rig.cut_log().await;
    let rebuild = rebuild_of(&rig).with_seeding(seeding(&cache));
    rebuild.run(&|_| {}, CancellationToken::new()).await.unwrap();
    let kept = listed(&rig).await;
    assert_eq!(kept.len(), names.len());
    assert!(kept.iter().all(Seed::is_in));
    let verify = Verify::new(rig.log.clone(), rig.generations.clone(), VerifySettings::default());
    let report = verify.run(&|_| {}).await.unwrap();
    assert_eq!((report.found(), report.seeded), (0, u64::try_from(names.len()).unwrap()));
}
