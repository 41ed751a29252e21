//! What the outbox entry adds to a cache write, as a ratio to the same write without it.
//!
//! `cargo bench -p producer --bench cache_write [-- WRITES [REDIS_URL]]`; the target is at most 1.15 at the median.
//! The kinds of writes take turns, so that whatever else the machine does is added to all of them alike.

#![allow(clippy::print_stdout, reason = "the figures are what a benchmark is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::account::CacheKey;
use common::backend::TlsFiles;
use common::event::{Activity, EventDraft, EventSource};
use common::redis_pool::RedisPool;
use common::sqlite::Database;
use common::token_cache::{
    CacheWrite, Expiry, ExpiryChange, Layout, Outbox, Precondition, RedisTokenCache, RedisTokenCacheOptions,
    SqliteTokenCache, SqliteTokenCacheOptions, TokenCacheStore,
};
use producer::adapter::{AdapterSettings, TokenCacheAdapter};
use producer::simulate::Population;

const POPULATION: Population = Population { seed: 1, tenants: 5, access_token_lifetime: Duration::from_secs(3600) };
const USERS: u64 = 200;
const KINDS: [&str; 3] = ["without event", "with event", "by the adapter"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let writes: usize = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let url = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    println!("{:<10} {:<16} {:>9} {:>9} {:>9} {:>7}", "store", "write", "p50 µs", "p90 µs", "p99 µs", "ratio");
    for layout in [Layout::Aspnet, Layout::String] {
        let instance_name = format!("bench:{}:", uuid::Uuid::now_v7().simple());
        let pool = RedisPool::new(&url.parse()?, &TlsFiles::default(), 4)?;
        let options = RedisTokenCacheOptions { instance_name: instance_name.clone(), layout, ..Default::default() };
        measure(&layout.to_string(), RedisTokenCache::open(pool.clone(), options).await?, writes).await?;
        remove_keys(&pool, &instance_name).await?;
    }
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}/bench.db", folder.path().display());
    let database = Database::open(&url.parse()?).await?;
    measure("sqlite", SqliteTokenCache::open(database, SqliteTokenCacheOptions::default()).await?, writes / 10).await
}

async fn measure<S>(name: &str, store: S, writes: usize) -> anyhow::Result<()>
where
    S: TokenCacheStore + Outbox + Clone + 'static,
{
    let source = EventSource::new("/apps/bench")?;
    let adapter = TokenCacheAdapter::new(Arc::new(store.clone()), AdapterSettings::new(source.clone()));
    let users: Vec<(CacheKey, Vec<u8>)> = (0..USERS).map(a_user).collect();
    let activity = an_activity(&store, &adapter, &users[0]).await?;
    let mut times: [Vec<Duration>; 3] = Default::default();
    for number in 0..writes * KINDS.len() {
        let (key, blob) = &users[number % users.len()];
        let event = EventDraft::new(source.clone(), key.clone(), activity.clone());
        let (expiry, precondition) = (ExpiryChange::default(), Precondition::None);
        let plain = CacheWrite { key, blob, expiry, precondition, event: None };
        let kind = number % KINDS.len();
        let begun = Instant::now();
        match kind {
            0 => drop(store.write(plain).await?),
            1 => drop(store.write(CacheWrite { event: Some(&event), ..plain }).await?),
            _ => adapter.write(key, blob, Expiry::default()).await?,
        }
        times[kind].push(begun.elapsed());
    }
    report(name, times);
    Ok(())
}

fn a_user(number: u64) -> (CacheKey, Vec<u8>) {
    let user = POPULATION.user(number);
    (user.cache_key(), POPULATION.blob(&user, 1_795_300_000))
}

/// What the adapter says of a user, for the writes that skip it.
async fn an_activity(
    outbox: &impl Outbox,
    adapter: &TokenCacheAdapter,
    (key, blob): &(CacheKey, Vec<u8>),
) -> anyhow::Result<Activity> {
    adapter.write(key, blob, Expiry::default()).await?;
    let taken = outbox.take(1, Duration::from_secs(1), Duration::ZERO).await?;
    Ok(taken.into_iter().next().context("no event")?.event.activity)
}

fn report(name: &str, mut times: [Vec<Duration>; 3]) {
    times.iter_mut().for_each(|times| times.sort_unstable());
    let at = |kind: usize, percent: usize| times[kind][times[kind].len() * percent / 100].as_secs_f64() * 1e6;
    for (kind, write) in KINDS.iter().enumerate() {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| at(kind, percent));
        println!("{name:<10} {write:<16} {p50:>9.1} {p90:>9.1} {p99:>9.1} {:>7.3}", p50 / at(0, 50));
    }
}

async fn remove_keys(pool: &RedisPool, instance_name: &str) -> anyhow::Result<()> {
    let mut connection = pool.get().await?;
    let mut keys: Vec<String> = (0..USERS).map(|n| format!("{instance_name}{}", a_user(n).0)).collect();
    keys.push(format!("{instance_name}outbox"));
    redis::cmd("UNLINK").arg(keys).query_async::<()>(&mut *connection).await.map_err(|e| pool.error(e))?;
    Ok(())
}
