//! Many workers, many tenants: each account that is due is hydrated once, and nobody waits for somebody else's work.
//!
//! Sizes are small in the test command; `DUE_ACCOUNTS=100000 scripts/test --test it due::` runs them in full.

mod rig;

use std::time::Duration;

use rand::Rng as _;
use rustix::process::Signal;
use testkit::identity_provider::{Fault, FaultRule, Rotation};
use testkit::servers::{KeyPrefix, Vhost};
use testkit::wait_until;
use tokio::sync::Mutex;

use crate::pipeline::{in_file, on_servers};
use rig::{DueAccounts, Process};

const WORKERS: usize = 16;
const TENANTS: usize = 50;
const CONCURRENCY: usize = 4;
const LEASE: &str = "10s";

/// Each test has many processes: they would starve each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// How many accounts there are, and how long they may take.
#[expect(clippy::disallowed_methods, reason = "the size of this test is told by the environment")]
fn size() -> (usize, Duration) {
    let accounts = std::env::var("DUE_ACCOUNTS").ok().map_or(1_500, |text| text.parse().expect("a number"));
    (accounts, Duration::from_secs(120 + accounts as u64 / 20))
}

/// One tenant has nine accounts in ten.
fn lopsided(accounts: usize) -> Vec<usize> {
    let small = (accounts / 10 / (TENANTS - 1)).max(1);
    let mut sizes = vec![small; TENANTS];
    sizes[0] = accounts - small * (TENANTS - 1);
    sizes
}

fn flags() -> [String; 4] {
    ["--concurrency".into(), CONCURRENCY.to_string(), "--lease".into(), LEASE.into()]
}

fn start(due: &DueAccounts) -> Process {
    let flags = flags();
    due.worker(&flags.each_ref().map(String::as_str))
}

async fn all_once(due: &DueAccounts, patience: Duration) {
    let workers: Vec<Process> = (0..WORKERS).map(|_| start(due)).collect();
    wait_until(patience, async || due.refreshes() >= due.accounts).await;
    wait_until(patience, async || due.hydrated().await as u64 == due.accounts).await;
    let mut hydrated = 0;
    for worker in workers {
        let report = worker.stop().await;
        assert_eq!(report["failed"], 0, "{report}");
        hydrated += report["hydrated"].as_u64().unwrap();
    }
    assert_eq!((hydrated, due.refreshes()), (due.accounts, due.accounts), "each once");
    assert_eq!(due.provider.families_revoked(), 0);
    assert_eq!(due.provider.all_token_requests().with_outcome("ok"), due.accounts);
}

