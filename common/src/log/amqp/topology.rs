//! The exchange, the streams and the two queues, declared by one function that may run again and again.

use std::fmt;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, ExchangeKind};
use tokio::time::timeout;

use super::error;
use super::names::{DEAD_LETTERS, EXCHANGE, REAUTHENTICATION, REAUTHENTICATION_KEY, UNROUTED, marker, stream};
use crate::log::LogError;

/// One declaration; a cluster elects leaders for a new stream or queue within it.
const CHANNELS_TRIED: usize = 5;
const DECLARE_TIMEOUT: Duration = Duration::from_secs(30);
/// Looking at a queue without taking counts as a delivery, and RabbitMQ 4 drops a message after 20 of them.
const DELIVERY_LIMIT: i64 = 1_000_000;

/// How streams are declared that are not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyOptions {
    /// How many partitions, 1 or more. More are added at any time; none is ever taken away.
    pub partitions: u32,
    /// How long messages are kept; `None` where a policy of the broker says so.
    pub max_age: Option<MaxAge>,
    /// The size of a stream's files in bytes, where the broker's own is not wanted. Retention removes whole files.
    pub max_segment_bytes: Option<u32>,
}

impl Default for TopologyOptions {
    fn default() -> Self {
        Self { partitions: 1, max_age: Some(MaxAge::default()), max_segment_bytes: None }
    }
}

/// How long a stream keeps messages: a number and `Y`, `M`, `D`, `h`, `m` or `s`, such as `100D`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxAge(String);

/// A text is not a [`MaxAge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give a number and Y, M, D, h, m or s, such as 100D")]
pub struct InvalidMaxAge;

impl Default for MaxAge {
    /// 100 days: longer than the longest life of a refresh token, so that what is older is dead anyway.
    fn default() -> Self {
        Self("100D".to_owned())
    }
}

impl std::str::FromStr for MaxAge {
    type Err = InvalidMaxAge;

    fn from_str(text: &str) -> Result<Self, InvalidMaxAge> {
        let number = text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']).ok_or(InvalidMaxAge)?;
        match number.parse::<u32>() {
            Ok(number) if number > 0 => Ok(Self(text.to_owned())),
            _ => Err(InvalidMaxAge),
        }
    }
}

impl fmt::Display for MaxAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is declared, as far as asking by name tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyState {
    /// Whether the exchange is there.
    pub exchange: bool,
    /// Whether the exchange for what no stream takes is there.
    pub unrouted_exchange: bool,
    /// Whether the exchange that dead letters are published to is there.
    pub dead_letter_exchange: bool,
    /// How many streams there are, counted from partition 0 to the first that is missing.
    pub partitions: u32,
    /// How many dead letters wait, where their queue is there.
    pub dead_letters: Option<u32>,
    /// How many messages no stream took, where their queue is there. More than 0 is an alarm.
    pub unrouted: Option<u32>,
}

impl TopologyState {
    /// Whether all of it is there.
    pub fn is_complete(&self) -> bool {
        self.exchange
            && self.unrouted_exchange
            && self.dead_letter_exchange
            && self.partitions > 0
            && self.dead_letters.is_some()
            && self.unrouted.is_some()
    }
}

/// Declares everything that is not there yet.
pub(super) async fn declare(address: &str, connection: &Connection, options: &TopologyOptions) -> Result<(), LogError> {
    let scratch = Scratch::open(address, connection).await?;
    // What catches the unroutable comes first, so that no publisher meets the exchange without it.
    scratch.exchange(UNROUTED, ExchangeKind::Fanout, FieldTable::default()).await?;
    scratch.queue(UNROUTED, parked()).await?;
    scratch.bind(UNROUTED, UNROUTED, "").await?;
    scratch.exchange(EXCHANGE, ExchangeKind::Direct, table([("alternate-exchange", text(UNROUTED))])).await?;
    scratch.exchange(DEAD_LETTERS, ExchangeKind::Fanout, FieldTable::default()).await?;
    scratch.queue(DEAD_LETTERS, parked()).await?;
    scratch.bind(DEAD_LETTERS, DEAD_LETTERS, "").await?;
    scratch.queue(REAUTHENTICATION, streamed(options)).await?;
    scratch.bind(REAUTHENTICATION, EXCHANGE, REAUTHENTICATION_KEY).await?;
    scratch.partitions(0, options).await
}

/// Declares the partitions from `before` on, and whatever an earlier call has left out of those before.
pub(super) async fn grow(
    address: &str,
    connection: &Connection,
    before: u32,
    options: &TopologyOptions,
) -> Result<(), LogError> {
    Scratch::open(address, connection).await?.partitions(before, options).await
}

/// Asks for everything by name. The user needs `configure` for that on newer brokers.
pub(super) async fn inspect(address: &str, connection: &Connection) -> Result<TopologyState, LogError> {
    let exchange = exchange_is_there(address, connection, EXCHANGE, ExchangeKind::Direct).await?;
    let unrouted_exchange = exchange_is_there(address, connection, UNROUTED, ExchangeKind::Fanout).await?;
    let dead_letter_exchange = exchange_is_there(address, connection, DEAD_LETTERS, ExchangeKind::Fanout).await?;
    let dead_letters = messages_in(address, connection, DEAD_LETTERS).await?;
    let unrouted = messages_in(address, connection, UNROUTED).await?;
    let mut partitions = 0;
    while messages_in(address, connection, &stream(partitions)).await?.is_some() {
        partitions += 1;
    }
    Ok(TopologyState { exchange, unrouted_exchange, dead_letter_exchange, partitions, dead_letters, unrouted })
}

