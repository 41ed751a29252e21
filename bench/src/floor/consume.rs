//! One message per event in, one Lua call per event out, pipelined.

use std::time::Instant;

use anyhow::Context as _;
use common::event::{self, Activity, ActivityEvent};
use common::redis_pool::RedisPool;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use redis::Script;
use redis::aio::MultiplexedConnection;

use super::PlainStream;

const PREFETCH: u16 = 500;
/// Calls under way at once.
const WINDOW: usize = 256;
/// Deliveries that are acknowledged together.
const ACK_EVERY: usize = 100;

/// The newest event wins; three sorted sets are kept beside the hash.
const UPSERT: &str = "
local stored = redis.call('HGET', KEYS[1], 'time')
if not stored or tonumber(stored) < tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], 'time', ARGV[2], 'body', ARGV[3])
    redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
    redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
    redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
end
return 1";

/// Reads so many messages from the beginning of the stream into an index under `prefix`. Gives events per second.
pub(crate) async fn project_one_by_one(
    stream: &PlainStream,
    events: usize,
    pool: &RedisPool,
    prefix: &str,
) -> anyhow::Result<f64> {
    let redis = pool.dedicated().await?;
    let script = Script::new(UPSERT);
    script.load_async(&mut redis.clone()).await?;
    let channel = stream.connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    let begun = Instant::now();
    let name = stream.name.as_str().into();
    let mut deliveries = channel.basic_consume(name, "floor".into(), BasicConsumeOptions::default(), arguments).await?;
    let mut calls = FuturesUnordered::new();
    for number in 1..=events {
        if calls.len() >= WINDOW {
            calls.next().await.context("no call is under way")??;
        }
        let delivery = deliveries.next().await.context("the stream ended")??;
        calls.push(upsert(redis.clone(), script.clone(), prefix.to_owned(), event_in(&delivery)?));
        if number % ACK_EVERY == 0 {
            delivery.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    while let Some(call) = calls.next().await {
        call?;
    }
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    channel.close(200, "done".into()).await?;
    Ok(rate)
}

fn event_in(delivery: &Delivery) -> anyhow::Result<ActivityEvent> {
    let content_type = delivery.properties.content_type().as_ref().map(|text| text.as_str());
    let first = event::decode(content_type, &delivery.data).into_iter().next();
    let event = first.context("an empty message")?;
    event.map_err(|refused| anyhow::anyhow!("{}", refused.error))
}

async fn upsert(
    mut redis: MultiplexedConnection,
    script: Script,
    prefix: String,
    event: ActivityEvent,
) -> anyhow::Result<()> {
    let Activity::UserActivity(details) = &event.activity else {
        anyhow::bail!("the floor knows user activity alone");
    };
    let tenant = details.tenant_id.as_ref().context("no tenant")?;
    let username = details.username.as_ref().context("no username")?;
    let mut call = script.prepare_invoke();
    call.key(format!("{prefix}account:{}", event.subject)).key(format!("{prefix}active"));
    call.key(format!("{prefix}tenant:{tenant}")).key(format!("{prefix}user:{username}"));
    call.arg(event.subject.as_str()).arg(event.time.as_microsecond()).arg(serde_json::to_vec(details)?);
    Ok(call.invoke_async(&mut redis).await?)
}
