//! Part of the log is applied again while the index is followed.

use common::account::{CacheKey, TenantId};
use common::index::{AccountActivity, fold};
use consumer::replay::{From, Replay, ReplayReport, ReplaySettings, Until};
use jiff::{SignedDuration, Timestamp};

use crate::program::Servers;
use crate::rig::{Rig, random_events, settings};

async fn replay(rig: &Rig, settings: ReplaySettings) -> ReplayReport {
    Replay::new(rig.log.clone(), rig.store.clone(), settings).run(&|_| {}).await.unwrap()
}

/// An index that has lost every account, and what it should have.
async fn emptied(rig: &Rig, seed: u64) -> Vec<AccountActivity> {
    let events = random_events(200, 30, seed);
    rig.append_shuffled(&events, seed).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    let accounts: Vec<AccountActivity> = fold(&events).into_values().collect();
    for account in &accounts {
        rig.tamper(&account.cache_key, None).await;
    }
    accounts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_everything_beside_live_traffic_gives_the_fold() {
    of_everything(Rig::embedded(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_everything_beside_live_traffic_gives_the_fold_on_servers() {
    of_everything(Rig::on_servers(2).await).await;
}

async fn of_everything(rig: Rig) {
    emptied(&rig, 130).await;
    rig.append_text(0, "not json").await;
    let before = [rig.checkpoint(0).await, rig.checkpoint(1).await];
    let report = replay(&rig, ReplaySettings::default()).await;
    assert!(report.applied >= 200 && report.refused == 1 && report.passed_over == 0, "{report:?}");
    assert_eq!([rig.checkpoint(0).await, rig.checkpoint(1).await], before, "no checkpoint moves");
    let projector = rig.projector(settings());
    let events = random_events(200, 40, 131);
    let writing = rig.append_shuffled(&events, 131);
    tokio::join!(writing, replay(&rig, ReplaySettings::default()));
    rig.projected().await;
    projector.stop().await;
    rig.assert_index_is_fold_of_log().await;
    assert_eq!(rig.parked().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_narrowed_by_tenant_account_and_partition() {
    let rig = Rig::embedded(2).await;
    let accounts = emptied(&rig, 132).await;
    let one = accounts.iter().find(|account| account.tenant_id().is_some()).unwrap();
    let account = Some(one.cache_key.clone());
    replay(&rig, ReplaySettings { account, ..ReplaySettings::default() }).await;
    assert_eq!(there(&rig, &accounts).await, std::slice::from_ref(&one.cache_key));
    let tenant: Option<TenantId> = one.tenant_id().cloned();
    let report = replay(&rig, ReplaySettings { tenant, ..ReplaySettings::default() }).await;
    assert!(report.applied > 0 && report.passed_over > 0);
    for account in &accounts {
        let replayed = rig.store.get(&account.cache_key).await.unwrap();
        if account.tenant_id() == one.tenant_id() {
            let replayed = replayed.unwrap();
            assert_eq!(times(&replayed), times(account));
        } else {
            assert!(!replayed.is_some_and(|replayed| replayed.is_listed()), "{}", account.cache_key);
        }
    }
    let report = replay(&rig, ReplaySettings { partition: Some(1), ..ReplaySettings::default() }).await;
    assert_eq!(report.messages, rig.ends().await[&1]);
}

fn times(account: &AccountActivity) -> [Option<Timestamp>; 3] {
    [account.last_activity, account.last_hydration, account.removed_at]
}

async fn there(rig: &Rig, accounts: &[AccountActivity]) -> Vec<CacheKey> {
    let mut there = Vec::new();
    for account in accounts {
        there.extend(rig.store.get(&account.cache_key).await.unwrap().map(|account| account.cache_key));
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_bounded_by_offsets_and_times() {
    bounded(Rig::embedded(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_bounded_by_offsets_and_times_on_servers() {
    bounded(Rig::on_servers(1).await).await;
}

async fn bounded(rig: Rig) {
    emptied(&rig, 133).await;
    let end = rig.ends().await[&0];
    let messages =
        async |from, until| replay(&rig, ReplaySettings { from, until, ..Default::default() }).await.messages;
    assert_eq!(messages(From::Offset(3), Until::Offset(8)).await, 5);
    assert_eq!(messages(From::Offset(end - 2), Until::End).await, 2);
    assert_eq!(messages(From::Offset(end + 9), Until::End).await, 0);
    assert_eq!(messages(From::First, Until::Offset(end + 9)).await, end);
    let hour_ago = Timestamp::now() - SignedDuration::from_hours(1);
    assert_eq!(messages(From::Time(hour_ago), Until::End).await, end);
    assert_eq!(messages(From::Time(Timestamp::now() + SignedDuration::from_hours(1)), Until::End).await, 0);
    let early = Timestamp::now() - SignedDuration::from_mins(30);
    let until = Until::Time(early);
    let report = replay(&rig, ReplaySettings { until, ..ReplaySettings::default() }).await;
    assert!(report.applied > 0 && report.passed_over > 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_how_far_it_has_come_in_lines() {
    let rig = Rig::embedded(1).await;
    emptied(&rig, 134).await;
    let url = rig.url();
    let servers = Servers { log: Some(url.clone()), index: Some(url), ..Servers::default() };
    let output = servers.run(&["replay", "--from", "first", "--json"]).await;
    assert!(output.status.success());
    let lines: Vec<serde_json::Value> =
        crate::program::text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["progress"]["phase"], "replaying");
    assert!(lines.last().unwrap()["applied"].as_u64().unwrap() >= 200, "{lines:?}");
    rig.assert_index_is_fold_of_log().await;
    assert_eq!(servers.run(&["replay", "--from", "never"]).await.status.code(), Some(2));
}
