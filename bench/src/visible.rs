//! From the moment a cache write is acknowledged until its event is visible in the index, at a steady rate.
//!
//! Adapter, relay and projector run in this process, as they are set by default. One partition keeps the order, so the
//! n-th write is the n-th event that is applied; an event counts as visible when the checkpoint behind it is stored,
//! which is a little later than it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::event::encode;
use common::index::{ActivityStore as _, Checkpoint};
use common::log::ActivityLog as _;
use common::token_cache::{Expiry, Layout};
use consumer::projector::{Projector, ProjectorSettings, ProjectorStatus};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use producer::adapter::{AdapterSettings, TokenCacheAdapter};
use producer::relay::{Relay, RelaySettings};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::Size;
use crate::events::{POPULATION, draft};
use crate::floor::declare_stream;
use crate::measure::{Figure, Run, Target, percentile};
use crate::space::Space;

/// How often writes are started; at high rates several together.
const TICK: Duration = Duration::from_millis(1);
const USERS: u64 = 2_000;
/// The rate the target is for.
const TARGET_RATE: u32 = 1_000;

pub(crate) async fn measure(space: &Space, size: Size) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for rate in size.rates {
        let mut runs = Vec::new();
        for number in 0..size.runs {
            let floor = publish_to_deliver(space, *rate, size.seconds, number).await?;
            runs.push((write_to_visible(space, *rate, size.seconds).await?, floor));
        }
        for (name, share, most) in [("p50", 0.5, Some(2.0)), ("p99", 0.99, Some(10.0)), ("p99.9", 0.999, None)] {
            figures.push(Figure {
                what: format!("write to visible at {rate}/s, {name}"),
                unit: "ms",
                runs: runs.iter().map(|(o, f)| Run::beside(percentile(o, share), percentile(f, share))).collect(),
                target: most.filter(|_| *rate == TARGET_RATE).map(Target::AtMost),
            });
        }
    }
    Ok(figures)
}

/// Milliseconds, sorted.
async fn write_to_visible(space: &Space, rate: u32, seconds: u64) -> anyhow::Result<Vec<f64>> {
    let prefix = space.prefix();
    let (log, index, cache) =
        (space.log(1).await?, space.index(&prefix).await?, space.token_cache(&prefix, Layout::default()).await?);
    index.store_checkpoint(0, Checkpoint::at(log.bounds(0).await?.next)).await?;
    let shutdown = CancellationToken::new();
    let relay = Relay::new(cache.clone(), log.clone(), RelaySettings::default());
    let projector = Projector::new(log.clone(), log.clone(), index, ProjectorSettings::default());
    let status = projector.status();
    let mut ready = projector.status();
    let relaying = tokio::spawn(relay.run(shutdown.clone()));
    let projecting = tokio::spawn(projector.run(shutdown.clone()));
    ready.wait_for(is_at_the_end).await.context("the projector ended")?;
    let writes = u64::from(rate) * seconds;
    let seen = tokio::spawn(when_applied(status, writes));
    let written =
        write_steadily(TokenCacheAdapter::new(cache, AdapterSettings::new("/apps/bench".parse()?)), rate, writes);
    let written = written.await?;
    let seen = seen.await??;
    shutdown.cancel();
    relaying.await?;
    projecting.await??;
    log.close().await;
    Ok(distances(&written, &seen))
}

/// When each write was acknowledged, in order.
async fn write_steadily(adapter: TokenCacheAdapter, rate: u32, writes: u64) -> anyhow::Result<Vec<Instant>> {
    let now = Timestamp::now().as_second();
    let blobs: Vec<_> = (0..USERS)
        .map(|number| POPULATION.user(number))
        .map(|user| (user.cache_key(), POPULATION.blob(&user, now)))
        .collect();
    let blobs = Arc::new(blobs);
    let mut under_way = JoinSet::new();
    let mut pace = Pace::new(rate);
    for number in 0..writes {
        pace.wait().await;
        let (adapter, blobs) = (adapter.clone(), blobs.clone());
        under_way.spawn(async move {
            let (key, blob) = &blobs[(number % USERS) as usize];
            adapter.write(key, blob, Expiry::default()).await?;
            anyhow::Ok(Instant::now())
        });
    }
    let mut written = under_way.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    written.sort_unstable();
    Ok(written)
}

