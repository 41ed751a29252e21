//! A load generator: realistic MSAL blobs for many users, written through the real adapter.

mod population;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::token_cache::Expiry;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub use population::{Population, SimulatedUser};

use crate::adapter::{TokenCacheAdapter, WriteError};

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many users there are.
    pub users: u64,
    /// How many cache writes in all; user after user, round and round.
    pub writes: u64,
    /// Writes per second; as fast as possible where there is none.
    pub rate: Option<u32>,
    /// How many writes may be under way at once.
    pub concurrency: usize,
    /// Who the users are.
    pub population: Population,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// Users whose caches were written.
    pub users: u64,
    /// Writes that succeeded; each emitted its event with it.
    pub writes: u64,
    /// Writes that failed.
    pub failed: u64,
    /// The error of the first write that failed.
    pub first_error: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Writes per second.
    pub rate: f64,
    /// The median time of a write, in milliseconds.
    pub p50_ms: f64,
    /// The time that 99 of 100 writes were within, in milliseconds.
    pub p99_ms: f64,
}

/// Counts that can be watched while the load runs.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
}

impl Progress {
    /// How many writes are over, well or not.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// Runs the load until it is done or `shutdown` is cancelled; a write that has begun is finished.
pub async fn run(
    load: Load,
    adapter: TokenCacheAdapter,
    progress: &Progress,
    shutdown: CancellationToken,
) -> LoadReport {
    let started = Instant::now();
    let (finished, mut results) = mpsc::channel(load.concurrency.max(1));
    let writers = tokio::spawn(start_writes(load, adapter, finished, shutdown));
    let mut tally = Tally::default();
    while let Some(result) = results.recv().await {
        tally.count(result);
        progress.done.fetch_add(1, Ordering::Relaxed);
    }
    if let Err(error) = writers.await {
        tally.fail(error.to_string());
    }
    tally.report(load, started.elapsed())
}

type WriteResult = Result<Duration, WriteError>;

async fn start_writes(
    load: Load,
    adapter: TokenCacheAdapter,
    finished: mpsc::Sender<WriteResult>,
    shutdown: CancellationToken,
) {
    let mut pace = Pace::new(load.rate);
    let mut under_way = JoinSet::new();
    for number in 0..load.writes {
        if under_way.len() >= load.concurrency.max(1) {
            under_way.join_next().await;
        }
        tokio::select! {
            () = pace.wait() => {}
            () = shutdown.cancelled() => break,
        }
        let (adapter, finished) = (adapter.clone(), finished.clone());
        let user = load.population.user(number % load.users.max(1));
        under_way.spawn(async move {
            let result = write_once(&load.population, &user, &adapter).await;
            // The receiver lives until all senders are gone.
            drop(finished.send(result).await);
        });
    }
    under_way.join_all().await;
}

async fn write_once(population: &Population, user: &SimulatedUser, adapter: &TokenCacheAdapter) -> WriteResult {
    let blob = population.blob(user, Timestamp::now().as_second());
    let key = user.cache_key();
    let started = Instant::now();
    adapter.write(&key, &blob, Expiry::default()).await?;
    Ok(started.elapsed())
}

/// Spreads writes evenly over time.
struct Pace(Option<tokio::time::Interval>);

impl Pace {
    fn new(rate: Option<u32>) -> Self {
        Self(rate.map(|rate| {
            let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
            // Late ticks are made up for, so that the rate holds over time.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            ticks
        }))
    }

    async fn wait(&mut self) {
        if let Some(ticks) = &mut self.0 {
            ticks.tick().await;
        }
    }
}

#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    failed: u64,
    first_error: Option<String>,
}

impl Tally {
    fn count(&mut self, result: WriteResult) {
        match result {
            Ok(time) => self.times.push(time),
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&mut self, error: String) {
        self.failed += 1;
        self.first_error.get_or_insert(error);
    }

    fn report(mut self, load: Load, elapsed: Duration) -> LoadReport {
        self.times.sort_unstable();
        let writes = self.times.len() as u64;
        LoadReport {
            users: load.users.min(writes),
            writes,
            failed: self.failed,
            seconds: elapsed.as_secs_f64(),
            rate: writes as f64 / elapsed.as_secs_f64().max(f64::EPSILON),
            p50_ms: milliseconds(&self.times, 50),
            p99_ms: milliseconds(&self.times, 99),
            first_error: self.first_error,
        }
    }
}

/// The time at a percentile of sorted times, in milliseconds.
fn milliseconds(sorted: &[Duration], percentile: usize) -> f64 {
    let place = (sorted.len() * percentile / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}
