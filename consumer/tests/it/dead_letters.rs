//! What cannot be applied is kept, once and with its reason; it can be looked at, sent again and dropped.

use std::collections::BTreeMap;

use common::account::TenantId;
use common::event::{Activity, ActivityEvent, ContractError, Refused, encode};
use common::log::{DeadLetter, LetterQueue, ParkLetters as _, RabbitMqLog, RabbitMqOptions};
use consumer::dead_letters::{
    Dropping, LetterFilter, RedriveError, RedriveSettings, drop_letters, find, first, redrive, summarize,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use testkit::conformance::log::sample_events;
use testkit::poison::poison;
use testkit::servers::Vhost;

use crate::faults::{Mood, MoodyLog};
use crate::program::{Servers, text};
use crate::rig::{Rig, random_events, settings};

const DEAD: LetterQueue = LetterQueue::Dead;

#[tokio::test(flavor = "multi_thread")]
async fn poison_of_every_kind_is_parked_once_and_all_good_events_are_projected() {
    poison_of_every_kind(Rig::embedded(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_of_every_kind_is_parked_once_and_all_good_events_are_projected_on_servers() {
    poison_of_every_kind(Rig::on_servers(2).await).await;
}

async fn poison_of_every_kind(rig: Rig) {
    let good = random_events(2_000, 100, 60);
    let mut expected: BTreeMap<(Option<usize>, &str), usize> = BTreeMap::new();
    let messages: Vec<_> = (0..200).map(poison).collect();
    for (number, (poison, good)) in messages.iter().zip(good.chunks(10)).enumerate() {
        let partition = u32::try_from(number % 2).unwrap();
        rig.append_raw(partition, poison.message.content_type, &poison.message.body).await;
        rig.log.append(partition, good).await.unwrap();
        for (index, reason) in &poison.refused {
            *expected.entry((*index, *reason)).or_default() += 1;
        }
    }
    let projector = rig.projector(settings());
    rig.projected().await;
    let report = projector.stop().await;

    let letters: usize = expected.values().sum();
    let in_batches: usize = messages.iter().map(|poison| poison.good.len()).sum();
    assert_eq!(report.events_applied, u64::try_from(good.len() + in_batches).unwrap());
    rig.assert_index_is_fold_of_log().await;
    let summary = summarize(rig.letters.as_ref(), DEAD).await.unwrap();
    assert_eq!((summary.letters, summary.copies), (u64::try_from(letters).unwrap(), 0));
    let parked = first(rig.letters.as_ref(), DEAD, &LetterFilter::default(), 10_000).await.unwrap();
    let mut found: BTreeMap<(Option<usize>, &str), usize> = BTreeMap::new();
    for (letter, _) in &parked {
        *found.entry((letter.index, &letter.reason)).or_default() += 1;
    }
    assert_eq!(found, expected);
}

fn letter(offset: u64, event: &ActivityEvent) -> DeadLetter {
    let error = ContractError::TimeAhead { seconds: 600 };
    let refused = Refused { index: Some(1), error, raw: encode(event).body };
    DeadLetter { partition: 0, offset, content_type: None, refused }
}

fn hopeless(offset: u64) -> DeadLetter {
    let error = ContractError::NotJson { line: 1, column: 2 };
    DeadLetter { partition: 0, offset, content_type: None, refused: Refused { index: None, error, raw: b"{".to_vec() } }
}

fn everything() -> RedriveSettings {
    let filter = LetterFilter::default();
    RedriveSettings { queue: DEAD, filter, limit: None, rate: None, is_rehearsal: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_good_by_now_is_brought_back_and_the_rest_stays() {
    what_is_good_by_now_is_brought_back(Rig::embedded(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_good_by_now_is_brought_back_and_the_rest_stays_on_servers() {
    what_is_good_by_now_is_brought_back(Rig::on_servers(2).await).await;
}

async fn what_is_good_by_now_is_brought_back(rig: Rig) {
    let mut events = sample_events(12);
    events[11].time = Timestamp::now() + SignedDuration::from_hours(1);
    let letters: Vec<DeadLetter> = (0..).zip(&events).map(|(offset, event)| letter(offset, event)).collect();
    rig.letters.park(&letters).await.unwrap();
    // As a projector does that died before its checkpoint.
    rig.letters.park(&letters[..3]).await.unwrap();
    rig.letters.park(&[hopeless(20)]).await.unwrap();

    let rehearsal = RedriveSettings { is_rehearsal: true, ..everything() };
    let told = redrive(rig.log.as_ref(), rig.letters.as_ref(), &rehearsal).await.unwrap();
    assert_eq!(rig.ends().await.values().sum::<u64>(), 0, "a rehearsal appends nothing");
    let few = RedriveSettings { limit: Some(4), ..everything() };
    let report = redrive(rig.log.as_ref(), rig.letters.as_ref(), &few).await.unwrap();
    assert_eq!((report.letters.len(), report.is_limited), (4, true));
    let so_far = report.redriven;
    let report = redrive(rig.log.as_ref(), rig.letters.as_ref(), &everything()).await.unwrap();
    let refused = BTreeMap::from([("not_json", 1), ("time_ahead", 1)]);
    assert_eq!((so_far + report.redriven, so_far + report.events, report.left), (11, 11, 0));
    assert_eq!(report.refused, refused);
    assert_eq!((told.redriven, told.events, &told.refused), (11, 11, &refused), "it told what happened");
    let mut stays: Vec<_> = report.letters.iter().filter(|fate| fate.refused.is_some()).map(|fate| &fate.id).collect();
    stays.sort();
    assert_eq!(stays, ["0-11-1", "0-20"]);
    let again = redrive(rig.log.as_ref(), rig.letters.as_ref(), &everything()).await.unwrap();
    assert_eq!((again.redriven, &again.refused), (0, &refused), "twice is as once");

    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    rig.assert_index_is_fold_of_log().await;
    assert_eq!(rig.store.counts(None).await.unwrap().listed, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_breaks_off_loses_nothing_and_can_be_repeated() {
    redrive_breaks_off(Rig::embedded(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_breaks_off_loses_nothing_and_can_be_repeated_on_servers() {
    redrive_breaks_off(Rig::on_servers(1).await).await;
}

async fn redrive_breaks_off(rig: Rig) {
    let events = sample_events(250);
    let letters: Vec<DeadLetter> = (0..).zip(&events).map(|(offset, event)| letter(offset, event)).collect();
    rig.letters.park(&letters).await.unwrap();
    let log = MoodyLog::new(&rig.log);
    // The first group of letters is appended and taken out; of the second nobody learns that it was appended.
    for mood in [Mood::FailsAfter(1), Mood::WorksAndFailsAfter(1)] {
        log.appends.becomes(mood);
        let error = redrive(log.as_ref(), rig.letters.as_ref(), &everything()).await.unwrap_err();
        assert!(matches!(error, RedriveError::Append { redriven: 100, .. }), "{error:?}");
    }
    let report = redrive(rig.log.as_ref(), rig.letters.as_ref(), &everything()).await.unwrap();
    assert_eq!(report.redriven, 50);
    assert_eq!(rig.parked().await, []);
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    rig.assert_index_is_fold_of_log().await;
    assert_eq!(rig.store.counts(None).await.unwrap().listed, 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_letters_that_are_meant_are_redriven_or_dropped() {
    let rig = Rig::embedded(1).await;
    let mut events = sample_events(2);
    let Activity::UserActivity(details) = &mut events[0].activity else { panic!("user activity") };
    details.tenant_id = Some(TenantId::new("contoso").unwrap());
    rig.letters.park(&[letter(0, &events[0]), letter(1, &events[1]), hopeless(2)]).await.unwrap();
    let with = |filter: LetterFilter| RedriveSettings { filter, ..everything() };
    let none = with(LetterFilter { since: Some(Timestamp::MAX), ..LetterFilter::default() });
    let report = redrive(rig.log.as_ref(), rig.letters.as_ref(), &none).await.unwrap();
    assert_eq!((report.redriven, report.left), (0, 3));
    let tenant = LetterFilter { tenant: Some(TenantId::new("contoso").unwrap()), ..LetterFilter::default() };
    let report = redrive(rig.log.as_ref(), rig.letters.as_ref(), &with(tenant)).await.unwrap();
    assert_eq!((report.redriven, report.left), (1, 2));
    assert_eq!(report.letters[0].id, "0-0-1");

    let reason = LetterFilter { reason: Some("not_json".to_owned()), ..LetterFilter::default() };
    for (dropping, left) in [(Dropping::Rehearsal, 2), (Dropping::ForGood, 1)] {
        let report = drop_letters(rig.letters.as_ref(), DEAD, &reason, dropping).await.unwrap();
        assert_eq!((report.dropped, report.left), (1, 1));
        assert_eq!(rig.parked().await.len(), left);
    }
    assert!(find(rig.letters.as_ref(), DEAD, "0-2").await.unwrap().is_none());
    assert!(find(rig.letters.as_ref(), DEAD, "0-1-1").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_parked_twice_is_shown_once() {
    let rig = Rig::on_servers(1).await;
    rig.letters.park(&[hopeless(1), hopeless(2)]).await.unwrap();
    rig.letters.park(&[hopeless(1), hopeless(3)]).await.unwrap();
    let summary = summarize(rig.letters.as_ref(), DEAD).await.unwrap();
    assert_eq!((summary.letters, summary.copies), (3, 1));
    assert_eq!(summary.reasons[0].letters, 3);
    let listed = first(rig.letters.as_ref(), DEAD, &LetterFilter::default(), 2).await.unwrap();
    assert_eq!(listed.len(), 2);
    let id = LetterFilter { id: Some("0-1".to_owned()), ..LetterFilter::default() };
    drop_letters(rig.letters.as_ref(), DEAD, &id, Dropping::ForGood).await.unwrap();
    let mut left: Vec<String> = rig.parked().await.into_iter().map(|letter| letter.id).collect();
    left.sort();
    assert_eq!(left, ["0-2", "0-3"], "and its copy went with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_stream_took_is_brought_to_one() {
    let rig = Rig::on_servers(1).await;
    let event = sample_events(1).remove(0);
    let encoded = encode(&event);
    rig.append_raw(9, encoded.content_type, &encoded.body).await;
    let unrouted = RedriveSettings { queue: LetterQueue::Unrouted, ..everything() };
    let summary = summarize(rig.letters.as_ref(), LetterQueue::Unrouted).await.unwrap();
    assert_eq!((summary.letters, summary.reasons[0].reason.as_str()), (1, "unrouted"));
    let report = redrive(rig.log.as_ref(), rig.letters.as_ref(), &unrouted).await.unwrap();
    assert_eq!((report.redriven, report.events), (1, 1));
    assert_eq!(summarize(rig.letters.as_ref(), LetterQueue::Unrouted).await.unwrap().letters, 0);
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    assert!(rig.store.get(&event.subject).await.unwrap().unwrap().is_listed());
}

#[tokio::test]
async fn letters_are_looked_at_redriven_and_dropped_by_command() {
    let vhost = Vhost::fresh().await;
    let servers = Servers { log: Some(vhost.amqp_url()), ..Servers::default() };
    servers.json(&["topology", "--apply", "--json"]).await;
    let log = RabbitMqLog::connect(&RabbitMqOptions::new(vhost.amqp_url().parse().unwrap())).unwrap();
    let event = random_event_of("alice@contoso.com");
    log.park(&[letter(7, &event), hopeless(8)]).await.unwrap();

    let summary = servers.json(&["dead", "list", "--json"]).await;
    assert_eq!((&summary["letters"], &summary["reasons"][0]["letters"]), (&json!(2), &json!(1)));
    let listed = servers.json(&["dead", "list", "--reason", "not_json", "--json"]).await;
    assert_eq!((&listed[0]["id"], &listed[0]["bytes"]), (&json!("0-8"), &json!(1)));
    let shown = text(&servers.run(&["dead", "show", "0-7-1"]).await.stdout);
    assert!(shown.contains("time_ahead") && !shown.contains("alice"), "{shown}");
    let shown = text(&servers.run(&["dead", "show", "0-7-1", "--unmasked"]).await.stdout);
    assert!(shown.contains("alice@contoso.com"), "{shown}");

    let told = servers.json(&["dead", "redrive", "--dry-run", "--json"]).await;
    let done = servers.json(&["dead", "redrive", "--rate", "1000", "--json"]).await;
    assert_eq!(told, done);
    assert_eq!((&done["redriven"], &done["refused"]["not_json"]), (&json!(1), &json!(1)));
    let careless = servers.run(&["dead", "drop", "--all"]).await;
    assert_eq!(careless.status.code(), Some(2));
    assert!(text(&careless.stderr).contains("drops 1 letters for good"), "{}", text(&careless.stderr));
    let dropped = servers.json(&["dead", "drop", "--all", "--yes", "--json"]).await;
    assert_eq!(dropped, json!({"dropped": 1, "left": 0}));
}

fn random_event_of(username: &str) -> ActivityEvent {
    let mut event = sample_events(1).remove(0);
    if let Activity::UserActivity(details) = &mut event.activity {
        details.username = Some(username.parse().unwrap());
    }
    event
}
