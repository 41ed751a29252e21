//! Reads one stream: a consumer with manual acks that notices what the broker would pass over in silence.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use lapin::types::AMQPValue;
use lapin::{Acker, Connection};
use tokio::time::{Instant, timeout, timeout_at};

use super::bounds::{self, Attached, attach, delivered, named, not_a_stream, offset_of};
use super::{Shared, error};
use crate::backend::{BackendError, Trouble};
use crate::log::{Bounds, LogError, LogMessage, LogReader, Position};

/// Deliveries that are acked together. Acking one by one is ten times slower.
const ACK_EVERY: u16 = 64;
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the message before the one that was asked for may take to come.
const PROOF_TIMEOUT: Duration = Duration::from_secs(1);
/// Bodies given at once.
const MAX_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct StreamReader {
    shared: Arc<Shared>,
    partition: u32,
    /// `None`: spent.
    source: Option<Source>,
    /// The offset that comes next, where it is known.
    expected: Option<u64>,
    /// An offset that did not come where it should have; what that means is not known yet.
    jumped_over: Option<u64>,
    /// Taken from the broker and not yet given to the caller.
    ready: VecDeque<LogMessage>,
    ready_bytes: usize,
    unacked: u16,
    last: Option<Acker>,
}

struct Source {
    attached: Attached,
    // Last, so that the channel is closed before it.
    connection: Arc<Connection>,
}

impl StreamReader {
    pub(super) async fn open(
        shared: Arc<Shared>,
        connection: Arc<Connection>,
        partition: u32,
        position: Position,
    ) -> Result<Self, LogError> {
        let attached =
            attach(shared.address(), &connection, partition, offset_argument(position), shared.prefetch).await?;
        let mut reader = Self {
            shared,
            partition,
            source: Some(Source { attached, connection }),
            expected: None,
            jumped_over: None,
            ready: VecDeque::new(),
            ready_bytes: 0,
            unacked: 0,
            last: None,
        };
        if let Position::Offset(asked) = position {
            reader.expected = Some(asked);
            if asked > 0 {
                reader.prove(asked).await?;
            }
        }
        Ok(reader)
    }

    /// Makes sure that the log goes up to `asked`: the message before it comes first. A broker asked for an offset
    /// it does not have attaches somewhere else and says nothing.
    async fn prove(&mut self, asked: u64) -> Result<(), LogError> {
        let until = Instant::now() + PROOF_TIMEOUT;
        while self.ready.is_empty() {
            let source = self.source()?;
            let Ok(item) = timeout_at(until, source.attached.consumer.next()).await else {
                return self.check_bounds(asked).await;
            };
            let delivery = delivered(self.shared.address(), self.partition, item)?;
            let offset = self.accept(delivery)?;
            if offset + 1 == asked {
                return Ok(());
            }
        }
        self.explain_jump().await
    }

    async fn check_bounds(&mut self, asked: u64) -> Result<(), LogError> {
        let partition = self.partition;
        let connection = Arc::clone(&self.source()?.connection);
        let Bounds { first, next } = bounds::bounds(self.shared.address(), &connection, partition).await?;
        if asked < first || asked > next {
            return Err(LogError::Gap { partition, asked, first, next });
        }
        Ok(())
    }

    /// An offset that was jumped over is a gap where the log now begins after it. Otherwise it is one of those that
    /// RabbitMQ uses for itself.
    async fn explain_jump(&mut self) -> Result<(), LogError> {
        let Some(asked) = self.jumped_over else { return Ok(()) };
        let (partition, next) = (self.partition, self.expected.unwrap_or(asked));
        let connection = Arc::clone(&self.source()?.connection);
        let first = bounds::first(self.shared.address(), &connection, partition).await?.unwrap_or(next);
        if first > asked {
            return Err(LogError::Gap { partition, asked, first, next });
        }
        self.jumped_over = None;
        Ok(())
    }

