//! A log that was cut before the checkpoint is said, and each way on heals it.

use std::sync::Arc;
use std::time::Duration;

use common::index::Checkpoint;
use consumer::gap::LogGap;
use consumer::health::{Health, Metrics, Readiness};
use consumer::projector::{ProjectorError, ProjectorSettings};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testkit::CapturedLog;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::program::text;
use crate::rebuild::{activities, differences, rebuild};
use crate::rig::{PATIENCE, Rig, random_events, settings};
use crate::seed::caches;

async fn with_gap() -> Rig {
    aged(Rig::embedded(1).await).await
}

async fn with_gap_on_servers() -> Rig {
    aged(Rig::on_servers_that_forget().await).await
}

/// A log of which the middle is gone: events of two hours ago were applied, those of an hour ago are missing, and it
/// begins with newer ones.
async fn aged(rig: Rig) -> Rig {
    let at = |seed, hours: i64| {
        let mut events = random_events(50, 10, seed);
        let time = Timestamp::now() - SignedDuration::from_hours(hours);
        for event in &mut events {
            event.time = time;
        }
        events
    };
    rig.append_shuffled(&at(140, 2), 140).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    rig.append_shuffled(&at(141, 1), 141).await;
    rig.age_out(&at(142, 0)).await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_says_how_much_is_missing_and_the_three_ways_on() {
    says_what_is_missing(with_gap().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_of_a_stream_says_how_much_is_missing_and_the_three_ways_on() {
    says_what_is_missing(with_gap_on_servers().await).await;
}

async fn says_what_is_missing(rig: Rig) {
    let projector = rig.projector(settings());
    let mut status = projector.status.clone();
    let ProjectorError::Gap(gap) = projector.ended().await.unwrap_err();
    assert_eq!((gap.asked, gap.is_cut()), (rig.checkpoint(0).await, true));
    assert!((7_190..7_260).contains(&gap.missing().unwrap().as_secs()), "{gap:?}");
    let said = gap.to_string();
    for way in ["seconds of the log are gone", "--accept-gap", "consumer rebuild", "consumer seed"] {
        assert!(said.contains(way), "{said}");
    }
    let known = status.wait_for(|_| true).await.unwrap().clone();
    assert!(!known.is_ready());
    assert_eq!(known.partitions[&0].gap.as_ref(), Some(&*gap));
    let Readiness::Not(reasons) = status.readiness().await else { panic!("nobody is ready with a gap") };
    assert!(reasons.contains(&said), "{reasons}");
    let metrics = metrics(&status);
    assert!(metrics.contains("projector_ready 0\n"), "{metrics}");
    assert!(metrics.contains("projector_gap{partition=\"0\"} 1\n"), "{metrics}");
}

fn metrics(projector: &impl Health) -> String {
    let mut metrics = Metrics::default();
    projector.metrics(&mut metrics);
    metrics.into_text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_is_accepted_is_passed() {
    is_accepted_and_passed(with_gap().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_of_a_stream_that_is_accepted_is_passed() {
    is_accepted_and_passed(with_gap_on_servers().await).await;
}

async fn is_accepted_and_passed(rig: Rig) {
    let servers = rig.servers();
    let refused = servers.run(&["project"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("seconds of the log are gone"), "{}", text(&refused.stderr));
    let _projecting = servers.start(&["project", "--accept-gap"]);
    rig.projected().await;
    assert_eq!(differences(&rig).await, 0, "what is older than the log is no difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn seeding_from_the_token_caches_passes_a_gap() {
    is_seeded_and_passed(with_gap().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seeding_from_the_token_caches_passes_a_gap_of_a_stream() {
    is_seeded_and_passed(with_gap_on_servers().await).await;
}

async fn is_seeded_and_passed(rig: Rig) {
    let file = Rig::embedded(1).await;
    caches(&file, &["one", "two"]).await;
    let servers = rig.servers();
    let output = servers.command(&["seed", "--json"]).env("TOKEN_CACHE_URL", file.url()).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap();
    assert_eq!((&report["seeded"], &report["gaps_accepted"]), (&json!(2), &json!([0])));
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    assert_eq!(differences(&rig).await, 0, "what is older than the log or seeded is no difference");
    let account = servers.json(&["account", "show", "one.tenant", "--json"]).await;
    assert_eq!(account["is_seeded"], json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_heals_a_gap() {
    rebuild_heals(with_gap().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_heals_a_gap_of_a_stream() {
    rebuild_heals(with_gap_on_servers().await).await;
}

async fn rebuild_heals(rig: Rig) {
    rebuild(&rig).await.unwrap();
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    rig.assert_index_is_fold_of_log().await;
    let kept = rig.generations.generations().await.unwrap().retired.unwrap();
    let kept = rig.generations.generation(kept);
    assert!(LogGap::find(&*rig.log, &*kept, 0).await.unwrap().is_some());
    let back = crate::rebuild::rebuild_of(&rig).roll_back().await.unwrap_err();
    assert!(back.to_string().starts_with("the generation that is kept cannot catch up: partition 0"), "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_made_anew_is_said_and_accepted() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(50, 10, 143), 143).await;
    rig.store.store_checkpoint(0, Checkpoint::at(10_000)).await.unwrap();
    let projector = rig.projector(settings());
    let ProjectorError::Gap(gap) = projector.ended().await.unwrap_err();
    assert!(!gap.is_cut() && gap.missing().is_none());
    assert!(gap.to_string().contains("the log was made anew, or is another one"), "{gap}");
    gap.accept(&*rig.live().await).await.unwrap();
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_headroom_is_what_the_log_still_keeps_of_what_is_applied() {
    headroom_is_told(with_gap().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_headroom_is_what_a_stream_still_keeps_of_what_is_applied() {
    headroom_is_told(with_gap_on_servers().await).await;
}

async fn headroom_is_told(rig: Rig) {
    rig.live().await.forget_checkpoint(0).await.unwrap();
    let often = ProjectorSettings { look_at_retention_every: Duration::from_millis(50), ..settings() };
    let mut projector = rig.projector(often);
    let mut newest = random_events(1, 1, 144).remove(0);
    newest.time = Timestamp::now() + SignedDuration::from_secs(100);
    rig.log.append(0, &[newest]).await.unwrap();
    let short = projector
        .until_partition(0, |status| status.headroom.is_some_and(|headroom| (90..=160).contains(&headroom.as_secs())));
    short.await;
    let metrics = metrics(&projector.status);
    assert!(metrics.contains("projector_headroom_seconds{partition=\"0\"} 1"), "{metrics}");
    projector.stop().await;
}

#[tokio::test]
async fn little_headroom_is_warned_of() {
    is_warned_of(with_gap().await).await;
}

#[tokio::test]
async fn little_headroom_of_a_stream_is_warned_of() {
    is_warned_of(with_gap_on_servers().await).await;
}

/// On one thread, which is the one whose log is captured.
async fn is_warned_of(rig: Rig) {
    rig.live().await.forget_checkpoint(0).await.unwrap();
    let log = CapturedLog::default();
    let logging = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let _logging = tracing::subscriber::set_default(logging);
    let often = ProjectorSettings { look_at_retention_every: Duration::from_millis(10), ..settings() };
    let projector = rig.projector(often);
    let event = activities(0..1);
    testkit::wait_until(PATIENCE, || async {
        rig.log.append(0, &event).await.unwrap();
        log.text().contains("the log's retention comes near what is not applied partition=0 seconds=")
    })
    .await;
    projector.stop().await;
}

/// The status line and the body of an answer.
async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_and_metrics_are_told_over_http() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(50, 10, 145), 145).await;
    let mut projector = rig.projector(settings());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(consumer::health::serve(listener, Arc::new(projector.status.clone()), shutdown.clone()));
    projector.until(|status| status.is_ready()).await;
    rig.projected().await;
    assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = ask(address, "/metrics").await;
    assert!(metrics.contains("projector_ready 1") && metrics.contains("projector_gap{partition=\"0\"} 0"), "{metrics}");
    rig.store.store_checkpoint(0, Checkpoint::at(100_000)).await.unwrap();
    rig.cut_log().await;
    projector.stop().await;
    assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
}
