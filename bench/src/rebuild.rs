//! The index is made anew from the whole log while 500 events a second are written, projected, and it is asked; then
//! all of it is held against the log.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use common::index::{ActivityStore, RedisIndex};
use common::log::{ActivityLog, RabbitMqLog};
use consumer::projector::{Projector, ProjectorSettings};
use consumer::rebuild::{Rebuild, RebuildSettings};
use consumer::verify::{Verify, VerifySettings};
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::Size;
use crate::events::{POPULATION, draft, events};
use crate::floor::{declare_stream, project_one_by_one, publish_one_by_one};
use crate::measure::{Figure, Run, Target};
use crate::space::Space;

/// Of one message, as the relay makes them under load.
const BATCH: usize = 500;
/// Events of one message, and how often one is written, while it is measured: 500 a second.
const BESIDE: u64 = 10;
const BESIDE_EVERY: Duration = Duration::from_millis(20);

pub(crate) async fn measure(space: &Space, size: Size) -> anyhow::Result<Vec<Figure>> {
    let log = space.log(1).await?;
    fill(&log, size).await?;
    let few = events(size.events, size.accounts)?;
    let prefix = space.prefix();
    let plain = declare_stream(&space.amqp_url(), "bench.rebuild").await?;
    publish_one_by_one(&plain, &few).await?;
    let floor = project_one_by_one(&plain, few.len(), &space.pool, &format!("{prefix}floor:")).await?;

    let index = space.index(&prefix).await?;
    let stop = CancellationToken::new();
    let projector = Projector::new(log.clone(), log.clone(), index.clone(), ProjectorSettings::default());
    let projecting = tokio::spawn(projector.run(stop.clone()));
    projected(&log, &index).await?;
    let writing = tokio::spawn(write(log.clone(), size.rebuild_accounts, stop.clone()));
    let asking = tokio::spawn(ask(index.clone(), size.rebuild_accounts, stop.clone()));
    let mut rates = Vec::new();
    for _ in 0..size.runs {
        let rebuild = Rebuild::new(log.clone(), index.clone(), RebuildSettings::default());
        let report = rebuild.run(&|_| {}, CancellationToken::new()).await?;
        rates.push(Run { ours: report.events_per_second, floor: Some(floor), limit: None });
        verify(&log, &index).await?;
    }
    stop.cancel();
    writing.await??;
    asking.await??;
    projecting.await??;
    verify(&log, &index).await?;
    log.close().await;
    let what = format!("rebuild of {} accounts under 500 writes/s", size.rebuild_accounts);
    Ok(vec![Figure { what, unit: "events/s", runs: rates, target: Some(Target::TimesFloor(6.0)) }])
}

async fn fill(log: &Arc<RabbitMqLog>, size: Size) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    for number in 0..size.rebuild_events {
        let now = Timestamp::now();
        batch.push(draft(&POPULATION.user(number % size.rebuild_accounts), now)?.at(now));
        if batch.len() == BATCH || number + 1 == size.rebuild_events {
            log.append(0, &batch).await?;
            batch.clear();
        }
    }
    Ok(())
}

async fn projected(log: &Arc<RabbitMqLog>, index: &Arc<RedisIndex>) -> anyhow::Result<()> {
    let end = log.bounds(0).await?.next;
    while index.checkpoint(0).await?.is_none_or(|checkpoint| checkpoint.next_offset < end) {
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn write(log: Arc<RabbitMqLog>, accounts: u64, stop: CancellationToken) -> anyhow::Result<()> {
    let mut ticks = interval(BESIDE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut next = 0;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let now = Timestamp::now();
        let users = (next..next + BESIDE).map(|number| POPULATION.user(number * 7 % accounts));
        let events = users.map(|user| Ok(draft(&user, now)?.at(now))).collect::<anyhow::Result<Vec<_>>>()?;
        log.append(0, &events).await?;
        next += BESIDE;
    }
    Ok(())
}

/// No query may fail, or see fewer accounts than there are.
async fn ask(index: Arc<RedisIndex>, accounts: u64, stop: CancellationToken) -> anyhow::Result<()> {
    let mut random = 0;
    while stop.run_until_cancelled(sleep(Duration::from_millis(5))).await.is_some() {
        let counts = index.counts(None).await?;
        anyhow::ensure!(counts.listed == accounts, "{} accounts are listed, not {accounts}", counts.listed);
        random = (random + 7_919) % accounts;
        let key = POPULATION.user(random).cache_key();
        index.get(&key).await?.context("an account is not there")?;
    }
    Ok(())
}

async fn verify(log: &Arc<RabbitMqLog>, index: &Arc<RedisIndex>) -> anyhow::Result<()> {
    let verify = Verify::new(log.clone(), index.clone(), VerifySettings::default());
    let report = verify.run(&|_| {}).await?;
    anyhow::ensure!(report.found() == 0, "the index is not the fold of the log: {report:?}");
    Ok(())
}
