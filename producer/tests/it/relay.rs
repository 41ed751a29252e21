//! The relay loses nothing, whatever the log and the outbox do.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use common::backend::Trouble;
use common::log::ActivityLog;
use common::retry::RetryDelays;
use common::token_cache::Outbox;
use producer::relay::{Reachability, RelaySettings};

use crate::faults::{Mood, Moody};
use crate::rig::{PATIENCE, Rig, Running};

/// As it is set by default, but impatient.
pub(crate) fn settings() -> RelaySettings {
    RelaySettings {
        visibility: Duration::from_secs(1),
        retry: RetryDelays {
            first: Duration::from_millis(5),
            longest: Duration::from_millis(50),
            refused: Duration::from_millis(400),
        },
        ..RelaySettings::default()
    }
}

fn moody_log(rig: &Rig, mood: Mood) -> Arc<Moody<dyn ActivityLog>> {
    Moody::new(Arc::clone(&rig.log), mood)
}

fn moody_outbox(rig: &Rig, mood: Mood) -> Arc<Moody<dyn Outbox>> {
    Moody::new(Arc::clone(&rig.outbox), mood)
}

async fn ten_thousand_events_reach_the_log(rig: Rig) {
    let ids = rig.fill(10_000).await;
    let relay = rig.relay(RelaySettings::default());
    rig.drained().await;
    let report = relay.stop().await;
    assert_eq!(report.left, 0);
    assert!(report.events_published >= 10_000 && report.batches < report.events_published / 10, "{report:?}");
    assert!(rig.is_in_log(&ids).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_reach_an_embedded_log() {
    ten_thousand_events_reach_the_log(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_reach_the_log_on_servers() {
    ten_thousand_events_reach_the_log(Rig::on_servers(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_spread_over_all_partitions() {
    let rig = Rig::embedded().await;
    let ids = rig.fill(30).await;
    let relay = rig.relay(RelaySettings { batch_events: 5, ..settings() });
    rig.drained().await;
    relay.stop().await;
    for partition in 0..3 {
        assert!(rig.log.bounds(partition).await.unwrap().next > 0, "partition {partition} got nothing");
    }
    assert!(rig.is_in_log(&ids).await);
}

async fn two_relays_share_an_outbox(rig: Rig) {
    let relays = [rig.relay(settings()), rig.relay(settings())];
    let ids = rig.fill(3_000).await;
    rig.drained().await;
    let mut published = Vec::new();
    for relay in relays {
        published.push(relay.stop().await.events_published);
    }
    assert!(rig.is_in_log(&ids).await, "they published {published:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_share_an_embedded_outbox() {
    two_relays_share_an_outbox(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_share_an_outbox_on_servers() {
    two_relays_share_an_outbox(Rig::on_servers(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_down_at_the_start_gets_everything_later() {
    let rig = Rig::embedded().await;
    let ids = rig.fill(500).await;
    let log = moody_log(&rig, Mood::Fails(Trouble::Unavailable));
    let mut relay = Running::start(rig.outbox.clone(), log.clone(), settings());
    let status = relay.until(|status| status.failures > 3).await;
    assert!(status.log.is_down() && status.last_error.unwrap().contains("not in the mood"));
    assert_eq!(rig.outbox.backlog().await.unwrap().unconfirmed, 500, "nothing is confirmed that is not in the log");
    log.becomes(Mood::Works);
    rig.drained().await;
    relay.until(|status| status.log.is_up()).await;
    assert_eq!(relay.stop().await.left, 0);
    assert!(rig.is_in_log(&ids).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_comes_and_goes_gets_everything() {
    let rig = Rig::embedded().await;
    let log = moody_log(&rig, Mood::Works);
    let mut relay = Running::start(rig.outbox.clone(), log.clone(), settings());
    let mut ids = rig.fill(200).await;
    for _ in 0..5 {
        for mood in [Mood::Fails(Trouble::Unavailable), Mood::Works, Mood::WorksAndFails, Mood::Works] {
            log.becomes(mood);
            ids.extend(rig.fill(50).await);
        }
    }
    rig.drained().await;
    let status = relay.until(|status| status.log.is_up()).await;
    assert!(status.failures > 0);
    relay.stop().await;
    assert!(rig.is_in_log(&ids).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_answer_fills_no_memory() {
    let rig = Rig::embedded().await;
    let ids = rig.fill(1_000).await;
    let log = moody_log(&rig, Mood::Works);
    let bounded = RelaySettings { held_events: 100, batch_events: 10, outstanding_batches: 4, ..settings() };
    let mut relay = Running::start(rig.outbox.clone(), log.clone(), bounded);
    relay.until(|status| status.log.is_up()).await;
    log.becomes(Mood::Hangs);
    let more = rig.fill(1_000).await;
    let status = relay.until(|status| status.outstanding_batches == 4).await;
    assert!(status.held_events <= 100, "{status:?}");
    // Longer than the visibility time: what it holds comes back to it, and still there is no room for it.
    let held = relay.until(|status| status.backlog.oldest.is_some_and(|age| age > Duration::from_secs(2))).await;
    assert!(held.held_events <= 100 && held.outstanding_batches == 4, "{held:?}");
    assert_eq!(log.most_under_way.load(SeqCst), 4);
    log.becomes(Mood::Works);
    rig.drained().await;
    relay.stop().await;
    assert!(rig.is_in_log(&ids).await && rig.is_in_log(&more).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_refuses_is_asked_seldom_and_says_why() {
    let rig = Rig::embedded().await;
    let ids = rig.fill(20).await;
    let log = moody_log(&rig, Mood::Fails(Trouble::Refused));
    let mut relay = Running::start(rig.outbox.clone(), log.clone(), settings());
    let began = Instant::now();
    let status = relay.until(|status| status.failures >= 3).await;
    assert!(began.elapsed() >= Duration::from_millis(800), "three calls in {:?}", began.elapsed());
    let Reachability::Down { why, .. } = status.log else { panic!("{status:?}") };
    assert_eq!(why, "moody://: it is not in the mood");
    log.becomes(Mood::Works);
    rig.drained().await;
    relay.stop().await;
    assert!(rig.is_in_log(&ids).await, "a log that was mended is found by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_comes_and_goes_loses_nothing() {
    let rig = Rig::embedded().await;
    let outbox = moody_outbox(&rig, Mood::Works);
    let mut relay = Running::start(outbox.clone(), rig.log.clone(), settings());
    let mut ids = rig.fill(100).await;
    for _ in 0..5 {
        for mood in [Mood::Fails(Trouble::Unavailable), Mood::Works, Mood::WorksAndFails, Mood::Works] {
            outbox.becomes(mood);
            ids.extend(rig.fill(50).await);
        }
    }
    rig.drained().await;
    relay.until(|status| status.outbox.is_up()).await;
    assert_eq!(relay.stop().await.left, 0);
    assert!(rig.is_in_log(&ids).await);
}

async fn another_relay_takes_over(rig: Rig) {
    let ids = rig.fill(100).await;
    let log = moody_log(&rig, Mood::Works);
    let mut killed = Running::start(rig.outbox.clone(), log.clone(), settings());
    killed.until(|status| status.log.is_up()).await;
    log.becomes(Mood::Hangs);
    let more = rig.fill(100).await;
    killed.until(|status| status.outstanding_batches > 0).await;
    killed.kill().await;
    let relay = rig.relay(settings());
    rig.drained().await;
    relay.stop().await;
    assert!(rig.is_in_log(&ids).await && rig.is_in_log(&more).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_relay_takes_over_from_one_that_was_killed() {
    another_relay_takes_over(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_relay_takes_over_from_one_that_was_killed_on_servers() {
    another_relay_takes_over(Rig::on_servers(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_sends_the_grace_period_again() {
    let rig = Rig::embedded().await;
    let log = moody_log(&rig, Mood::Works);
    let often = RelaySettings { rewind_every: Duration::from_millis(100), ..settings() };
    let mut relay = Running::start(rig.outbox.clone(), log.clone(), often);
    relay.until(|status| status.rewinds == 1).await;
    let ids = rig.fill(100).await;
    rig.drained().await;
    assert!(rig.in_log().await.values().all(|times| *times == 1));
    log.losses.fetch_add(1, SeqCst);
    relay.until(|status| status.rewinds == 2 && status.events_published == 200).await;
    relay.stop().await;
    let found = rig.in_log().await;
    assert!(ids.iter().all(|id| found[id] == 2), "the log got each of them again, as the same event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_starts_sends_the_grace_period_again() {
    let rig = Rig::embedded().await;
    let mut first = rig.relay(settings());
    first.until(|status| status.rewinds == 1).await;
    let ids = rig.fill(50).await;
    rig.drained().await;
    first.stop().await;
    let mut second = rig.relay(settings());
    second.until(|status| status.events_published == 50).await;
    second.stop().await;
    let found = rig.in_log().await;
    assert!(ids.iter().all(|id| found[id] == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_finds_at_its_start_goes_once() {
    let rig = Rig::embedded().await;
    let ids = rig.fill(50).await;
    let mut relay = rig.relay(settings());
    let status = relay.until(|status| status.events_published > 0).await;
    assert_eq!(status.rewinds, 1, "the rewind of the start comes before anything is sent");
    rig.drained().await;
    relay.stop().await;
    let found = rig.in_log().await;
    assert!(ids.iter().all(|id| found[id] == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_entries_are_forgotten_after_the_grace_period_and_not_before() {
    let rig = Rig::embedded().await;
    let brief = RelaySettings { grace: Duration::from_secs(2), trim_every: Duration::from_millis(100), ..settings() };
    let mut relay = rig.relay(brief);
    relay.until(|status| status.rewinds == 1).await;
    let began = Instant::now();
    rig.fill(50).await;
    let status = relay.until(|status| status.trimmed == 50).await;
    assert!(began.elapsed() >= brief.grace);
    assert_eq!((status.events_published, status.backlog.unconfirmed), (50, 0));
    relay.stop().await;
    assert_eq!(rig.outbox.backlog().await.unwrap().kept, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forgotten_while_the_log_is_away() {
    let rig = Rig::embedded().await;
    let log = moody_log(&rig, Mood::Works);
    let brief = RelaySettings { grace: Duration::ZERO, trim_every: Duration::from_secs(3_600), ..settings() };
    let mut relay = Running::start(rig.outbox.clone(), log.clone(), brief);
    rig.fill(50).await;
    rig.drained().await;
    log.becomes(Mood::Fails(Trouble::Unavailable));
    rig.fill(1).await;
    relay.until(|status| status.log.is_down()).await;
    relay.stop().await;
    let eager = RelaySettings { trim_every: Duration::ZERO, ..brief };
    let mut relay = Running::start(rig.outbox.clone(), log.clone(), eager);
    let status = relay.until(|status| status.backlog.kept > 0).await;
    assert_eq!((status.backlog.kept, status.trimmed), (51, 0));
    log.becomes(Mood::Works);
    relay.until(|status| status.trimmed >= 51).await;
    relay.stop().await;
    assert_eq!(rig.in_log().await.len(), 51);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_what_is_outstanding() {
    let rig = Rig::embedded().await;
    let log = moody_log(&rig, Mood::Works);
    let calm = RelaySettings { visibility: PATIENCE, ..settings() };
    let mut relay = Running::start(rig.outbox.clone(), log.clone(), calm);
    relay.until(|status| status.log.is_up() && status.rewinds > 0).await;
    log.becomes(Mood::IsSlow(Duration::from_millis(700)));
    let ids = rig.fill(200).await;
    relay.until(|status| status.outstanding_batches > 0).await;
    assert_eq!(relay.stop().await.left, 0);
    let confirmed = 200 - rig.outbox.backlog().await.unwrap().unconfirmed;
    assert!(confirmed > 0);
    let found = rig.in_log().await;
    let in_log = ids.iter().filter(|id| found.contains_key(*id)).count();
    assert_eq!(u64::try_from(in_log).unwrap(), confirmed, "all that was taken is in the log and confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_ever() {
    let rig = Rig::embedded().await;
    let log = moody_log(&rig, Mood::Works);
    let brief = RelaySettings { shutdown_grace: Duration::from_millis(300), ..settings() };
    let mut relay = Running::start(rig.outbox.clone(), log.clone(), brief);
    relay.until(|status| status.log.is_up()).await;
    log.becomes(Mood::Hangs);
    rig.fill(10).await;
    relay.until(|status| status.outstanding_batches > 0).await;
    let began = Instant::now();
    let report = relay.stop().await;
    assert!(report.left > 0 && began.elapsed() < Duration::from_secs(5), "{report:?} after {:?}", began.elapsed());
    assert_eq!(rig.outbox.backlog().await.unwrap().unconfirmed, 10, "what is left comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_while_the_log_is_down_does_not_wait_for_it() {
    let rig = Rig::embedded().await;
    rig.fill(10).await;
    let log = moody_log(&rig, Mood::Works);
    let mut relay = Running::start(rig.outbox.clone(), log.clone(), RelaySettings::default());
    rig.drained().await;
    log.becomes(Mood::Fails(Trouble::Unavailable));
    rig.fill(10).await;
    relay.until(|status| status.log.is_down()).await;
    let began = Instant::now();
    let report = relay.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{report:?} after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_relay_asks_little() {
    let rig = Rig::embedded().await;
    let outbox = moody_outbox(&rig, Mood::Works);
    let mut relay = Running::start(outbox.clone(), rig.log.clone(), settings());
    rig.fill(1).await;
    relay.until(|status| status.events_published > 0).await;
    rig.drained().await;
    let before = outbox.calls.load(SeqCst);
    let quiet = Duration::from_secs(2);
    testkit::wait_until(PATIENCE, || async { outbox.calls.load(SeqCst) >= before + 3 }).await;
    let began = Instant::now();
    let before = outbox.calls.load(SeqCst);
    testkit::wait_until(PATIENCE, || async { began.elapsed() > quiet }).await;
    let asked = outbox.calls.load(SeqCst) - before;
    assert!(asked <= 6, "{asked} calls in {quiet:?}");
    relay.stop().await;
}