    fn source(&mut self) -> Result<&mut Source, LogError> {
        let spent = "this reader has failed before; open another one";
        self.source
            .as_mut()
            .ok_or_else(|| BackendError::plain(Trouble::Unavailable, self.shared.address(), spent).into())
    }

    /// Takes a delivery over, and says its offset. Those before the one that is expected are passed over: the broker
    /// begins where a chunk begins.
    fn accept(&mut self, delivery: Delivery) -> Result<u64, LogError> {
        let partition = self.partition;
        // A queue that is no stream would lose what is acked, so this comes before the ack.
        let offset = offset_of(&delivery).ok_or_else(|| not_a_stream(self.shared.address(), partition))?;
        self.unacked = self.unacked.saturating_add(1);
        let Delivery { properties, data, acker, .. } = delivery;
        self.last = Some(acker);
        if let Some(expected) = self.expected {
            if offset < expected {
                return Ok(offset);
            }
            if offset > expected {
                self.jumped_over.get_or_insert(expected);
            }
        }
        self.expected = Some(offset + 1);
        let content_type = properties.content_type().as_ref().map(|text| text.as_str());
        self.ready_bytes += data.len();
        self.ready.push_back(LogMessage::decode(partition, offset, content_type, data));
        Ok(offset)
    }

    /// Takes over what has come already.
    fn accept_waiting(&mut self, max: usize) -> Result<(), LogError> {
        while self.ready.len() < max && self.ready_bytes < MAX_BYTES {
            let Some(item) = self.source()?.attached.consumer.next().now_or_never() else { return Ok(()) };
            let delivery = delivered(self.shared.address(), self.partition, item)?;
            self.accept(delivery)?;
        }
        Ok(())
    }

    async fn fill(&mut self, max: usize, deadline: Instant) -> Result<(), LogError> {
        loop {
            self.accept_waiting(max)?;
            if !self.ready.is_empty() {
                break;
            }
            // Nothing stays unacked while this waits: the broker ends a channel that leaves deliveries unsettled.
            self.acknowledge().await?;
            let Ok(item) = timeout_at(deadline, self.source()?.attached.consumer.next()).await else { break };
            let delivery = delivered(self.shared.address(), self.partition, item)?;
            self.accept(delivery)?;
        }
        if self.unacked >= ACK_EVERY.min(self.shared.prefetch) {
            self.acknowledge().await?;
        }
        self.explain_jump().await
    }

    /// Acks all there is. That only asks for more: what was read is known by its offset.
    async fn acknowledge(&mut self) -> Result<(), LogError> {
        let Some(last) = self.last.take() else { return Ok(()) };
        self.unacked = 0;
        match timeout(ACK_TIMEOUT, last.ack(BasicAckOptions { multiple: true })).await {
            Ok(done) => done.map(|_| ()).map_err(|e| error::operating(self.shared.address(), "the stream", "ack", &e)),
            Err(_) => Err(error::late(self.shared.address(), "take an ack").into()),
        }
    }

    fn give(&mut self, max: usize) -> Vec<LogMessage> {
        let count = max.min(self.ready.len());
        if count == self.ready.len() {
            self.ready_bytes = 0;
        }
        self.ready.drain(..count).collect()
    }
}

/// For an offset, the one before it: that it comes proves that the log goes so far.
fn offset_argument(position: Position) -> AMQPValue {
    match position {
        Position::First => named("first"),
        Position::End => named("next"),
        Position::Time(time) => AMQPValue::Timestamp(seconds(time)),
        Position::Offset(asked) => AMQPValue::LongLongInt(i64::try_from(asked.saturating_sub(1)).unwrap_or(i64::MAX)),
    }
}

fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or(0)
}

#[async_trait]
impl LogReader for StreamReader {
    async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<LogMessage>, LogError> {
        let max = max.max(1);
        if let Err(error) = self.fill(max, Instant::now() + wait).await {
            self.source = None;
            return Err(error);
        }
        Ok(self.give(max))
    }
}
