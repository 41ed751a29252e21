//! Several projectors share the partitions of one log by lease, and none of them needs it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use common::index::PartitionLeases;
use consumer::projector::{Projector, ProjectorStatus};
use consumer::rebuild::Rebuild;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::faults::{Mood, MoodyLeases, MoodyLog};
use crate::program::Servers;
use crate::rebuild::{differences, rebuild_settings};
use crate::rig::{PATIENCE, Rig, Running, random_events, settings};

const LEASE: Duration = Duration::from_secs(1);

async fn start(rig: &Rig) -> Running {
    with(rig, rig.leases().await)
}

fn with(rig: &Rig, leases: Arc<dyn PartitionLeases>) -> Running {
    let projector = Projector::new(rig.log.clone(), rig.letters.clone(), rig.store.clone(), settings());
    Running::of(projector.sharing(leases, LEASE))
}

fn mine(status: &ProjectorStatus) -> BTreeSet<u32> {
    status.sharing.as_ref().map(|sharing| sharing.mine.clone()).unwrap_or_default()
}

/// Waits until each is ready with as many partitions as `sizes` say, and all of them together have each of `all` once.
async fn settle(projectors: &[Running], sizes: &[usize], all: u32) {
    let is_settled = || async {
        let statuses: Vec<ProjectorStatus> = projectors.iter().map(|running| running.status.borrow().clone()).collect();
        let held: Vec<BTreeSet<u32>> = statuses.iter().map(mine).collect();
        let mut found: Vec<usize> = held.iter().map(BTreeSet::len).collect();
        found.sort_unstable();
        let mut partitions: Vec<u32> = held.iter().flatten().copied().collect();
        partitions.sort_unstable();
        let follows_its_own = |(status, mine): (&ProjectorStatus, &BTreeSet<u32>)| {
            status.is_ready() && status.followed().map(|(partition, _)| partition).eq(mine.iter().copied())
        };
        found == sizes && partitions == (0..all).collect::<Vec<_>>() && statuses.iter().zip(&held).all(follows_its_own)
    };
    testkit::wait_until(PATIENCE, is_settled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projectors_share_an_embedded_log() {
    projectors_share(Rig::embedded(6).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projectors_share_a_log_on_servers() {
    projectors_share(Rig::on_servers(6).await).await;
}

async fn projectors_share(rig: Rig) {
    rig.append_shuffled(&random_events(300, 30, 70), 71).await;
    let mut projectors = vec![start(&rig).await];
    settle(&projectors, &[6], 6).await;
    projectors.extend([start(&rig).await, start(&rig).await]);
    settle(&projectors, &[2, 2, 2], 6).await;
    rig.append_shuffled(&random_events(300, 30, 72), 73).await;
    projectors.push(start(&rig).await);
    settle(&projectors, &[1, 1, 2, 2], 6).await;
    rig.append_shuffled(&random_events(300, 30, 74), 75).await;
    assert!(projectors.remove(0).stop().await.is_complete);
    settle(&projectors, &[2, 2, 2], 6).await;
    rig.append_shuffled(&random_events(300, 30, 76), 77).await;
    rig.projected().await;
    for projector in projectors {
        projector.stop().await;
    }
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_followed_of_an_embedded_log_is_taken_over() {
    let rig = Rig::embedded(6).await;
    let servers = Servers { log: Some(rig.url()), index: Some(rig.url()), ..Servers::default() };
    what_a_killed_process_followed_is_taken_over(rig, servers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_followed_of_a_log_on_servers_is_taken_over() {
    let rig = Rig::on_servers(6).await;
    let servers = rig.servers();
    what_a_killed_process_followed_is_taken_over(rig, servers).await;
}

async fn what_a_killed_process_followed_is_taken_over(rig: Rig, servers: Servers) {
    let mut process = servers.start(&["project", "--lease", "1s"]);
    let mut projectors = [start(&rig).await, start(&rig).await];
    for projector in &mut projectors {
        let is_one_of_three = |status: &ProjectorStatus| mine(status).len() == 2 && members(status) == 3;
        projector.until(is_one_of_three).await;
    }
    rig.append_shuffled(&random_events(300, 30, 80), 81).await;
    rig.projected().await;
    rig.append_shuffled(&random_events(300, 30, 82), 83).await;
    process.kill().await.unwrap();
    rig.append_shuffled(&random_events(300, 30, 84), 85).await;
    settle(&projectors, &[3, 3], 6).await;
    rig.projected().await;
    for projector in projectors {
        projector.stop().await;
    }
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_is_killed_while_a_rebuild_of_an_embedded_log_runs() {
    killed_while_a_rebuild_runs(Rig::embedded(6).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_is_killed_while_a_rebuild_of_a_log_on_servers_runs() {
    killed_while_a_rebuild_runs(Rig::on_servers(6).await).await;
}

/// The rebuild stands still in the middle while the projector is killed and what it followed is taken over.
async fn killed_while_a_rebuild_runs(rig: Rig) {
    rig.append_shuffled(&random_events(300, 60, 86), 87).await;
    let (killed, left) = (start(&rig).await, start(&rig).await);
    let mut projectors = vec![killed, left];
    settle(&projectors, &[3, 3], 6).await;
    rig.projected().await;
    let log = MoodyLog::new(&rig.log);
    let rebuild = Rebuild::new(log.clone(), rig.generations.clone(), rebuild_settings());
    let (has_begun, stands_still) = (AtomicBool::new(false), Notify::new());
    let report = |_: &_| {
        if !has_begun.swap(true, SeqCst) {
            log.moods.becomes(Mood::Fails);
            stands_still.notify_one();
        }
    };
    let meanwhile = async {
        stands_still.notified().await;
        rig.append_shuffled(&random_events(200, 60, 88), 89).await;
        projectors.remove(0).kill().await;
        rig.append_shuffled(&random_events(200, 80, 90), 91).await;
        settle(&projectors, &[6], 6).await;
        assert!(rig.generations.generations().await.unwrap().building.is_some(), "the rebuild runs still");
        log.moods.becomes(Mood::Works);
        rig.append_shuffled(&random_events(200, 100, 92), 93).await;
    };
    let work = tokio::time::timeout(PATIENCE, rebuild.run(&report, CancellationToken::new()));
    let (rebuilt, ()) = tokio::join!(work, meanwhile);
    assert_eq!(rebuilt.expect("a rebuild comes to its end").unwrap().replaced, 1);
    rig.projected().await;
    assert_eq!(differences(&rig).await, 0);
    projectors.remove(0).stop().await;
    rig.assert_index_is_fold_of_log().await;
}

fn members(status: &ProjectorStatus) -> usize {
    status.sharing.as_ref().map_or(0, |sharing| sharing.members)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_too_many_is_a_standby_and_ready() {
    let rig = Rig::embedded(1).await;
    let projectors = [start(&rig).await, start(&rig).await];
    settle(&projectors, &[0, 1], 1).await;
    let standbys = projectors.iter().filter(|running| running.status.borrow().is_standby()).count();
    assert_eq!(standbys, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_could_ask_follows_all_and_shares_later() {
    let rig = Rig::embedded(4).await;
    let leases = MoodyLeases::new(rig.leases().await);
    leases.moods.becomes(Mood::Fails);
    let mut projectors = [with(&rig, leases.clone()), with(&rig, leases.clone())];
    rig.append_shuffled(&random_events(100, 10, 90), 91).await;
    rig.projected().await;
    for projector in &mut projectors {
        let status = projector.until(|status| status.is_ready() && mine(status).len() == 4).await;
        assert!(status.sharing.unwrap().trouble.unwrap().contains("not in the mood"));
    }
    leases.moods.becomes(Mood::Works);
    settle(&projectors, &[2, 2], 4).await;
    for projector in projectors {
        projector.stop().await;
    }
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_leases_a_projector_goes_on_with_what_it_has() {
    let rig = Rig::embedded(4).await;
    let leases = MoodyLeases::new(rig.leases().await);
    let mut projectors = [with(&rig, leases.clone()), with(&rig, leases.clone())];
    settle(&projectors, &[2, 2], 4).await;
    leases.moods.becomes(Mood::Fails);
    for projector in &mut projectors {
        projector.until(|status| status.sharing.as_ref().is_some_and(|sharing| sharing.trouble.is_some())).await;
    }
    rig.append_shuffled(&random_events(100, 10, 92), 93).await;
    rig.projected().await;
    settle(&projectors, &[2, 2], 4).await;
    for projector in projectors {
        projector.stop().await;
    }
    rig.assert_index_is_fold_of_log().await;
}
