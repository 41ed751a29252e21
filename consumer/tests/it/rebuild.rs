//! A new generation of the index is made beside the live one while it is written and asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use common::account::CacheKey;
use common::event::{Activity, ActivityEvent, EventDraft, EventSource};
use common::index::{AccountActivity, Filter, Generations, ListRequest, Query};
use consumer::rebuild::{Rebuild, RebuildError, RebuildReport, RebuildSettings};
use consumer::verify::{Verify, VerifySettings};
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

use crate::rig::{PATIENCE, Rig, details, random_events, settings};

/// As it is set by default, but impatient.
pub(crate) fn rebuild_settings() -> RebuildSettings {
    RebuildSettings {
        accounts_at_once: 7,
        heartbeat: Duration::from_millis(50),
        dead_after: Duration::from_millis(500),
        grace: Duration::from_millis(50),
        retry: settings().retry,
        ..RebuildSettings::default()
    }
}

pub(crate) fn rebuild_of(rig: &Rig) -> Rebuild {
    Rebuild::new(rig.log.clone(), rig.generations.clone(), rebuild_settings())
}

pub(crate) async fn rebuild(rig: &Rig) -> Result<RebuildReport, RebuildError> {
    let rebuild = rebuild_of(rig);
    let work = rebuild.run(&|_| {}, CancellationToken::new());
    tokio::time::timeout(PATIENCE, work).await.expect("a rebuild comes to its end")
}

/// Checks all accounts, and gives how many differ.
pub(crate) async fn differences(rig: &Rig) -> u64 {
    let verify = Verify::new(rig.log.clone(), rig.generations.clone(), VerifySettings::default());
    let report = verify.run(&|_| {}).await.unwrap();
    assert!(report.checked > 0);
    report.found()
}

