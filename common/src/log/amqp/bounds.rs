//! What AMQP 0-9-1 does not tell of a stream and reading does: its two ends, and which streams there are.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, Consumer};
use tokio::time::{Instant, timeout, timeout_at};

use super::error;
use super::names::{marker, stream};
use super::topology::{messages_in, open_channel, table};
use crate::backend::{BackendError, Trouble};
use crate::log::{Bounds, LogError, MAX_PARTITIONS};

/// Where a stream that says it is empty delivers nothing for so long, it is empty.
const EMPTY_AFTER: Duration = Duration::from_secs(1);
/// The same for one that does not say.
const SURELY_EMPTY_AFTER: Duration = Duration::from_secs(5);
/// Under more appends than can be read the tail is never reached.
const CHASE: Duration = Duration::from_secs(5);
const RPC_TIMEOUT: Duration = Duration::from_secs(15);
const PREFETCH: u16 = 200;

/// One stream, attached to.
pub(super) struct Attached {
    pub(super) channel: Channel,
    pub(super) consumer: Consumer,
}

/// Consumes the stream of `partition` from `offset`, in the forms of `x-stream-offset`.
pub(super) async fn attach(
    address: &str,
    connection: &Connection,
    partition: u32,
    offset: AMQPValue,
    prefetch: u16,
) -> Result<Attached, LogError> {
    consume(address, connection, ("stream", &stream(partition)), table([("x-stream-offset", offset)]), prefetch).await
}

async fn consume(
    address: &str,
    connection: &Connection,
    (kind, name): (&str, &str),
    arguments: FieldTable,
    prefetch: u16,
) -> Result<Attached, LogError> {
    let what = format!("{kind} {name}");
    let failed = |e: lapin::Error| error::operating(address, &what, &format!("read the {what}"), &e);
    let channel = open_channel(address, connection).await?;
    let attaching = async {
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        channel.basic_consume(name.into(), "".into(), BasicConsumeOptions::default(), arguments).await
    };
    match timeout(RPC_TIMEOUT, attaching).await {
        Ok(consumer) => Ok(Attached { consumer: consumer.map_err(failed)?, channel }),
        Err(_) => Err(error::late(address, &format!("open the {what}")).into()),
    }
}

/// `first`, `last` or `next` of `x-stream-offset`.
pub(super) fn named(offset: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(offset))
}

/// The offset a delivery of a stream carries.
pub(super) fn offset_of(delivery: &Delivery) -> Option<u64> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get("x-stream-offset")? {
        AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
        _ => None,
    }
}

/// Nothing else carries no offset.
pub(super) fn not_a_stream(address: &str, partition: u32) -> LogError {
    LogError::Mismatch {
        log: address.to_owned(),
        what: format!("queue {}", stream(partition)),
        difference: "it is not a stream; look at what it is, then delete it or use another vhost".to_owned(),
    }
}

/// What a consumer's stream gives where it should give a delivery.
pub(super) fn delivered(
    address: &str,
    partition: u32,
    item: Option<lapin::Result<Delivery>>,
) -> Result<Delivery, LogError> {
    let what = format!("stream {}", stream(partition));
    match item {
        Some(Ok(delivery)) => Ok(delivery),
        Some(Err(error)) => Err(error::operating(address, &what, &format!("read the {what}"), &error)),
        None => {
            let message = format!("RabbitMQ ended the reading of the {what}; it was deleted, or its node went down");
            Err(BackendError::plain(Trouble::Unavailable, address, message).into())
        }
    }
}

/// The two ends of a stream. It is taken for empty where it delivers nothing for a while.
pub(super) async fn bounds(address: &str, connection: &Connection, partition: u32) -> Result<Bounds, LogError> {
    let first = async {
        let mut head = attach(address, connection, partition, named("first"), 1).await?;
        first_offset(address, connection, partition, &mut head).await
    };
    let next = async {
        let mut tail = attach(address, connection, partition, named("last"), PREFETCH).await?;
        end_of(address, connection, partition, &mut tail).await
    };
    let (first, next) = tokio::try_join!(first, next)?;
    let next = next.or(first.map(|first| first + 1)).unwrap_or(0);
    Ok(Bounds { first: first.unwrap_or(0), next })
}

/// The first offset a stream has; none where it is empty.
pub(super) async fn first(address: &str, connection: &Connection, partition: u32) -> Result<Option<u64>, LogError> {
    let mut head = attach(address, connection, partition, named("first"), 1).await?;
    first_offset(address, connection, partition, &mut head).await
}

