//! Poison among good events, in any number: all good ones are projected, all poison is parked once, memory stays flat.
//!
//! `cargo run --release -p consumer --example poison -- --good 100000 --poison 10000 [--servers]`
#![expect(clippy::expect_used, reason = "a measurement that cannot be made is a panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use common::backend::TlsFiles;
use common::event::{EncodedEvents, SealedEvent, encode_batches};
use common::index::{ActivityStore, RedisIndex, SqliteIndex};
use common::log::{ActivityLog, DeadLetters, LetterQueue, RabbitMqLog, RabbitMqOptions, SqliteLog};
use common::output;
use common::redis_pool::RedisPool;
use common::sqlite::Database;
use consumer::dead_letters::{LetterFilter, RedriveSettings, redrive, summarize};
use consumer::projector::{Projector, ProjectorSettings};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use testkit::conformance::log::sample_events;
use testkit::poison::poison;
use testkit::servers::{KeyPrefix, Vhost};
use tokio_util::sync::CancellationToken;

/// Good events of one message.
const PER_MESSAGE: usize = 10;
/// Bodies that are published before their confirms are awaited.
const IN_FLIGHT: usize = 50;
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 2_000)]
    good: usize,
    #[arg(long, default_value_t = 200)]
    poison: usize,
    /// On the shared RabbitMQ and Redis; else in one SQLite file
    #[arg(long)]
    servers: bool,
}

/// The way of another program's messages into the log.
enum Raw {
    File(SqliteLog),
    Broker { channel: Channel, _connection: Box<Connection> },
}

struct Stage {
    log: Arc<dyn ActivityLog>,
    letters: Arc<dyn DeadLetters>,
    index: Arc<dyn ActivityStore>,
    raw: Raw,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let (vhost, prefix) = match arguments.servers {
        true => (Some(Vhost::fresh().await), Some(KeyPrefix::fresh().await)),
        false => (None, None),
    };
    let stage = match (&vhost, &prefix) {
        (Some(vhost), Some(prefix)) => on_servers(&vhost.amqp_url(), prefix).await?,
        _ => embedded(folder.path()).await?,
    };
    let (expected, good) = fill(&stage, &arguments).await?;
    project(&stage, good).await?;
    check(&stage, &expected).await
}

async fn embedded(folder: &std::path::Path) -> anyhow::Result<Stage> {
    let database = Database::open(&format!("sqlite://{}/all.db", folder.display()).parse()?).await?;
    let log = SqliteLog::open(database.clone(), 1).await?;
    let index = Arc::new(SqliteIndex::open(database).await?);
    Ok(Stage { log: Arc::new(log.clone()), letters: Arc::new(log.clone()), index, raw: Raw::File(log) })
}

async fn on_servers(url: &str, prefix: &KeyPrefix) -> anyhow::Result<Stage> {
    let log = Arc::new(RabbitMqLog::connect(&RabbitMqOptions::new(url.parse()?))?);
    log.declare().await?;
    let pool = RedisPool::new(&prefix.redis_url().parse()?, &TlsFiles::default(), 4)?;
    let index = Arc::new(RedisIndex::open(pool, prefix.as_str()).await?);
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(Stage { log: log.clone(), letters: log, index, raw: Raw::Broker { channel, _connection: Box::new(connection) } })
}

/// Fills the log, and says how many letters there have to be by reason, and how many good events.
async fn fill(stage: &Stage, arguments: &Arguments) -> anyhow::Result<(BTreeMap<&'static str, u64>, u64)> {
    let mut expected = BTreeMap::new();
    let messages = arguments.good.div_ceil(PER_MESSAGE);
    let mut good = 0;
    let mut waiting = Vec::new();
    for number in 0..messages.max(arguments.poison) {
        if number < messages {
            let count = PER_MESSAGE.min(arguments.good - number * PER_MESSAGE);
            good += count;
            waiting.extend(encode_batches(&sealed(count)));
        }
        if number < arguments.poison {
            let poison = poison(number);
            good += poison.good.len();
            poison.refused.iter().for_each(|(_, reason)| *expected.entry(*reason).or_default() += 1);
            waiting.push(poison.message);
        }
        if waiting.len() >= IN_FLIGHT {
            publish(&stage.raw, std::mem::take(&mut waiting)).await?;
        }
    }
    publish(&stage.raw, waiting).await?;
    Ok((expected, u64::try_from(good)?))
}

