//! How the index grows: the time of a page and of a claim, and the bytes of an account, at more and more accounts.

use std::sync::Arc;
use std::time::Instant;

use common::index::{
    AccountActivity, ActivityStore, ClaimRates, ClaimRequest, Claims, Filter, ListRequest, Query, RedisIndex, WorkerId,
};
use common::redis_pool::RedisPool;
use jiff::{SignedDuration, Timestamp};
use redis::AsyncCommands as _;

use crate::Size;
use crate::events::{POPULATION, draft};
use crate::measure::{Figure, Run, Target, percentile};
use crate::space::Space;

/// Accounts of one page.
const PAGE: usize = 1_000;
/// Pages that are timed, each from another place.
const PAGES: u64 = 200;
/// Accounts of one claim.
const CLAIMED: usize = 100;
/// Claims that are timed, each of other accounts; all are due.
const CLAIMS: u64 = 100;
/// Accounts that are applied together.
const CHUNK: u64 = 10_000;
/// The size the targets are for.
const TARGET_ACCOUNTS: u64 = 1_000_000;

pub(crate) async fn measure(space: &Space, size: Size) -> anyhow::Result<Vec<Figure>> {
    let prefix = space.prefix();
    let index = space.index(&prefix).await?;
    let mut figures = Vec::new();
    let begin = Timestamp::now() - SignedDuration::from_hours(24 * 90);
    let mut filled = 0;
    for accounts in size.index_sizes {
        fill(&index, filled..*accounts, begin).await?;
        filled = *accounts;
        let times = page_times(&index, *accounts, begin).await?;
        let bytes = bytes_under(&space.pool, prefix.as_str()).await? as f64 / *accounts as f64;
        let claims = claim_times(&index).await?;
        let target = |most| (*accounts == TARGET_ACCOUNTS).then_some(Target::AtMost(most));
        let figure = |what: &str, unit, value, target| Figure {
            what: format!("{what} at {accounts} accounts"),
            unit,
            runs: vec![Run::alone(value)],
            target,
        };
        figures.push(figure("page of 1,000 idle accounts, p50", "ms", percentile(&times, 0.5), None));
        figures.push(figure("page of 1,000 idle accounts, p99", "ms", percentile(&times, 0.99), target(5.0)));
        figures.push(figure("claim of 100, p50", "ms", percentile(&claims, 0.5), None));
        figures.push(figure("claim of 100, p99", "ms", percentile(&claims, 0.99), target(5.0)));
        figures.push(figure("Redis bytes per account", "B", bytes, target(400.0)));
    }
    Ok(figures)
}

async fn fill(index: &Arc<RedisIndex>, numbers: std::ops::Range<u64>, begin: Timestamp) -> anyhow::Result<()> {
    let mut first = numbers.start;
    while first < numbers.end {
        let last = numbers.end.min(first + CHUNK);
        let accounts: anyhow::Result<Vec<AccountActivity>> =
            (first..last).map(|number| account(number, begin)).collect();
        index.apply(&accounts?).await?;
        first = last;
    }
    Ok(())
}

fn account(number: u64, begin: Timestamp) -> anyhow::Result<AccountActivity> {
    let time = begin + SignedDuration::from_secs(number as i64 * 7);
    Ok(AccountActivity::of(&draft(&POPULATION.user(number), begin)?.at(time)))
}

/// Milliseconds, sorted; each page begins at another place of the list.
async fn page_times(index: &Arc<RedisIndex>, accounts: u64, begin: Timestamp) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    let mut cursor = None;
    let until = begin + SignedDuration::from_secs(accounts as i64 * 7);
    for _ in 0..PAGES {
        let query = Query::IdleSince(until);
        let request = ListRequest { query, filter: Filter::default(), limit: PAGE, cursor };
        let begun = Instant::now();
        let page = index.list(&request).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(page.accounts.len() == PAGE || page.next.is_none(), "a page is short");
        cursor = page.next;
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Milliseconds, sorted. What was claimed is given back.
async fn claim_times(index: &Arc<RedisIndex>) -> anyhow::Result<Vec<f64>> {
    let request = ClaimRequest {
        worker: WorkerId::new("bench")?,
        limit: CLAIMED,
        lease: ClaimRequest::MAX_LEASE,
        tenant: None,
        client: None,
        rates: ClaimRates::default(),
    };
    let (mut times, mut held) = (Vec::new(), Vec::new());
    for _ in 0..CLAIMS {
        let begun = Instant::now();
        let claimed = index.claim(&request).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(claimed.len() == CLAIMED, "{} accounts were claimed and not {CLAIMED}", claimed.len());
        held.extend(claimed.into_iter().map(|claim| claim.held));
    }
    for some in held.chunks(1_000) {
        anyhow::ensure!(index.release(some).await? == some.len(), "a claim was lost");
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// What Redis says its keys take, every element counted.
async fn bytes_under(pool: &RedisPool, prefix: &str) -> anyhow::Result<u64> {
    let mut connection = pool.dedicated().await?;
    let mut scanning = pool.dedicated().await?;
    let mut keys = scanning.scan_match::<_, Vec<u8>>(format!("{prefix}*")).await?;
    let mut bytes = 0;
    while let Some(key) = keys.next_item().await {
        let used: Option<u64> =
            redis::cmd("MEMORY").arg("USAGE").arg(key?).arg("SAMPLES").arg(0).query_async(&mut connection).await?;
        bytes += used.unwrap_or_default();
    }
    Ok(bytes)
}
