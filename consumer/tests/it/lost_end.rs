//! A log that has lost its end, as a broker may that is killed before it syncs: what takes the offsets is not passed over.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::event::{ActivityEvent, to_microseconds};
use common::index::ActivityStore;
use common::log::{ActivityLog, RabbitMqLog, RabbitMqOptions};
use consumer::projector::ProjectorError;
use consumer::verify::{Verify, VerifyReport, VerifySettings};
use jiff::{SignedDuration, Timestamp};
use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};
use testkit::servers::{KeyPrefix, PrivateRabbitMq};

use crate::rebuild::{activities, rebuild};
use crate::rig::{PATIENCE, Raw, Rig, Running, redis_index, settings};

/// Accounts, and so events, of a message.
const EVENTS: usize = 3;
/// Messages that are applied.
const APPLIED: usize = 10;
/// Of them, those that the log still has after it has lost its end.
const KEPT: usize = 6;

/// The events of a message, which no other one names an account of.
fn message(number: usize) -> Vec<ActivityEvent> {
    let mut events = activities(number * EVENTS..(number + 1) * EVENTS);
    // What the log keeps of a time.
    events.iter_mut().for_each(|event| event.time = to_microseconds(event.time));
    events
}

async fn append(log: &dyn ActivityLog, messages: &[Vec<ActivityEvent>]) {
    for events in messages {
        log.append(0, events).await.unwrap();
    }
}

/// A log of which all is applied.
async fn applied(rig: &Rig) -> Vec<Vec<ActivityEvent>> {
    let messages: Vec<_> = (0..APPLIED).map(message).collect();
    append(&*rig.log, &messages).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    messages
}

/// Leaves the log the first `kept` messages.
async fn lose_end(rig: &Rig, messages: &[Vec<ActivityEvent>], kept: usize) {
    match &rig.raw {
        Raw::File { database, .. } => {
            let kept = i64::try_from(kept).unwrap();
            for statement in
                ["DELETE FROM log_message WHERE message_offset >= ?", "UPDATE log_partition SET next_offset = ?"]
            {
                sqlx::query(statement).bind(kept).execute(database.writer()).await.unwrap();
            }
        }
        Raw::Servers { vhost, .. } => {
            let connection = Connection::connect(&vhost.amqp_url(), ConnectionProperties::default()).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            channel.queue_delete("tokencache.activity-0".into(), QueueDeleteOptions::default()).await.unwrap();
            connection.close(200, "bye".into()).await.unwrap();
            let log = RabbitMqLog::connect(&RabbitMqOptions::new(vhost.amqp_url().parse().unwrap())).unwrap();
            log.declare().await.unwrap();
            append(&log, &messages[..kept]).await;
        }
    }
}

/// Whether the index has what each event says. No two are about one account.
async fn knows(store: &dyn ActivityStore, messages: &[Vec<ActivityEvent>]) -> bool {
    for event in messages.iter().flatten() {
        let account = store.get(&event.subject).await.unwrap();
        if account.and_then(|account| account.last_activity) != Some(event.time) {
            return false;
        }
    }
    true
}

/// Waits until the index has all of the messages.
async fn comes_to_know(rig: &Rig, messages: &[Vec<ActivityEvent>]) {
    testkit::wait_until(PATIENCE, || knows(&*rig.store, messages)).await;
}