/// While all tenants have accounts that are due, each has its turn: a tenant with `k` of them is done when about `k`
/// times the number of tenants were worked on. Twice that is allowed, and what all workers hold at once.
async fn assert_no_tenant_waited_for_another(due: &DueAccounts) {
    let hydrations = due.hydrations().await;
    let mut all: Vec<_> = hydrations.values().flatten().copied().collect();
    all.sort_unstable();
    for (tenant, times) in hydrations.iter().filter(|(tenant, _)| **tenant != due.tenants[0]) {
        let last = times.iter().max().unwrap();
        let place = all.partition_point(|time| time <= last);
        let fair = times.len() * TENANTS;
        assert!(place <= 2 * fair + WORKERS * CONCURRENCY, "{tenant} was done after {place}; its share is {fair}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_workers_hydrate_each_account_once_and_no_tenant_waits_for_another() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    let (accounts, patience) = size();
    let due = DueAccounts::of(&lopsided(accounts), Rotation::Strict, on_servers(&vhost.amqp_url(), &prefix)).await;
    all_once(&due, patience).await;
    assert_no_tenant_waited_for_another(&due).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_share_an_sqlite_file_and_hydrate_each_account_once() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let due = DueAccounts::of(&[40, 10, 10], Rotation::Strict, in_file(&folder.path().join("all.sqlite"))).await;
    let workers: Vec<Process> = (0..3).map(|_| start(&due)).collect();
    wait_until(Duration::from_secs(120), async || due.hydrated().await as u64 == due.accounts).await;
    for worker in workers {
        assert_eq!(worker.stop().await["failed"], 0);
    }
    assert_eq!((due.refreshes(), due.provider.families_revoked()), (due.accounts, 0));
}

/// A provider that takes each refresh token once would end the sign-in of an account whose worker was killed between
/// the provider's answer and the write, so this one is as lenient as Entra ID.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_killed_workers_held_is_done_by_others_when_their_leases_are_over() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    let (accounts, patience) = size();
    let rotation = Rotation::Lenient;
    let due = DueAccounts::of(&lopsided(accounts / 2), rotation, on_servers(&vhost.amqp_url(), &prefix)).await;
    due.provider.inject(Fault::Delay { millis: 50 });
    let mut workers: Vec<Process> = (0..WORKERS / 2).map(|_| start(&due)).collect();
    let mut kills = 0;
    while due.refreshes() < due.accounts * 9 / 10 {
        let next = due.refreshes() + rand::rng().random_range(1..=due.accounts / 10);
        wait_until(patience, async || due.refreshes() >= next.min(due.accounts * 9 / 10)).await;
        let place = rand::rng().random_range(0..workers.len());
        workers[place].signal(Signal::KILL);
        workers[place] = start(&due);
        kills += 1;
    }
    wait_until(patience, async || due.hydrated().await as u64 == due.accounts).await;
    for worker in workers {
        worker.stop().await;
    }
    let again = due.refreshes() - due.accounts;
    let most = kills * CONCURRENCY as u64;
    assert!(again <= most, "{again} accounts were refreshed again after {kills} kills; at most {most} were in flight");
    tracing::info!(kills, again, "killed workers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tenant_that_is_throttled_is_left_alone_by_all_workers_and_the_others_go_on() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    let due = DueAccounts::of(&[100, 100, 100], Rotation::Strict, on_servers(&vhost.amqp_url(), &prefix)).await;
    let throttled = due.tenants[0].clone();
    let pause = 25;
    let fault = FaultRule::from(Fault::TooManyRequests { retry_after_seconds: pause }).in_tenant(&throttled);
    due.provider.inject(fault);
    let workers: Vec<Process> = (0..4).map(|_| due.worker(&["--concurrency", "2", "--lease", LEASE])).collect();
    let requests = || due.provider.token_requests(&throttled).total;
    wait_until(Duration::from_secs(60), async || requests() > 0).await;
    let begun = std::time::Instant::now();
    // What was on its way when the provider said so, and no more.
    let others = || due.refreshes() - requests();
    wait_until(Duration::from_secs(60), async || others() >= 20).await;
    let during = requests();
    assert!(during <= 4 * 2, "{during} requests to a tenant that is throttled");
    wait_until(Duration::from_secs(60), async || others() == 200).await;
    assert!(begun.elapsed() < Duration::from_secs(pause), "the others were done in {:?}", begun.elapsed());
    assert_eq!(requests(), during, "nobody asked during the pause");
    due.provider.clear_faults();
    wait_until(Duration::from_secs(90), async || due.hydrated().await == 300).await;
    assert!(begun.elapsed() >= Duration::from_secs(pause) - Duration::from_secs(1));
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_slept_past_its_lease_is_refused_and_the_new_holder_s_token_stands() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    let due = DueAccounts::of(&[1], Rotation::Lenient, on_servers(&vhost.amqp_url(), &prefix)).await;
    due.provider.inject(FaultRule::from(Fault::Delay { millis: 2_000 }).times(1));
    let flags = ["--concurrency", "1", "--lease", "2s", "--idp-timeout", "3s"];
    let sleeper = due.worker(&flags);
    wait_until(Duration::from_secs(60), async || due.provider.token_requests_under_way() == 1).await;
    sleeper.signal(Signal::STOP);
    let other = due.worker(&flags);
    wait_until(Duration::from_secs(90), async || due.hydrated().await == 1).await;
    let key = due.hydrated_key().await;
    let stands = due.pipeline.cache.store.read(&key).await.unwrap().unwrap();
    let report = other.stop().await;
    assert_eq!(report["outcomes"]["hydrated"], 1, "{report}");
    sleeper.signal(Signal::CONT);
    let report = sleeper.stop().await;
    assert_eq!(report["outcomes"]["claim_lost"], 1, "{report}");
    assert_eq!((&report["hydrated"], &report["failed"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(due.pipeline.cache.store.read(&key).await.unwrap().unwrap(), stands, "the blob is the new holder's");
    assert_eq!(due.refreshes(), 2);
}
