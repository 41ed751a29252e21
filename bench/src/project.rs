//! From a prefilled log into an empty index, all of its lists kept; and that the index is the fold afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::event::ActivityEvent;
use common::index::{ActivityStore, Checkpoint, RedisIndex, fold};
use common::log::{ActivityLog, RabbitMqLog};
use consumer::projector::{Projector, ProjectorSettings};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Size;
use crate::cpu::Seconds;
use crate::events::events;
use crate::floor::{PlainStream, declare_stream, project_one_by_one, publish_one_by_one, write_in_pipelines};
use crate::measure::{Figure, Run, Target};
use crate::memory::{Resident, Watch};
use crate::space::Space;

/// Of one message, as the relay makes them under load.
const BATCH: usize = 500;
/// How many accounts are compared with the fold after each run.
const COMPARED: usize = 2_000;
/// How often a checkpoint is looked at.
const POLL: Duration = Duration::from_millis(20);

pub(crate) async fn measure(space: &Space, size: Size) -> anyhow::Result<Vec<Figure>> {
    let events = events(size.events, size.accounts)?;
    let log = space.log(1).await?;
    let begins_at = log.bounds(0).await?.next;
    for batch in events.chunks(BATCH) {
        log.append(0, batch).await?;
    }
    let plain = declare_stream(&space.amqp_url(), "bench.project").await?;
    publish_one_by_one(&plain, &events).await?;
    let (mut rates, mut used) = (Vec::new(), Vec::new());
    for _ in 0..size.runs {
        rates.push(run(space, &log, begins_at, &plain, &events, &mut used).await?);
    }
    log.close().await;
    let mut figures = vec![Figure {
        what: "log to index".to_owned(),
        unit: "events/s",
        runs: rates,
        target: Some(Target::TimesFloor(2.5)),
    }];
    figures.extend(by_process(&used, size.events));
    Ok(figures)
}

async fn run(
    space: &Space,
    log: &Arc<RabbitMqLog>,
    begins_at: u64,
    plain: &PlainStream,
    events: &[ActivityEvent],
    used: &mut Vec<(Seconds, Resident)>,
) -> anyhow::Result<Run> {
    let prefix = space.prefix();
    let floor = project_one_by_one(plain, events.len(), &space.pool, &format!("{prefix}floor:")).await?;
    let limit = write_in_pipelines(events, &space.pool, &format!("{prefix}bare:")).await?;
    let index = space.index(&prefix).await?;
    index.store_checkpoint(0, Checkpoint::at(begins_at)).await?;
    let (before, memory) = (space.cpu().await?, Watch::begin(&space.pool).await?);
    let ours = project(log, &index, events.len()).await?;
    used.push((space.cpu().await? - before, memory.end(&space.pool).await?));
    compare(&index, events).await?;
    Ok(Run { ours, floor: Some(floor), limit: Some(limit) })
}

/// From the start of a projector to its last event being visible and its checkpoint stored.
pub(crate) async fn project(log: &Arc<RabbitMqLog>, index: &Arc<RedisIndex>, events: usize) -> anyhow::Result<f64> {
    let shutdown = CancellationToken::new();
    let projector = Projector::new(log.clone(), log.clone(), index.clone(), ProjectorSettings::default());
    let mut status = projector.status();
    let begun = Instant::now();
    let running = tokio::spawn(projector.run(shutdown.clone()));
    let all = events as u64;
    let is_done = |status: &consumer::projector::ProjectorStatus| {
        status.partitions.values().map(|partition| partition.events_applied).sum::<u64>() >= all
    };
    status.wait_for(is_done).await.context("the projector ended")?;
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    shutdown.cancel();
    running.await??;
    Ok(rate)
}

/// Goes on from the stored checkpoint until it is at this offset.
pub(crate) async fn project_to(
    log: &Arc<RabbitMqLog>,
    index: &Arc<RedisIndex>,
    next_offset: u64,
) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let projector = Projector::new(log.clone(), log.clone(), index.clone(), ProjectorSettings::default());
    let running = tokio::spawn(projector.run(shutdown.clone()));
    while index.checkpoint(0).await?.is_none_or(|checkpoint| checkpoint.next_offset < next_offset) {
        anyhow::ensure!(!running.is_finished(), "the projector ended");
        sleep(POLL).await;
    }
    shutdown.cancel();
    running.await??;
    Ok(())
}

/// A fast index that is wrong is worth nothing: the counts and a sample of the accounts have to be the fold's.
pub(crate) async fn compare(index: &Arc<RedisIndex>, events: &[ActivityEvent]) -> anyhow::Result<()> {
    let expected = fold(events);
    let counts = index.counts(None).await?;
    let listed = expected.values().filter(|account| account.is_listed()).count() as u64;
    anyhow::ensure!(counts.listed == listed, "{} accounts are listed, not {listed}", counts.listed);
    for (key, account) in expected.iter().take(COMPARED) {
        anyhow::ensure!(index.get(key).await?.as_ref() == Some(account), "an account is not the fold of its events");
    }
    Ok(())
}

fn by_process(used: &[(Seconds, Resident)], events: usize) -> Vec<Figure> {
    let per_100k = 100_000.0 / events as f64;
    let figure = |what: &str, unit, value: &dyn Fn(&(Seconds, Resident)) -> f64| Figure {
        what: what.to_owned(),
        unit,
        runs: used.iter().map(|used| Run::alone(value(used))).collect(),
        target: None,
    };
    vec![
        figure("CPU per 100,000 events, projector", "s", &|(cpu, _)| cpu.ours * per_100k),
        figure("CPU per 100,000 events, Redis", "s", &|(cpu, _)| cpu.redis * per_100k),
        figure("CPU per 100,000 events, RabbitMQ", "s", &|(cpu, _)| cpu.broker * per_100k),
        figure("memory, projector, rise at most", "MiB", &|(_, memory)| memory.ours),
        figure("memory, Redis, rise", "MiB", &|(_, memory)| memory.redis),
        figure("memory, RabbitMQ", "MiB", &|(_, memory)| memory.broker),
    ]
}
