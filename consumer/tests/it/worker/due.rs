//! The worker that runs for ever: what a job does to its account, and what is under way when it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use common::account::CacheKey;
use common::index::{ClaimRates, ClaimRequest, DueAccount, DueRequest, Hold, Schedule, WorkerId};
use consumer::worker::{DueWorker, DueWorkerSettings, DueWorkerStatus};
use jiff::Timestamp;
use testkit::wait_until;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::rig::{ADA, GRACE, Rig, strict};

const PATIENCE: Duration = Duration::from_secs(30);
/// What the accounts are scheduled for.
const WHY: &str = "nightly export";

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).unwrap()
}

fn settings() -> DueWorkerSettings {
    let poll = Duration::from_millis(20);
    DueWorkerSettings { poll, shutdown_grace: Duration::from_millis(200), ..DueWorkerSettings::new(worker("tested")) }
}

/// A worker whose job does as the account's name says.
struct Running {
    stop: CancellationToken,
    status: watch::Receiver<DueWorkerStatus>,
    task: JoinHandle<DueWorkerStatus>,
}

fn run<F>(rig: &Rig, job: impl Fn() -> F + Send + Sync + 'static) -> Running
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let stop = CancellationToken::new();
    let worker = DueWorker::new(Arc::clone(&rig.claims), rig.cache.clone(), rig.client.clone(), settings());
    let status = worker.status();
    let task = tokio::spawn(worker.run(stop.clone(), move |_, _| job()));
    Running { stop, status, task }
}

impl Running {
    async fn until(&mut self, reached: impl FnMut(&DueWorkerStatus) -> bool) {
        tokio::time::timeout(PATIENCE, self.status.wait_for(reached)).await.unwrap().unwrap();
    }

    async fn stop(self) -> DueWorkerStatus {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

async fn asked_for(rig: &Rig, user: &str) -> CacheKey {
    let key = rig.sign_in(user).await.key;
    let schedule = Schedule { at: Timestamp::now(), reason: Some(WHY.parse().unwrap()) };
    rig.claims.schedule(&key, Some(&schedule)).await.unwrap();
    key
}

async fn hold_of(rig: &Rig, key: &CacheKey) -> Option<Hold> {
    due_of(rig, key).await.and_then(|due| due.hold)
}

async fn due_of(rig: &Rig, key: &CacheKey) -> Option<DueAccount> {
    let request = DueRequest { until: Timestamp::now(), tenant: None, client: None, limit: 10, cursor: None };
    let due = rig.claims.due(&request).await.unwrap().accounts;
    due.into_iter().find(|due| due.account.cache_key == *key)
}

#[tokio::test]
async fn a_job_that_panics_or_fails_is_its_account_s_outcome_and_is_due_again_after_a_back_off() {
    let rig = Rig::embedded(strict()).await;
    let ada = asked_for(&rig, ADA).await;
    let mut running = run(&rig, || async { panic!("on purpose") });
    running.until(|status| status.report.accounts == 1).await;
    let grace = asked_for(&rig, GRACE).await;
    running.until(|status| status.report.accounts == 2).await;
    let status = running.stop().await;
    assert_eq!((status.report.outcomes["job_panicked"], status.in_flight), (2, 0));
    for key in [ada, grace] {
        let DueAccount { due, hold, .. } = due_of(&rig, &key).await.unwrap();
        let hold = hold.unwrap();
        assert_eq!((hold.worker, hold.attempts), (None, 1));
        assert_eq!(due.scheduled_for.unwrap().as_str(), WHY, "why it was asked for is not lost with the attempt");
    }
}

#[tokio::test]
async fn a_job_that_is_done_leaves_its_account_not_due() {
    let rig = Rig::embedded(strict()).await;
    let ada = asked_for(&rig, ADA).await;
    let mut running = run(&rig, || async { Ok(()) });
    running.until(|status| status.report.accounts == 1).await;
    let status = running.stop().await;
    assert_eq!(status.report.outcomes["still_valid"], 1);
    assert_eq!(hold_of(&rig, &ada).await, None, "it is not listed: its token is good, and the job was done");
}

#[tokio::test]
async fn what_is_not_done_within_the_grace_period_is_given_back_at_once() {
    let rig = Rig::embedded(strict()).await;
    let ada = asked_for(&rig, ADA).await;
    let mut running = run(&rig, std::future::pending);
    running.until(|status| status.in_flight == 1).await;
    wait_until(PATIENCE, async || hold_of(&rig, &ada).await.is_some_and(|hold| hold.worker.is_some())).await;
    let status = running.stop().await;
    assert_eq!((status.released, status.report.accounts), (1, 0));
    let request = ClaimRequest {
        worker: worker("another"),
        limit: 1,
        lease: Duration::from_secs(60),
        tenant: None,
        client: None,
        rates: ClaimRates::default(),
    };
    let claimed = rig.claims.claim(&request).await.unwrap();
    assert_eq!((claimed.len(), &claimed[0].account.cache_key), (1, &ada));
}