async fn publish(raw: &Raw, bodies: Vec<EncodedEvents>) -> anyhow::Result<()> {
    let channel = match raw {
        Raw::File(log) => return Ok(log.append_bodies(0, &bodies).await?),
        Raw::Broker { channel, .. } => channel,
    };
    let mut confirms = FuturesUnordered::new();
    for EncodedEvents { content_type, body, .. } in &bodies {
        let properties = BasicProperties::default().with_content_type((*content_type).into());
        let options = BasicPublishOptions::default();
        #[expect(clippy::disallowed_methods, reason = "this stands for another program")]
        let published = channel.basic_publish("tokencache.activity".into(), "0".into(), options, body, properties);
        confirms.push(published.await?);
    }
    while let Some(confirm) = confirms.next().await {
        ensure!(confirm?.is_ack(), "the broker took no message");
    }
    Ok(())
}

async fn project(stage: &Stage, good: u64) -> anyhow::Result<()> {
    let end = stage.log.bounds(0).await?.next;
    let before = resident_mib();
    let (began, mut most) = (Instant::now(), before);
    let settings = ProjectorSettings::default();
    let projector = Projector::new(stage.log.clone(), stage.letters.clone(), stage.index.clone(), settings);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(projector.run(shutdown.clone()));
    while stage.index.checkpoint(0).await?.is_none_or(|checkpoint| checkpoint.next_offset < end) {
        tokio::time::sleep(LOOK_EVERY).await;
        most = most.max(resident_mib());
    }
    let seconds = began.elapsed().as_secs_f64();
    shutdown.cancel();
    let report = running.await??;
    ensure!(report.events_applied >= good, "{} of {good} good events were applied", report.events_applied);
    let listed = stage.index.counts(None).await?.listed;
    output::fields(&[
        ("messages", end.to_string()),
        ("events applied", report.events_applied.to_string()),
        ("accounts listed", listed.to_string()),
        ("seconds", format!("{seconds:.1}")),
        ("resident before", format!("{before} MiB")),
        ("resident at most", format!("{most} MiB")),
    ]);
    Ok(())
}

async fn check(stage: &Stage, expected: &BTreeMap<&'static str, u64>) -> anyhow::Result<()> {
    let began = Instant::now();
    let summary = summarize(stage.letters.as_ref(), LetterQueue::Dead).await?;
    let listed = began.elapsed().as_secs_f64();
    let found: BTreeMap<&str, u64> = summary.reasons.iter().map(|r| (r.reason.as_str(), r.letters)).collect();
    ensure!(found == *expected, "letters are {found:?} and should be {expected:?}");
    let (filter, began) = (LetterFilter::default(), Instant::now());
    let settings = RedriveSettings { queue: LetterQueue::Dead, filter, limit: None, rate: None, is_rehearsal: false };
    let report = redrive(stage.log.as_ref(), stage.letters.as_ref(), &settings).await?;
    output::fields(&[
        ("letters", summary.letters.to_string()),
        ("copies", summary.copies.to_string()),
        ("by reason", format!("{found:?}")),
        ("looked through in", format!("{listed:.1} s")),
        ("redriven", report.redriven.to_string()),
        ("read again in", format!("{:.1} s", began.elapsed().as_secs_f64())),
        ("resident after", format!("{} MiB", resident_mib())),
    ]);
    Ok(())
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").context("Linux tells it there").expect("/proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}

fn sealed(count: usize) -> Vec<SealedEvent> {
    sample_events(count).iter().map(SealedEvent::of).collect()
}
