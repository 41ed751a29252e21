//! Jobs with tokens: many at once, none that harms another, and an end in order.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::event::FailureReason;
use consumer::worker::{AccountOutcome, WorkerSettings};
use testkit::identity_provider::{Fault, User};
use testkit::wait_until;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::rig::{Rig, TENANT, everybody, strict};

const PATIENCE: Duration = Duration::from_secs(60);

async fn rig_of(users: usize) -> Rig {
    let rig = Rig::embedded(strict()).await;
    for number in 0..users {
        let name = format!("user{number}@contoso.com");
        rig.provider.register_user(User::new(TENANT, &name, &name));
        rig.sign_in(&name).await;
    }
    rig
}

fn at_once(number: usize) -> WorkerSettings {
    WorkerSettings { concurrency: NonZeroUsize::new(number).unwrap(), ..WorkerSettings::default() }
}

#[tokio::test]
async fn each_job_has_a_live_token_of_its_own_account() {
    let rig = rig_of(10).await;
    rig.expire();
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let (provider, seen_by_jobs) = (Arc::clone(&rig.provider), Arc::clone(&seen));
    let mut worker = rig.worker(at_once(4));
    let report = worker
        .for_each(&everybody(), CancellationToken::new(), move |account, token| {
            let live = provider.validate(token.expose()).unwrap();
            let username = account.details.as_ref().unwrap().value.username.as_ref().unwrap().to_string();
            assert_eq!(live.username, Some(username.clone()));
            seen_by_jobs.lock().unwrap().insert(username);
            async { Ok::<(), String>(()) }
        })
        .await
        .unwrap();
    assert_eq!((report.accounts, report.hydrated, report.failed), (10, 10, 0), "{report:?}");
    assert_eq!(seen.lock().unwrap().len(), 10);
}

#[tokio::test]
async fn one_job_s_error_panic_or_time_out_ends_no_other() {
    let rig = rig_of(9).await;
    let turn = Arc::new(AtomicUsize::new(0));
    let settings = WorkerSettings { job_time_limit: Duration::from_millis(200), ..at_once(3) };
    let report = rig
        .worker(settings)
        .for_each(&everybody(), CancellationToken::new(), move |_, _| {
            let turn = turn.fetch_add(1, Ordering::SeqCst);
            async move {
                match turn {
                    2 => Err("no"),
                    4 => panic!("on purpose"),
                    6 => std::future::pending().await,
                    _ => Ok(()),
                }
            }
        })
        .await
        .unwrap();
    assert_eq!((report.accounts, report.failed, report.count(AccountOutcome::StillValid)), (9, 3, 6));
    for outcome in [AccountOutcome::JobFailed, AccountOutcome::JobPanicked, AccountOutcome::JobTimedOut] {
        assert_eq!(report.count(outcome), 1, "{outcome:?}");
    }
    assert_eq!(rig.events().await.len(), 0, "what a job does is no matter of the token's");
}

#[tokio::test]
async fn no_more_accounts_are_under_way_than_are_allowed() {
    let rig = rig_of(12).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now_in_jobs, most_in_jobs) = (Arc::clone(&now), Arc::clone(&most));
    let report = rig
        .worker(at_once(3))
        .for_each(&everybody(), CancellationToken::new(), move |_, _| {
            let (now, most) = (Arc::clone(&now_in_jobs), Arc::clone(&most_in_jobs));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<(), String>(())
            }
        })
        .await
        .unwrap();
    assert_eq!(report.accounts, 12);
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn when_told_to_stop_what_was_begun_is_ended_and_nothing_more_is_begun() {
    let rig = rig_of(10).await;
    let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (begun_in_jobs, gate_in_jobs) = (Arc::clone(&begun), Arc::clone(&gate));
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let mut worker = rig.worker(at_once(2));
    let selection = everybody();
    let run = worker.for_each(&selection, shutdown, move |_, _| {
        let (begun, gate) = (Arc::clone(&begun_in_jobs), Arc::clone(&gate_in_jobs));
        async move {
            begun.fetch_add(1, Ordering::SeqCst);
            drop(gate.acquire().await);
            Ok::<(), String>(())
        }
    });
    let stopping = async {
        wait_until(PATIENCE, async || begun.load(Ordering::SeqCst) == 2).await;
        stop.cancel();
        gate.close();
    };
    let (report, ()) = tokio::join!(run, stopping);
    let report = report.unwrap();
    assert!(report.is_cut_short);
    assert_eq!((report.accounts, report.failed), (2, 0), "{report:?}");
}

#[tokio::test]
async fn a_refresh_that_is_under_way_when_it_is_told_to_stop_is_written_back() {
    let rig = rig_of(2).await;
    rig.expire();
    rig.provider.inject(Fault::Delay { millis: 300 });
    let before = rig.refreshes();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let mut worker = rig.worker(at_once(1));
    let stopping = async {
        let newest = User::new(TENANT, "user1@contoso.com", "user").home_account_id().parse().unwrap();
        wait_until(PATIENCE, async || rig.is_locked(&newest).await).await;
        stop.cancel();
    };
    let selection = everybody();
    let (report, ()) = tokio::join!(worker.hydrate(&selection, shutdown), stopping);
    let report = report.unwrap();
    assert_eq!((report.accounts, report.hydrated, report.is_cut_short), (1, 1, true), "{report:?}");
    assert_eq!((rig.refreshes() - before, rig.events().await.len()), (1, 1));
    rig.provider.clear_faults();
    assert_eq!(rig.hydrate().await.hydrated, 1, "the other one, and nobody's token was lost");
    assert_eq!(rig.provider.families_revoked(), 0);
}

#[tokio::test]
async fn without_a_token_the_job_is_not_begun() {
    let rig = rig_of(1).await;
    rig.expire();
    rig.provider.inject(Fault::InteractionRequired { claims: None });
    let report = rig
        .worker(at_once(1))
        .for_each(&everybody(), CancellationToken::new(), |_, _| async { Err::<(), _>("begun") })
        .await
        .unwrap();
    assert_eq!(report.count(AccountOutcome::NoToken(FailureReason::InteractionRequired)), 1);
    assert_eq!(report.count(AccountOutcome::JobFailed), 0);
}