/// When each event was noted as applied, in order.
async fn when_applied(
    mut status: tokio::sync::watch::Receiver<ProjectorStatus>,
    events: u64,
) -> anyhow::Result<Vec<Instant>> {
    let before = applied(&status.borrow());
    let mut seen = Vec::new();
    while (seen.len() as u64) < events {
        status.changed().await.context("the projector ended")?;
        let now = Instant::now();
        let applied = applied(&status.borrow()) - before;
        seen.resize(applied as usize, now);
    }
    Ok(seen)
}

fn applied(status: &ProjectorStatus) -> u64 {
    status.partitions.values().map(|partition| partition.events_applied).sum()
}

/// Whether it has applied what earlier parts left in the log.
fn is_at_the_end(status: &ProjectorStatus) -> bool {
    status.is_ready() && status.partitions.values().all(|partition| partition.is_caught_up && partition.held_bytes == 0)
}

/// Publish to deliver alone: a message per event, over one connection, without waiting for confirms.
async fn publish_to_deliver(space: &Space, rate: u32, seconds: u64, run: usize) -> anyhow::Result<Vec<f64>> {
    let stream = declare_stream(&space.amqp_url(), &format!("bench.visible.{rate}.{run}")).await?;
    let events = u64::from(rate) * seconds;
    let receiving = tokio::spawn(receive(stream.connection.create_channel().await?, stream.name.clone(), events));
    let mut pace = Pace::new(rate);
    let mut sent = Vec::with_capacity(events as usize);
    let body = encode(&draft(&POPULATION.user(1), Timestamp::now())?.at(Timestamp::now())).body;
    for _ in 0..events {
        pace.wait().await;
        let (name, options) = (stream.name.as_str().into(), BasicPublishOptions::default());
        sent.push(Instant::now());
        #[expect(clippy::disallowed_methods, reason = "the floor is the client used directly")]
        let confirm = stream.channel.basic_publish("".into(), name, options, &body, Default::default()).await?;
        tokio::spawn(confirm);
    }
    let received = receiving.await??;
    Ok(distances(&sent, &received))
}

async fn receive(channel: lapin::Channel, stream: String, events: u64) -> anyhow::Result<Vec<Instant>> {
    channel.basic_qos(500, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    let options = BasicConsumeOptions::default();
    let mut deliveries = channel.basic_consume(stream.into(), "floor".into(), options, arguments).await?;
    let mut received = Vec::with_capacity(events as usize);
    while (received.len() as u64) < events {
        let delivery = deliveries.next().await.context("the stream ended")??;
        received.push(Instant::now());
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(received)
}

fn distances(from: &[Instant], to: &[Instant]) -> Vec<f64> {
    let distance = |(from, to): (&Instant, &Instant)| to.saturating_duration_since(*from).as_secs_f64() * 1000.0;
    let mut distances: Vec<f64> = from.iter().zip(to).map(distance).collect();
    distances.sort_by(f64::total_cmp);
    distances
}

/// Starts things at a steady rate; what is late is made up for.
struct Pace {
    ticks: tokio::time::Interval,
    per_tick: f64,
    credit: f64,
}

impl Pace {
    fn new(rate: u32) -> Self {
        let per_second = f64::from(rate.max(1));
        let tick = TICK.max(Duration::from_secs_f64(1.0 / per_second));
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        Self { ticks, per_tick: per_second * tick.as_secs_f64(), credit: 0.0 }
    }

    async fn wait(&mut self) {
        while self.credit < 1.0 {
            self.ticks.tick().await;
            self.credit += self.per_tick;
        }
        self.credit -= 1.0;
    }
}