async fn first_offset(
    address: &str,
    connection: &Connection,
    partition: u32,
    head: &mut Attached,
) -> Result<Option<u64>, LogError> {
    let began = Instant::now();
    let mut sure = false;
    loop {
        let patience = if sure { SURELY_EMPTY_AFTER } else { EMPTY_AFTER };
        if let Ok(item) = timeout_at(began + patience, head.consumer.next()).await {
            let delivery = delivered(address, partition, item)?;
            return offset_of(&delivery).map(Some).ok_or_else(|| not_a_stream(address, partition));
        }
        // The count of a stream is some seconds old, so it is asked only what silence means.
        match messages_in(address, connection, &stream(partition)).await {
            Ok(Some(0)) => return Ok(None),
            Ok(_) if sure => return Err(silent(address, partition)),
            Err(_) if sure => return Ok(None),
            Ok(_) | Err(_) => sure = true,
        }
    }
}

fn silent(address: &str, partition: u32) -> LogError {
    let message = format!("the stream {} says it holds messages and delivers none", stream(partition));
    BackendError::plain(Trouble::Unavailable, address, message).into()
}

/// The offset after the last one, reading from the last chunk to its end.
///
/// A channel of the broker does one thing after the other, and delivers all there is (as far as acks allow) in one
/// go. So what comes after an ack comes before the answer to the next call, and where fewer come than acks allow was
/// the end at that moment, however much is appended since.
async fn end_of(
    address: &str,
    connection: &Connection,
    partition: u32,
    tail: &mut Attached,
) -> Result<Option<u64>, LogError> {
    let Some(mut last) = first_offset(address, connection, partition, tail).await? else { return Ok(None) };
    let until = Instant::now() + CHASE;
    while Instant::now() < until {
        answer(address, partition, tail).await?;
        let (Some(delivery), count) = newest(address, partition, tail)? else { break };
        last = offset_of(&delivery).ok_or_else(|| not_a_stream(address, partition))?;
        // The first delivery of all is not acked and counts with the first ones here.
        if count + 1 < usize::from(PREFETCH) {
            break;
        }
        acknowledge(address, partition, &delivery).await?;
    }
    Ok(Some(last + 1))
}

/// The last of the deliveries that have come, and how many there were.
fn newest(address: &str, partition: u32, tail: &mut Attached) -> Result<(Option<Delivery>, usize), LogError> {
    let (mut newest, mut count) = (None, 0);
    while let Some(item) = tail.consumer.next().now_or_never() {
        newest = Some(delivered(address, partition, item)?);
        count += 1;
    }
    Ok((newest, count))
}

/// Asks for any answer at all.
async fn answer(address: &str, partition: u32, tail: &Attached) -> Result<(), LogError> {
    let what = format!("stream {}", stream(partition));
    match timeout(RPC_TIMEOUT, tail.channel.basic_qos(PREFETCH, BasicQosOptions::default())).await {
        Ok(done) => done.map_err(|e| error::operating(address, &what, &format!("read the {what}"), &e)),
        Err(_) => Err(error::late(address, "answer").into()),
    }
}

async fn acknowledge(address: &str, partition: u32, delivery: &Delivery) -> Result<(), LogError> {
    let what = format!("stream {}", stream(partition));
    let options = BasicAckOptions { multiple: true };
    match timeout(RPC_TIMEOUT, delivery.ack(options)).await {
        Ok(done) => done.map(|_| ()).map_err(|e| error::operating(address, &what, "ack", &e)),
        Err(_) => Err(error::late(address, "take an ack").into()),
    }
}

/// How many partitions there are from 0 on; `None` where this user may not ask.
///
/// Attaching needs no more than a reader's permission, on every version. A stream may be there and not take anything
/// yet, so the markers are asked first; topologies of earlier versions have none.
pub(super) async fn count_partitions(address: &str, connection: &Connection) -> Result<Option<u32>, LogError> {
    match count(address, connection, Kind::Marker).await {
        Ok(Some(partitions)) => return Ok(Some(partitions)),
        Ok(None) | Err(LogError::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    count(address, connection, Kind::Stream).await
}

/// What there is one of for each partition.
#[derive(Clone, Copy)]
enum Kind {
    Marker,
    Stream,
}

async fn count(address: &str, connection: &Connection, kind: Kind) -> Result<Option<u32>, LogError> {
    for partition in 0..MAX_PARTITIONS {
        match look(address, connection, kind, partition).await {
            Ok(_) => {}
            Err(missing @ LogError::Missing { .. }) if partition == 0 => return Err(missing),
            Err(LogError::Missing { .. }) => return Ok(Some(partition)),
            Err(LogError::Backend(error)) if error.trouble == Trouble::Refused => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(MAX_PARTITIONS))
}

async fn look(address: &str, connection: &Connection, kind: Kind, partition: u32) -> Result<Attached, LogError> {
    match kind {
        Kind::Stream => attach(address, connection, partition, named("next"), 1).await,
        Kind::Marker => consume(address, connection, ("queue", &marker(partition)), FieldTable::default(), 1).await,
    }
}