/// How many messages a queue says it holds (streams: some time ago), or that it is not there.
pub(super) async fn messages_in(address: &str, connection: &Connection, queue: &str) -> Result<Option<u32>, LogError> {
    let scratch = Scratch::open(address, connection).await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = scratch.channel.queue_declare(queue.into(), options, FieldTable::default());
    let found = scratch.within(asked, &format!("queue {queue}"), "ask for queues").await;
    absent_is_none(found.map(|queue| queue.message_count()))
}

async fn exchange_is_there(
    address: &str,
    connection: &Connection,
    name: &str,
    kind: ExchangeKind,
) -> Result<bool, LogError> {
    let scratch = Scratch::open(address, connection).await?;
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let asked = scratch.channel.exchange_declare(name.into(), kind, options, FieldTable::default());
    let found = scratch.within(asked, &format!("exchange {name}"), "ask for exchanges").await;
    absent_is_none(found).map(|found| found.is_some())
}

fn absent_is_none<T>(found: Result<T, LogError>) -> Result<Option<T>, LogError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(LogError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A channel that an error may close.
struct Scratch<'a> {
    address: &'a str,
    channel: Channel,
}

impl<'a> Scratch<'a> {
    async fn open(address: &'a str, connection: &Connection) -> Result<Self, LogError> {
        Ok(Self { address, channel: open_channel(address, connection).await? })
    }

    async fn exchange(&self, name: &str, kind: ExchangeKind, arguments: FieldTable) -> Result<(), LogError> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared = self.channel.exchange_declare(name.into(), kind, options, arguments);
        self.within(declared, &format!("exchange {name}"), "declare the topology").await
    }

    async fn queue(&self, name: &str, arguments: FieldTable) -> Result<(), LogError> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(name.into(), options, arguments);
        self.within(declared, &format!("queue {name}"), "declare the topology").await.map(|_| ())
    }

    async fn bind(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<(), LogError> {
        let options = QueueBindOptions::default();
        let bound =
            self.channel.queue_bind(queue.into(), exchange.into(), routing_key.into(), options, FieldTable::default());
        self.within(bound, &format!("queue {queue}"), "bind the topology").await
    }

    /// The streams from `new` on, and the bindings of all. A stream that is there may have been declared otherwise.
    async fn partitions(&self, new: u32, options: &TopologyOptions) -> Result<(), LogError> {
        for partition in 0..options.partitions.max(1) {
            let name = stream(partition);
            if partition >= new {
                self.queue(&name, streamed(options)).await?;
            }
            self.bind(&name, EXCHANGE, &partition.to_string()).await?;
            // Last, so that nothing is published to what no stream would take.
            self.queue(&marker(partition), FieldTable::default()).await?;
        }
        Ok(())
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = lapin::Result<T>>,
        what: &str,
        doing: &str,
    ) -> Result<T, LogError> {
        match timeout(DECLARE_TIMEOUT, work).await {
            Ok(done) => done.map_err(|e| error::operating(self.address, what, doing, &e)),
            Err(_) => Err(error::late(self.address, &format!("{doing} ({what})")).into()),
        }
    }
}

/// A channel. One that is opened just as the broker ends another, for a stream that is not there, may get its number
/// and be told of its end; the next one is free of that.
pub(super) async fn open_channel(address: &str, connection: &Connection) -> Result<Channel, LogError> {
    for _ in 1..CHANNELS_TRIED {
        match try_open_channel(address, connection).await {
            Err(LogError::Missing { .. }) => {}
            opened => return opened,
        }
    }
    try_open_channel(address, connection).await
}

async fn try_open_channel(address: &str, connection: &Connection) -> Result<Channel, LogError> {
    match timeout(DECLARE_TIMEOUT, connection.create_channel()).await {
        Ok(channel) => channel.map_err(|e| error::operating(address, "the channel", "open a channel", &e)),
        Err(_) => Err(error::late(address, "open a channel").into()),
    }
}

fn parked() -> FieldTable {
    table([("x-queue-type", text("quorum")), ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT))])
}

fn streamed(options: &TopologyOptions) -> FieldTable {
    let mut arguments = table([("x-queue-type", text("stream"))]);
    if let Some(max_age) = &options.max_age {
        arguments.insert("x-max-age".into(), text(&max_age.0));
    }
    if let Some(bytes) = options.max_segment_bytes {
        arguments.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(bytes.into()));
    }
    arguments
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// Arguments or headers by name.
pub(super) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        for text in ["100D", "3M", "12h", "1Y"] {
            assert_eq!(text.parse::<MaxAge>().map(|age| age.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "D", "100", "0D", "-1D", "1 D", "100d"] {
            assert_eq!(text.parse::<MaxAge>(), Err(InvalidMaxAge), "{text}");
        }
    }
}