/// The user is there, in each of them.
pub(crate) fn activities(accounts: std::ops::Range<usize>) -> Vec<ActivityEvent> {
    let mut random = StdRng::seed_from_u64(60);
    let source = EventSource::new("/apps/test").unwrap();
    let draft = |account| {
        let details = details(account, &mut random);
        let key = CacheKey::new(details.home_account_id.as_str()).unwrap();
        EventDraft::new(source.clone(), key, Activity::UserActivity(details)).at(Timestamp::now())
    };
    accounts.map(draft).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_under_writes_and_queries_gives_the_fold() {
    under_writes_and_queries(Rig::embedded(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_under_writes_and_queries_gives_the_fold_on_servers() {
    under_writes_and_queries(Rig::on_servers(2).await).await;
}

async fn under_writes_and_queries(rig: Rig) {
    let rig = Arc::new(rig);
    rig.append_shuffled(&activities(0..50), 61).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = tokio::spawn({
        let (rig, done) = (rig.clone(), done.clone());
        async move {
            let mut next = 50;
            while !done.load(SeqCst) {
                rig.append_shuffled(&activities(next..next + 10), 62).await;
                next += 10;
            }
        }
    });
    let reader = tokio::spawn({
        let (rig, done, asked) = (rig.clone(), done.clone(), asked.clone());
        async move {
            while !done.load(SeqCst) {
                assert_whole(&rig).await;
                asked.fetch_add(1, SeqCst);
            }
        }
    });
    for round in 1..=3 {
        let report = rebuild(&rig).await.unwrap();
        assert_eq!((report.generation, report.replaced, report.is_resumed), (round + 1, round, false));
        assert!(report.events >= 50 && report.comparison.compared >= 50, "{report:?}");
        assert_eq!(differences(&rig).await, 0);
    }
    done.store(true, SeqCst);
    writer.await.unwrap();
    reader.await.unwrap();
    assert!(asked.load(SeqCst) > 3, "somebody asked meanwhile");
    rig.projected().await;
    projector.stop().await;
    rig.assert_index_is_fold_of_log().await;
    assert_eq!(differences(&rig).await, 0);
    let Generations { live, retired, building, dropping, .. } = rig.generations.generations().await.unwrap();
    assert_eq!((live, retired, building, &*dropping), (4, Some(3), None, &[][..]));
}

/// The fifty accounts that were there before are there.
async fn assert_whole(rig: &Rig) {
    assert!(rig.store.counts(None).await.unwrap().listed >= 50);
    let request = ListRequest {
        query: Query::IdleSince(Timestamp::MAX),
        filter: Filter::default(),
        limit: ListRequest::MAX_LIMIT,
        cursor: None,
    };
    assert!(rig.store.list(&request).await.unwrap().accounts.len() >= 50);
    let key = CacheKey::new("user-7.tenant").unwrap();
    assert!(rig.store.get(&key).await.unwrap().is_some());
    assert!(rig.store.checkpoint(0).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_heals_what_is_wrong_and_a_rollback_catches_up() {
    heals_and_rolls_back(Rig::embedded(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_heals_what_is_wrong_and_a_rollback_catches_up_on_servers() {
    heals_and_rolls_back(Rig::on_servers(2).await).await;
}

async fn heals_and_rolls_back(rig: Rig) {
    let events = random_events(100, 20, 63);
    rig.append_shuffled(&events, 64).await;
    let mut projector = rig.projector(settings());
    rig.projected().await;
    let (wrong, gone) = (&events[0].subject, &events.iter().find(|e| e.subject != events[0].subject).unwrap().subject);
    rig.tamper(wrong, Some(&AccountActivity::nothing_about(wrong.clone()))).await;
    rig.tamper(gone, None).await;
    let mut extra = AccountActivity::of(&activities(0..1)[0]);
    extra.cache_key = CacheKey::new("extra").unwrap();
    rig.tamper(&extra.cache_key, Some(&extra)).await;
    assert_eq!(differences(&rig).await, 3);
    let report = rebuild(&rig).await.unwrap();
    let comparison = report.comparison;
    assert_eq!((comparison.only_before, comparison.only_after, comparison.different), (1, 1, 1), "{comparison:?}");
    assert_eq!(differences(&rig).await, 0);
    rig.assert_index_is_fold_of_log().await;

    // The projector notices, leaves the old one, and comes back to it.
    rig.append_shuffled(&random_events(50, 20, 65), 66).await;
    rig.projected().await;
    let back = rebuild_of(&rig).roll_back().await.unwrap();
    assert_eq!((back.live, back.retired), (report.replaced, Some(report.generation)));
    rig.projected().await;
    projector.until(|status| status.is_ready()).await;
    assert!((1..=3).contains(&differences(&rig).await), "what was wrong in it is, where no event has come since");
    assert!(rig.store.get(&extra.cache_key).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rebuild_at_a_time_and_a_dead_one_is_gone_on_with() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(50, 20, 67), 68).await;
    let generations = rig.generations.clone();
    let from = generations.generations().await.unwrap();
    let to = from.begun("another", Default::default(), Timestamp::now());
    assert!(generations.change(&from, &to).await.unwrap());
    let alive = CancellationToken::new();
    let beating = tokio::spawn({
        let (generations, alive) = (generations.clone(), alive.clone());
        async move {
            let mut beats = tokio::time::interval(Duration::from_millis(20));
            while alive.run_until_cancelled(beats.tick()).await.is_some() {
                let from = generations.generations().await.unwrap();
                generations.change(&from, &from.beaten("another")).await.unwrap();
            }
        }
    });
    let refused = rebuild(&rig).await.unwrap_err();
    assert!(matches!(&refused, RebuildError::AlreadyRunning { builder, .. } if builder == "another"), "{refused}");
    alive.cancel();
    beating.await.unwrap();
    let report = rebuild(&rig).await.unwrap();
    assert!(report.is_resumed);
    assert_eq!(report.generation, to.building.unwrap().number);
    assert_eq!(generations.generations().await.unwrap().live, report.generation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_cancelled_ends_and_leaves_nothing() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(50, 20, 69), 70).await;
    assert!(matches!(rebuild_of(&rig).cancel().await, Err(RebuildError::NoneUnderWay)));
    assert!(matches!(rebuild_of(&rig).roll_back().await, Err(RebuildError::NothingKept)));
    assert!(matches!(rebuild_of(&rig).drop_kept().await, Err(RebuildError::NothingKept)));
    let slow = Rebuild::new(
        rig.log.clone(),
        rig.generations.clone(),
        RebuildSettings { grace: PATIENCE, ..rebuild_settings() },
    );
    let cancelling = async {
        testkit::wait_until(PATIENCE, || async { rig.generations.generations().await.unwrap().building.is_some() })
            .await;
        rebuild_of(&rig).cancel().await
    };
    let (built, cancelled) = tokio::join!(slow.run(&|_| {}, CancellationToken::new()), cancelling);
    // Either it was cancelled in time, or it had swapped by then and there was nothing to cancel.
    match cancelled {
        Ok(()) => assert!(built.is_err()),
        Err(error) => panic!("{error}"),
    }
    let generations = rig.generations.generations().await.unwrap();
    assert_eq!((generations.live, generations.building, &*generations.dropping), (1, None, &[][..]));
    assert!(rig.generations.generation(2).scan(None, 10).await.unwrap().accounts.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generation_that_is_kept_is_dropped_when_asked() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(50, 20, 71), 72).await;
    for _ in 0..2 {
        rebuild(&rig).await.unwrap();
    }
    assert_eq!(rig.generations.generations().await.unwrap().retired, Some(2));
    rebuild_of(&rig).drop_kept().await.unwrap();
    assert!(rig.generations.generation(2).scan(None, 10).await.unwrap().accounts.is_empty());
    assert_eq!(differences(&rig).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_dropped_anywhere_is_gone_on_with() {
    dropped_anywhere(Rig::embedded(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_dropped_anywhere_is_gone_on_with_on_servers() {
    dropped_anywhere(Rig::on_servers(2).await).await;
}

async fn dropped_anywhere(rig: Rig) {
    rig.append_shuffled(&random_events(300, 40, 73), 74).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    let mut checkpoints = Vec::new();
    for steps in [1, 2, 4, 8, 16, 32] {
        // A kill: neither the builder nor what it had begun says goodbye.
        let killed = CancellationToken::new();
        let left = AtomicU64::new(steps);
        let count = |_: &_| {
            if left.fetch_sub(1, SeqCst) == 1 {
                killed.cancel();
            }
        };
        let rebuild = rebuild_of(&rig);
        tokio::select! {
            biased;
            () = killed.cancelled() => {}
            report = rebuild.run(&count, CancellationToken::new()) => { report.unwrap(); }
        }
        checkpoints.push(rig.checkpoint(0).await);
    }
    let report = rebuild(&rig).await.unwrap();
    assert!(report.generation >= 2);
    checkpoints.push(rig.checkpoint(0).await);
    assert!(checkpoints.is_sorted(), "{checkpoints:?}");
    projector.stop().await;
    rig.assert_index_is_fold_of_log().await;
    assert_eq!(differences(&rig).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_told_to_stop_is_gone_on_with_at_once() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(50, 20, 75), 76).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = rebuild_of(&rig).run(&|_| {}, stop).await;
    assert!(matches!(stopped, Err(RebuildError::Interrupted)), "{stopped:?}");
    let patient = RebuildSettings { dead_after: 10 * PATIENCE, ..rebuild_settings() };
    let rebuild = Rebuild::new(rig.log.clone(), rig.generations.clone(), patient);
    let work = rebuild.run(&|_| {}, CancellationToken::new());
    let report = tokio::time::timeout(PATIENCE, work).await.expect("nobody is waited for").unwrap();
    assert!(report.is_resumed);
}
