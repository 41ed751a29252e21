//! The index is the fold of the log, whatever happens to the projector, the log, the index and the dead letters.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use common::event::{BATCH_CONTENT_TYPE, MAX_BODY_BYTES, SINGLE_CONTENT_TYPE, encode};
use common::index::Checkpoint;
use consumer::projector::{PartitionState, ProjectorError, ProjectorSettings};
use jiff::{SignedDuration, Timestamp};

use crate::faults::{Mood, MoodyLetters, MoodyLog, MoodyStore};
use crate::rig::{PATIENCE, Rig, Running, random_events, settings};

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_the_fold_of_an_embedded_log() {
    the_index_is_the_fold_of_the_log(Rig::embedded(3).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_the_fold_of_the_log_on_servers() {
    the_index_is_the_fold_of_the_log(Rig::on_servers(2).await).await;
}

async fn the_index_is_the_fold_of_the_log(rig: Rig) {
    let events = random_events(1_000, 40, 1);
    rig.append_shuffled(&events[..500], 2).await;
    let projector = rig.projector(settings());
    rig.append_shuffled(&events[500..], 3).await;
    rig.projected().await;
    let report = projector.stop().await;
    assert!(report.is_complete && report.refused.is_empty() && report.events_applied >= 1_000, "{report:?}");
    rig.assert_index_is_fold_of_log().await;
    assert!(rig.parked().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_is_killed_at_any_step_loses_nothing() {
    let rig = Rig::embedded(1).await;
    let events = random_events(300, 10, 4);
    let small = ProjectorSettings { batch_events: 1, ..settings() };
    for (round, part) in events.chunks(15).enumerate() {
        rig.append_shuffled(part, 5).await;
        let store = MoodyStore::new(&rig.store);
        let step = round / 2 % 5;
        store.moods.becomes(if round % 2 == 0 { Mood::HangsBefore(step) } else { Mood::HangsAfter(step) });
        let projector = Running::start(rig.log.clone(), rig.letters.clone(), store.clone(), small);
        tokio::time::timeout(PATIENCE, store.moods.hangs()).await.expect("it comes to that step");
        projector.kill().await;
    }
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projectors_that_are_killed_again_and_again_lose_nothing() {
    killed_again_and_again(Rig::embedded(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projectors_that_are_killed_again_and_again_lose_nothing_on_servers() {
    killed_again_and_again(Rig::on_servers(2).await).await;
}

async fn killed_again_and_again(rig: Rig) {
    let events = random_events(600, 20, 6);
    rig.append_shuffled(&events, 7).await;
    let small = ProjectorSettings { batch_events: 7, ..settings() };
    for applied in [1, 8, 20, 50, 90] {
        let mut projector = rig.projector(small);
        let enough = projector.until(|status| {
            let so_far: u64 = status.partitions.values().map(|partition| partition.events_applied).sum();
            so_far >= applied || status.partitions.len() == 2 && status.partitions.values().all(|p| p.is_caught_up)
        });
        enough.await;
        projector.kill().await;
    }
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projectors_give_the_same_index() {
    two_projectors(Rig::embedded(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projectors_give_the_same_index_on_servers() {
    two_projectors(Rig::on_servers(1).await).await;
}

async fn two_projectors(rig: Rig) {
    let store = MoodyStore::new(&rig.store);
    let small = ProjectorSettings { batch_events: 20, ..settings() };
    let start = || Running::start(rig.log.clone(), rig.letters.clone(), store.clone(), small);
    let projectors = [start(), start()];
    rig.append_shuffled(&random_events(600, 20, 8), 9).await;
    rig.projected().await;
    for projector in projectors {
        assert!(projector.stop().await.is_complete);
    }
    rig.assert_index_is_fold_of_log().await;
    let checkpoints = store.checkpoints().await;
    assert!(checkpoints.is_sorted(), "the checkpoint went backwards: {checkpoints:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_events_are_parked_and_the_rest_flows_on() {
    wrong_events_are_parked(Rig::embedded(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_events_are_parked_and_the_rest_flows_on_on_servers() {
    wrong_events_are_parked(Rig::on_servers(2).await).await;
}

async fn wrong_events_are_parked(rig: Rig) {
    let good = random_events(6, 3, 10);
    let json: Vec<String> = good.iter().map(|event| String::from_utf8(encode(event).body).unwrap()).collect();
    let ahead = |minutes: i64| {
        let time = Timestamp::now() + SignedDuration::from_mins(minutes);
        let mut event = good[0].clone();
        event.time = time;
        // An attribute nobody here knows: what is parked is what came, not what was understood.
        String::from_utf8(encode(&event).body).unwrap().replacen('{', r#"{"tenantregion":"eu", "#, 1)
    };
    let wrong_field = json[0].replacen("\"has_refresh_token\":", "\"has_refresh_token\":7, \"was\":", 1);
    let (too_far, just_so) = (ahead(6), ahead(4));
    rig.append_text(0, &json[0]).await;
    rig.append_text(0, "not json").await;
    rig.append_text(0, &wrong_field).await;
    rig.append_text(1, &too_far).await;
    rig.append_text(1, &just_so).await;
    let batch = format!("[{},{too_far},{wrong_field},{}]", json[1], json[2]);
    rig.append_raw(1, BATCH_CONTENT_TYPE, batch.as_bytes()).await;
    rig.append_raw(0, "text/plain", b"hello").await;
    rig.append_text(0, &json[3]).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    let report = projector.stop().await;

    let expected = BTreeMap::from([("content_type", 1), ("field", 2), ("not_json", 1), ("time_ahead", 2)]);
    assert_eq!((report.events_applied, &report.refused), (5, &expected));
    let parked = rig.parked().await;
    let mut found: Vec<_> = parked.iter().map(|l| (l.id.as_str(), l.reason.as_str(), l.raw.as_slice())).collect();
    found.sort_unstable();
    let expected = [
        ("0-1", "not_json", b"not json".as_slice()),
        ("0-2", "field", wrong_field.as_bytes()),
        ("0-3", "content_type", b"hello"),
        ("1-0", "time_ahead", too_far.as_bytes()),
        ("1-2-1", "time_ahead", too_far.as_bytes()),
        ("1-2-2", "field", wrong_field.as_bytes()),
    ];
    assert_eq!(found, expected);
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_down_pauses_the_projector_and_parks_nothing() {
    let rig = Rig::embedded(2).await;
    let store = MoodyStore::new(&rig.store);
    let mut projector = Running::start(rig.log.clone(), rig.letters.clone(), store.clone(), settings());
    projector.until(|status| status.partitions.len() == 2 && status.is_ready()).await;
    for mood in [Mood::Fails, Mood::WorksAndFails] {
        store.moods.becomes(mood);
        rig.append_shuffled(&random_events(100, 10, 11), 12).await;
        let paused = |status: &consumer::projector::PartitionStatus| {
            status.state == PartitionState::Paused { why: "moody://: it is not in the mood".to_owned() }
        };
        projector.until_partition(0, paused).await;
        let status = projector.until_partition(1, paused).await;
        assert!(!projector.status.borrow().is_ready() && status.last_error.is_some());
        store.moods.becomes(Mood::Works);
        rig.projected().await;
        projector.until(|status| status.is_ready()).await;
    }
    projector.stop().await;
    assert!(rig.parked().await.is_empty());
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_cannot_be_parked_hold_the_checkpoint() {
    let rig = Rig::embedded(1).await;
    let letters = MoodyLetters::new(&rig.letters);
    letters.moods.becomes(Mood::Fails);
    rig.append_shuffled(&random_events(20, 5, 13), 14).await;
    let before = rig.ends().await[&0];
    let one_by_one = ProjectorSettings { batch_events: 1, ..settings() };
    let mut projector = Running::start(rig.log.clone(), letters.clone(), rig.store.clone(), one_by_one);
    rig.append_text(0, "not json").await;
    rig.append_shuffled(&random_events(20, 5, 15), 16).await;
    let paused = |status: &consumer::projector::PartitionStatus| {
        matches!(status.state, PartitionState::Paused { .. }) && status.next_offset == before
    };
    projector.until_partition(0, paused).await;
    assert_eq!(rig.checkpoint(0).await, before, "nothing after the letter is done before the letter is parked");
    letters.moods.becomes(Mood::WorksAndFails);
    testkit::wait_until(PATIENCE, || async { !rig.parked().await.is_empty() }).await;
    assert_eq!(rig.checkpoint(0).await, before);
    letters.moods.becomes(Mood::Works);
    rig.projected().await;
    projector.stop().await;
    assert!(rig.parked().await.iter().all(|letter| letter.raw == b"not json"));
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_comes_and_goes_is_read_to_its_end() {
    let rig = Rig::embedded(2).await;
    let log = MoodyLog::new(&rig.log);
    log.moods.becomes(Mood::Fails);
    let mut projector = Running::start(log.clone(), rig.letters.clone(), rig.store.clone(), settings());
    projector.until(|status| status.trouble.is_some()).await;
    for seed in 20..26 {
        log.moods.becomes(Mood::Works);
        rig.append_shuffled(&random_events(50, 10, seed), seed).await;
        rig.projected().await;
        log.moods.becomes(if seed % 2 == 0 { Mood::Fails } else { Mood::WorksAndFails });
        projector.until_partition(0, |status| matches!(status.state, PartitionState::Paused { .. })).await;
        rig.append_shuffled(&random_events(50, 10, seed), seed).await;
    }
    log.moods.becomes(Mood::Works);
    rig.projected().await;
    projector.until(|status| status.is_ready()).await;
    projector.stop().await;
    assert!(rig.parked().await.is_empty());
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_ahead_is_bounded_in_bytes() {
    let rig = Rig::embedded(1).await;
    let long = "x".repeat(900_000);
    for _ in 0..12 {
        rig.append_raw(0, SINGLE_CONTENT_TYPE, long.as_bytes()).await;
    }
    let (log, store) = (MoodyLog::new(&rig.log), MoodyStore::new(&rig.store));
    store.moods.becomes(Mood::Hangs);
    let held_bytes = 4 * MAX_BODY_BYTES;
    let bounded = ProjectorSettings { held_bytes, batch_events: 1, ..settings() };
    let mut projector = Running::start(log.clone(), rig.letters.clone(), store.clone(), bounded);
    // The first message is under way, and three more fit: with a fourth there might be one that does not.
    let full = projector.until_partition(0, |status| status.held_bytes > 3 * 900_000).await;
    tokio::time::timeout(PATIENCE, store.moods.hangs()).await.expect("the first message is under way");
    assert!(full.held_bytes <= held_bytes, "{full:?}");
    assert_eq!(log.given_bytes.load(SeqCst), full.held_bytes, "and nothing is held that is not counted");
    store.moods.becomes(Mood::Works);
    rig.projected().await;
    assert_eq!(projector.until_partition(0, |status| status.is_caught_up).await.held_bytes, 0);
    projector.stop().await;
    assert_eq!(rig.parked().await.len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_finishes_what_was_read() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(100, 10, 30), 31).await;
    let store = MoodyStore::new(&rig.store);
    store.moods.becomes(Mood::IsSlow(Duration::from_millis(300)));
    let mut projector = Running::start(rig.log.clone(), rig.letters.clone(), store.clone(), settings());
    let read = projector.until_partition(0, |status| status.held_bytes > 0).await;
    assert_eq!(read.next_offset, 0, "it is read and not yet applied");
    let report = projector.stop().await;
    assert!(report.is_complete && report.events_applied > 0, "{report:?}");
    assert_eq!(rig.checkpoint(0).await, report.next_offsets[&0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_ever() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(10, 10, 32), 33).await;
    let store = MoodyStore::new(&rig.store);
    store.moods.becomes(Mood::Hangs);
    let brief = ProjectorSettings { shutdown_grace: Duration::from_millis(300), ..settings() };
    let projector = Running::start(rig.log.clone(), rig.letters.clone(), store.clone(), brief);
    tokio::time::timeout(PATIENCE, store.moods.hangs()).await.expect("it applies");
    let began = Instant::now();
    let report = projector.stop().await;
    assert!(!report.is_complete && began.elapsed() < Duration::from_secs(5), "{report:?} in {:?}", began.elapsed());
    assert_eq!(rig.checkpoint(0).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_before_the_checkpoint_ends_the_projector_with_a_text() {
    let rig = Rig::embedded(2).await;
    rig.append_shuffled(&random_events(50, 10, 34), 35).await;
    let ends = rig.ends().await;
    rig.store.store_checkpoint(0, Checkpoint::at(1)).await.unwrap();
    rig.cut_log().await;
    let projector = rig.projector(settings());
    let mut status = projector.status.clone();
    let error = projector.ended().await.unwrap_err();
    let ProjectorError::Gap(gap) = &error;
    assert_eq!((gap.partition, gap.asked, gap.bounds.first, gap.is_cut()), (0, 1, ends[&0], true));
    let expected = gap.to_string();
    let place =
        format!("partition 0 has offsets {0} to {0} and the index stands at 1: part of the log is gone. ", ends[&0]);
    assert!(expected.starts_with(&place), "{expected}");
    let status = status.wait_for(|_| true).await.unwrap();
    assert!(!status.is_ready());
    assert_eq!(status.partitions[&0].state, PartitionState::Stopped { why: Some(expected) });
    assert_eq!(rig.checkpoint(0).await, 1, "nothing is skipped in silence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_added_later_is_followed() {
    let rig = Rig::embedded(1).await;
    let mut projector = rig.projector(settings());
    projector.until(|status| status.is_ready()).await;
    rig.grow_log(3).await;
    projector.until(|status| status.partitions.len() == 3 && status.is_ready()).await;
    rig.append_shuffled(&random_events(60, 10, 36), 37).await;
    rig.projected().await;
    projector.stop().await;
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_how_far_the_index_is_behind() {
    let rig = Rig::embedded(1).await;
    let event = random_events(1, 1, 38).remove(0);
    rig.log.append(0, std::slice::from_ref(&event)).await.unwrap();
    let mut projector = rig.projector(settings());
    let status = projector.until_partition(0, |status| status.events_applied == 1).await;
    assert_eq!((status.newest_event, status.next_offset, status.batches), (Some(event.time), 1, 1));
    let behind = common::event::to_microseconds(Timestamp::now()).duration_since(event.time);
    assert!(status.is_caught_up || status.lag(event.time + behind) == behind);
    let status = projector.until_partition(0, |status| status.is_caught_up).await;
    assert_eq!(status.lag(Timestamp::now()), SignedDuration::ZERO);
    projector.stop().await;
}