async fn verify(rig: &Rig) -> VerifyReport {
    Verify::new(rig.log.clone(), rig.generations.clone(), VerifySettings::default()).run(&|_| {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_the_offsets_of_lost_messages_is_applied() {
    for more in [2, APPLIED - KEPT, 6] {
        lost_offsets_are_applied(Rig::embedded(1).await, more).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_the_offsets_of_lost_messages_is_applied_on_servers() {
    for more in [2, 6] {
        lost_offsets_are_applied(Rig::on_servers(1).await, more).await;
    }
}

/// The log ends before, at or after the checkpoint when the projector comes back.
async fn lost_offsets_are_applied(rig: Rig, more: usize) {
    let before = applied(&rig).await;
    lose_end(&rig, &before, KEPT).await;
    let after: Vec<_> = (APPLIED..APPLIED + more).map(message).collect();
    append(&*rig.log, &after).await;
    let lost = ((APPLIED - KEPT) * EVENTS) as u64;
    let report = verify(&rig).await;
    assert_eq!((report.extra, report.found()), (lost, lost), "what is not applied yet is no difference: {report:?}");

    let mut projector = rig.projector(settings());
    comes_to_know(&rig, &after).await;
    projector.until_partition(0, |status| status.lost_ends == 1).await;
    // It is stored after its batch is applied, and never goes backwards.
    let checkpoint = (KEPT + more).max(APPLIED) as u64;
    testkit::wait_until(PATIENCE, async || rig.checkpoint(0).await == checkpoint).await;
    assert_eq!(verify(&rig).await.found(), lost);

    // As relays do after a crash of the broker, and others after that.
    append(&*rig.log, &before[KEPT..]).await;
    append(&*rig.log, &[message(100)]).await;
    rig.projected().await;
    projector.stop().await;
    assert_eq!(verify(&rig).await.found(), 0);
    let mut again = rig.projector(settings());
    append(&*rig.log, &[message(101)]).await;
    rig.projected().await;
    let status = again.until_partition(0, |status| status.events_applied == EVENTS as u64).await;
    assert_eq!(status.lost_ends, 0, "the log has passed its old end");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_minutes_are_read_again() {
    let rig = Rig::embedded(1).await;
    let before = applied(&rig).await;
    let older = "UPDATE log_message SET arrived_at = arrived_at - 3600000000 WHERE message_offset < 4";
    sqlx::query(older).execute(rig.database().writer()).await.unwrap();
    lose_end(&rig, &before, KEPT).await;
    let after: Vec<_> = (APPLIED..APPLIED + 5).map(message).collect();
    append(&*rig.log, &after).await;
    let mut projector = rig.projector(settings());
    comes_to_know(&rig, &after).await;
    let again = ((KEPT - 4 + after.len()) * EVENTS) as u64;
    projector.until_partition(0, |status| status.events_applied == again && status.lost_ends == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_loses_its_end_under_a_projector_is_read_again() {
    let rig = Rig::embedded(1).await;
    let before: Vec<_> = (0..APPLIED).map(message).collect();
    append(&*rig.log, &before).await;
    let mut projector = rig.projector(settings());
    rig.projected().await;
    lose_end(&rig, &before, KEPT).await;
    projector.until_partition(0, |status| status.lost_ends > 0).await;
    let after: Vec<_> = (APPLIED..APPLIED + 8).map(message).collect();
    append(&*rig.log, &after).await;
    comes_to_know(&rig, &after).await;
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_of_a_log_that_has_lost_its_end_has_what_took_the_offsets() {
    let rig = Rig::embedded(1).await;
    let before = applied(&rig).await;
    lose_end(&rig, &before, KEPT).await;
    let after = [message(50)];
    append(&*rig.log, &after).await;
    let report = rebuild(&rig).await.unwrap();
    assert_eq!(report.comparison.only_before, ((APPLIED - KEPT) * EVENTS) as u64);
    rig.assert_index_is_fold_of_log().await;
    // The one before stands after the end, and can be gone back to all the same.
    crate::rebuild::rebuild_of(&rig).roll_back().await.unwrap();
    let projector = rig.projector(settings());
    comes_to_know(&rig, &after).await;
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_made_anew_is_a_gap_even_when_it_has_grown_past_the_checkpoint() {
    made_anew_and_grown(Rig::embedded(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_made_anew_is_a_gap_even_when_it_has_grown_past_the_checkpoint_on_servers() {
    made_anew_and_grown(Rig::on_servers(1).await).await;
}

async fn made_anew_and_grown(rig: Rig) {
    let before = applied(&rig).await;
    lose_end(&rig, &before, 0).await;
    let mut after: Vec<_> = (50..55 + APPLIED).map(message).collect();
    for event in after.iter_mut().flatten() {
        event.time = to_microseconds(Timestamp::now() + SignedDuration::from_secs(10));
    }
    append(&*rig.log, &after).await;
    let ProjectorError::Gap(gap) = rig.projector(settings()).ended().await.unwrap_err();
    assert!(gap.to_string().contains("the log was made anew, or is another one"), "{gap}");
    gap.accept(&*rig.live().await).await.unwrap();
    let projector = rig.projector(settings());
    comes_to_know(&rig, &after).await;
    projector.stop().await;
}

/// The files of the stream are put back as they were some messages earlier, as a machine does that loses power.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_without_its_last_messages_is_read_again() {
    let mut broker = PrivateRabbitMq::start(Default::default()).await;
    let log = RabbitMqLog::connect(&RabbitMqOptions::new(broker.url().parse().unwrap())).unwrap();
    log.declare().await.unwrap();
    let before: Vec<_> = (0..APPLIED).map(message).collect();
    append(&log, &before[..KEPT]).await;
    broker.stop().await;
    let kept = tempfile::tempdir().unwrap();
    copy(&broker.stream_files(), kept.path());
    broker.start_again().await;

    let prefix = KeyPrefix::fresh().await;
    let store = redis_index(prefix.redis_url(), prefix.as_str()).await;
    let projecting = std::sync::Arc::new(log.clone());
    let mut projector = Running::start(projecting.clone(), projecting, store.clone(), settings());
    testkit::wait_until(PATIENCE, || async { append_one(&log, &before[KEPT]).await }).await;
    append(&log, &before[KEPT + 1..]).await;
    projector.until_partition(0, |status| status.next_offset >= APPLIED as u64).await;

    broker.stop().await;
    copy(kept.path(), &broker.stream_files());
    broker.start_again().await;
    let after: Vec<_> = (APPLIED..APPLIED + 8).map(message).collect();
    testkit::wait_until(PATIENCE, || async { append_one(&log, &after[0]).await }).await;
    append(&log, &after[1..]).await;
    let all: Vec<_> = before.into_iter().chain(after).collect();
    projector.until_partition(0, |status| status.lost_ends > 0).await;
    testkit::wait_until(PATIENCE, || knows(&*store, &all)).await;
    assert!(log.bounds(0).await.unwrap().next < all.len() as u64, "the broker has lost messages");
    projector.stop().await;
    tokio::time::timeout(Duration::from_secs(30), log.close()).await.unwrap();
}

async fn append_one(log: &RabbitMqLog, events: &[ActivityEvent]) -> bool {
    log.append(0, events).await.is_ok()
}

/// Makes `to` what `from` is.
fn copy(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).unwrap();
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}
