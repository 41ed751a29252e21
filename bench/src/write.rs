//! What the outbox entry adds to a cache write. The kinds take turns, so that what else the machine does is added to
//! all of them alike.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use common::account::CacheKey;
use common::event::EventDraft;
use common::token_cache::{CacheWrite, Expiry, Layout, Precondition, RedisTokenCache, TokenCacheStore};
use jiff::Timestamp;
use producer::adapter::{AdapterSettings, TokenCacheAdapter};

use crate::Size;
use crate::events::{POPULATION, draft};
use crate::measure::{Figure, Run, Target, percentile};
use crate::space::Space;

const USERS: u64 = 200;

/// Microseconds of each kind of write.
#[derive(Default)]
struct Times {
    bare: Vec<f64>,
    with_event: Vec<f64>,
    by_adapter: Vec<f64>,
}

pub(crate) async fn measure(space: &Space, size: Size) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for layout in [Layout::Aspnet, Layout::String] {
        let mut runs = Vec::new();
        for _ in 0..size.runs {
            runs.push(run(space, layout, size.writes).await?);
        }
        figures.extend(figures_of(layout, &runs));
    }
    Ok(figures)
}

fn figures_of(layout: Layout, runs: &[Times]) -> [Figure; 3] {
    let figure = |what: &str, of: fn(&Times) -> Run, target| Figure {
        what: format!("cache write {what}, layout {layout}"),
        unit: "µs",
        runs: runs.iter().map(of).collect(),
        target,
    };
    let target = Some(Target::AtMostTimesFloor(1.15));
    [
        figure("with its event, p50", |times| beside(&times.with_event, &times.bare, 0.5), target),
        figure("with its event, p99", |times| beside(&times.with_event, &times.bare, 0.99), None),
        figure("by the adapter, p50", |times| beside(&times.by_adapter, &times.bare, 0.5), None),
    ]
}

fn beside(ours: &[f64], floor: &[f64], share: f64) -> Run {
    Run::beside(percentile(ours, share), percentile(floor, share))
}

async fn run(space: &Space, layout: Layout, writes: usize) -> anyhow::Result<Times> {
    let prefix = space.prefix();
    let store = space.token_cache(&prefix, layout).await?;
    let settings = AdapterSettings::new("/apps/bench".parse()?);
    let adapter = TokenCacheAdapter::new(store.clone(), settings);
    let users = users()?;
    let mut times = Times::default();
    for number in 0..writes {
        let (key, blob, draft) = &users[number % users.len()];
        times.bare.push(timed(write(&store, key, blob, None)).await?);
        let event = EventDraft { id: common::event::EventId::fresh(), ..draft.clone() };
        times.with_event.push(timed(write(&store, key, blob, Some(&event))).await?);
        let written = async { Ok(adapter.write(key, blob, Expiry::default()).await?) };
        times.by_adapter.push(timed(written).await?);
    }
    for times in [&mut times.bare, &mut times.with_event, &mut times.by_adapter] {
        times.sort_by(f64::total_cmp);
    }
    Ok(times)
}

fn users() -> anyhow::Result<Vec<(CacheKey, Vec<u8>, EventDraft)>> {
    let now = Timestamp::now();
    let user = |number| {
        let user = POPULATION.user(number);
        Ok((user.cache_key(), POPULATION.blob(&user, now.as_second()), draft(&user, now)?))
    };
    (0..USERS).map(user).collect::<anyhow::Result<_>>().context("no users")
}

async fn write(
    store: &Arc<RedisTokenCache>,
    key: &CacheKey,
    blob: &[u8],
    event: Option<&EventDraft>,
) -> anyhow::Result<()> {
    let write = CacheWrite {
        key,
        blob,
        expiry: Expiry::default().into(),
        precondition: Precondition::None,
        event,
        fence: None,
    };
    store.write(write).await?;
    Ok(())
}

async fn timed(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<f64> {
    let begun = Instant::now();
    work.await?;
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}
