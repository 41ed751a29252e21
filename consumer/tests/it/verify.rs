//! The index is held against the log while both move, and what is wrong is put right.

use std::collections::BTreeMap;

use common::account::{CacheKey, ClientId, TenantId};
use common::index::AccountActivity;
use consumer::verify::{Kind, Verify, VerifyError, VerifyReport, VerifySettings};
use jiff::{SignedDuration, Timestamp};

use crate::program::Servers;
use crate::rig::{Rig, random_events, settings};

async fn verify(rig: &Rig, settings: VerifySettings) -> VerifyReport {
    Verify::new(rig.log.clone(), rig.generations.clone(), settings).run(&|_| {}).await.unwrap()
}

fn repairing() -> VerifySettings {
    VerifySettings { repair: true, ..VerifySettings::default() }
}

/// A log that is applied, and the accounts of the index.
async fn projected(rig: &Rig, seed: u64) -> Vec<AccountActivity> {
    let events = random_events(300, 40, seed);
    rig.append_shuffled(&events, seed).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    let mut accounts = rig.live().await.scan(None, 10_000).await.unwrap().accounts;
    accounts.sort_by(|a, b| a.cache_key.cmp(&b.cache_key));
    accounts
}

#[tokio::test(flavor = "multi_thread")]
async fn every_difference_is_found_named_and_healed() {
    found_named_and_healed(Rig::embedded(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_difference_is_found_named_and_healed_on_servers() {
    found_named_and_healed(Rig::on_servers(2).await).await;
}

async fn found_named_and_healed(rig: Rig) {
    let accounts = projected(&rig, 80).await;
    let all = u64::try_from(accounts.len()).unwrap();
    let clean = verify(&rig, repairing()).await;
    assert_eq!((clean.checked, clean.found(), clean.repaired, clean.older_than_log), (all, 0, 0, 0));

    let with_details: Vec<&AccountActivity> = accounts.iter().filter(|a| a.details.is_some()).collect();
    let [missing, wrong, late, early] = with_details[..4] else { panic!("four accounts") };
    rig.tamper(&missing.cache_key, None).await;
    let mut other_client = wrong.clone();
    other_client.details.as_mut().unwrap().value.client_id = ClientId::new("another").unwrap();
    rig.tamper(&wrong.cache_key, Some(&other_client)).await;
    let mut removed = late.clone();
    removed.removed_at = Some(Timestamp::now());
    rig.tamper(&late.cache_key, Some(&removed)).await;
    let mut forgetful = early.clone();
    forgetful.details = None;
    rig.tamper(&early.cache_key, Some(&forgetful)).await;
    let mut extra = accounts[5].clone();
    extra.cache_key = CacheKey::new("extra").unwrap();
    rig.tamper(&extra.cache_key, Some(&extra)).await;

    for settings in
        [VerifySettings::default(), VerifySettings { accounts_at_once: 3, ..VerifySettings::default() }, repairing()]
    {
        let repairs = settings.repair;
        let report = verify(&rig, settings).await;
        assert_eq!((report.missing, report.extra, report.different), (1, 1, 3), "{report:?}");
        assert_eq!((report.checked, report.repaired), (all + 1, if repairs { 5 } else { 0 }));
        let found: BTreeMap<&str, (Kind, &[String])> = report
            .differences
            .iter()
            .map(|difference| (difference.cache_key.as_str(), (difference.kind, &*difference.fields)))
            .collect();
        assert_eq!(found[missing.cache_key.as_str()].0, Kind::Missing);
        assert_eq!(found["extra"].0, Kind::Extra);
        let fields = |key: &CacheKey| found[key.as_str()].1.join(" ");
        assert_eq!(fields(&wrong.cache_key), "details.client_id");
        assert_eq!(fields(&late.cache_key), "removed_at");
        assert_eq!(fields(&early.cache_key), "details");
    }
    assert_eq!(verify(&rig, VerifySettings::default()).await.found(), 0);
    rig.assert_index_is_fold_of_log().await;
    assert_eq!(rig.store.get(&extra.cache_key).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_traffic_nothing_is_found_that_is_not_wrong() {
    under_traffic(Rig::embedded(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_traffic_nothing_is_found_that_is_not_wrong_on_servers() {
    under_traffic(Rig::on_servers(2).await).await;
}

async fn under_traffic(rig: Rig) {
    let accounts = projected(&rig, 81).await;
    let projector = rig.projector(settings());
    let writing = async {
        for seed in 100..120 {
            rig.append_shuffled(&random_events(50, 60, seed), seed).await;
        }
    };
    let verifying = async {
        for round in 0..6 {
            let at_once = if round % 2 == 0 { 5 } else { 1_000 };
            let report = verify(&rig, VerifySettings { accounts_at_once: at_once, ..repairing() }).await;
            assert_eq!(report.found(), 0, "{report:?}");
        }
    };
    tokio::join!(writing, verifying);
    // What is really wrong is found while others are written.
    let (key, wrong) = (&accounts[0].cache_key, AccountActivity::nothing_about(accounts[0].cache_key.clone()));
    let events = random_events(200, 60, 121);
    let writing = rig.append_shuffled(&events, 121);
    let healing = async {
        rig.tamper(key, Some(&wrong)).await;
        verify(&rig, repairing()).await
    };
    let ((), report) = tokio::join!(writing, healing);
    assert_eq!(report.found(), report.repaired);
    rig.projected().await;
    projector.stop().await;
    assert_eq!(verify(&rig, VerifySettings::default()).await.found(), 0);
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_behind_is_not_wrong() {
    let rig = Rig::embedded(2).await;
    projected(&rig, 82).await;
    rig.append_shuffled(&random_events(100, 60, 83), 83).await;
    assert_eq!(verify(&rig, repairing()).await.found(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_and_a_tenant_narrow_the_check() {
    let rig = Rig::embedded(1).await;
    let accounts = projected(&rig, 84).await;
    let all = u64::try_from(accounts.len()).unwrap();
    let sampled = verify(&rig, VerifySettings { sample: Some(10), ..VerifySettings::default() }).await;
    assert!(sampled.checked > 0 && sampled.checked < all, "{sampled:?}");
    let tenant = accounts.iter().find_map(AccountActivity::tenant_id).unwrap();
    let of_tenant = accounts.iter().filter(|account| account.tenant_id() == Some(tenant)).count();
    for account in &accounts {
        rig.tamper(&account.cache_key, None).await;
    }
    let only = |tenant: &TenantId| VerifySettings { tenant: Some(tenant.clone()), ..repairing() };
    let report = verify(&rig, only(tenant)).await;
    assert_eq!((report.missing, report.repaired), (u64::try_from(of_tenant).unwrap(), report.missing));
    let rest = verify(&rig, VerifySettings::default()).await;
    assert_eq!(rest.missing, all - report.missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_log_is_no_difference_and_stays_unless_asked() {
    let rig = Rig::embedded(1).await;
    let accounts = projected(&rig, 85).await;
    let all = u64::try_from(accounts.len()).unwrap();
    rig.cut_log().await;
    let report = verify(&rig, repairing()).await;
    assert_eq!((report.found(), report.older_than_log, report.checked), (0, all, all));
    // An event that no log can have said is wrong still.
    let mut wrong = accounts[0].clone();
    wrong.removed_at = Some(Timestamp::now() + SignedDuration::from_hours(1));
    rig.tamper(&wrong.cache_key, Some(&wrong)).await;
    let report = verify(&rig, repairing()).await;
    assert_eq!((report.different + report.extra, report.repaired), (1, 1), "{report:?}");
    assert_eq!(rig.store.get(&wrong.cache_key).await.unwrap().unwrap().last_activity, accounts[0].last_activity);
    let report = verify(&rig, VerifySettings { drop_older: true, ..repairing() }).await;
    assert_eq!((report.extra, report.repaired, report.older_than_log), (all, all, 0));
    assert!(rig.live().await.scan(None, 10).await.unwrap().accounts.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_a_gap_cannot_be_verified() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(50, 10, 86), 86).await;
    rig.store.store_checkpoint(0, common::index::Checkpoint::at(1)).await.unwrap();
    rig.cut_log().await;
    let verify = Verify::new(rig.log.clone(), rig.generations.clone(), VerifySettings::default());
    assert!(matches!(verify.run(&|_| {}).await, Err(VerifyError::Gap(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_is_made_what_the_log_says() {
    let rig = Rig::embedded(2).await;
    let accounts = projected(&rig, 87).await;
    let verify = Verify::new(rig.log.clone(), rig.generations.clone(), VerifySettings::default());
    let mut wrong = accounts[3].clone();
    wrong.last_activity = Some(Timestamp::now());
    rig.tamper(&wrong.cache_key, Some(&wrong)).await;
    rig.tamper(&accounts[4].cache_key, None).await;
    let found = verify.rebuild_account(&wrong.cache_key, &|_| {}).await.unwrap().unwrap();
    assert_eq!(
        (found.kind, found.is_repaired, &*found.fields),
        (Kind::Different, true, &["last_activity".to_owned()][..])
    );
    assert_eq!(verify.rebuild_account(&wrong.cache_key, &|_| {}).await.unwrap(), None);
    assert_eq!(rig.store.get(&accounts[4].cache_key).await.unwrap(), None, "no other one is touched");
    verify.rebuild_account(&accounts[4].cache_key, &|_| {}).await.unwrap().unwrap();
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_exits_with_3_and_names_nobody_unless_asked() {
    let rig = Rig::embedded(1).await;
    let accounts = projected(&rig, 88).await;
    rig.tamper(&accounts[0].cache_key, None).await;
    let url = rig.url();
    let servers = Servers { log: Some(url.clone()), index: Some(url), ..Servers::default() };
    let key = accounts[0].cache_key.as_str();
    for (arguments, code, names) in [
        (&["verify"][..], 3, false),
        (&["verify", "--json"], 3, false),
        (&["verify", "--show-keys"], 3, true),
        (&["verify", "--repair", "--json", "--show-keys"], 0, true),
        (&["verify", "--show-keys"], 0, false),
        (&["rebuild", "--account", key], 0, false),
    ] {
        let output = servers.run(arguments).await;
        let said = crate::program::text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said} {}", crate::program::text(&output.stderr));
        assert_eq!(said.contains(key), names, "{arguments:?}: {said}");
    }
    rig.assert_index_is_fold_of_log().await;
}
