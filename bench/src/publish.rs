//! Events published and confirmed per second: by the log alone, and by the relay out of a full outbox.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use common::event::ActivityEvent;
use common::log::{ActivityLog, RabbitMqLog};
use common::token_cache::{Layout, Outbox};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use producer::relay::{Relay, RelaySettings};
use tokio_util::sync::CancellationToken;

use crate::Size;
use crate::events::{POPULATION, draft, events};
use crate::floor::{declare_stream, publish_one_by_one};
use crate::measure::{Figure, Run, Target};
use crate::space::Space;

/// Of one append, as the relay makes them under load.
const BATCH: usize = 500;
/// Appends under way at once, as the relay has them.
const OUTSTANDING: usize = 16;
/// Drafts that are appended to the outbox at once, before the clock starts.
const FILLING: usize = 64;

pub(crate) async fn measure(space: &Space, size: Size) -> anyhow::Result<Vec<Figure>> {
    let events = events(size.events, size.accounts)?;
    let log = space.log(1).await?;
    let plain = declare_stream(&space.amqp_url(), "bench.publish").await?;
    let (mut appended, mut relayed) = (Vec::new(), Vec::new());
    for _ in 0..size.runs {
        let floor = publish_one_by_one(&plain, &events).await?;
        appended.push(Run::beside(append(&log, &events).await?, floor));
        relayed.push(Run::beside(relay(space, &log, size).await?, floor));
    }
    log.close().await;
    let figure = |what: &str, runs| Figure {
        what: what.to_owned(),
        unit: "events/s",
        runs,
        target: Some(Target::TimesFloor(8.0)),
    };
    Ok(vec![figure("published and confirmed, log", appended), figure("published and confirmed, relay", relayed)])
}

async fn append(log: &Arc<RabbitMqLog>, events: &[ActivityEvent]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let appends = events.chunks(BATCH).map(|batch| Ok(log.append(0, batch)));
    stream::iter(appends).try_buffer_unordered(OUTSTANDING).try_collect::<()>().await?;
    Ok(events.len() as f64 / begun.elapsed().as_secs_f64())
}

/// From the start of a relay to its last confirm, with all events in the outbox before.
async fn relay(space: &Space, log: &Arc<RabbitMqLog>, size: Size) -> anyhow::Result<f64> {
    let prefix = space.prefix();
    let outbox = space.token_cache(&prefix, Layout::default()).await?;
    fill(outbox.as_ref(), size).await?;
    let shutdown = CancellationToken::new();
    let relay = Relay::new(outbox, log.clone(), RelaySettings::default());
    let mut status = relay.status();
    let begun = Instant::now();
    let running = tokio::spawn(relay.run(shutdown.clone()));
    let all = size.events as u64;
    status.wait_for(|status| status.events_published >= all).await.context("the relay ended")?;
    let rate = size.events as f64 / begun.elapsed().as_secs_f64();
    shutdown.cancel();
    running.await?;
    Ok(rate)
}

async fn fill(outbox: &impl Outbox, size: Size) -> anyhow::Result<()> {
    let now = Timestamp::now();
    stream::iter(0..size.events as u64)
        .map(|number| async move {
            let draft = draft(&POPULATION.user(number % size.accounts), now)?;
            anyhow::Ok(outbox.append(&draft).await?)
        })
        .buffer_unordered(FILLING)
        .try_collect::<()>()
        .await
}
