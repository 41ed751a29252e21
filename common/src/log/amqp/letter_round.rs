//! One way through a queue of letters: each is taken without an ack, and comes back when the channel is closed.
//!
//! A quorum queue can be looked at in no other way. Letters that are held stay with the broker, so this side has one
//! of them in memory. They come back also where the connection breaks or the process dies: in their order, and behind
//! others that came back before. Each way through counts as a delivery of every letter, and the queues are declared to
//! bear a million of those.
//!
//! Two who went through at once would each see a part, so there is a lock: a queue that only the connection that
//! declared it may use, and that is gone with it.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, LongString};
use lapin::{Channel, Connection};
use tokio::time::timeout;

use super::connection::{self, Connector};
use super::dead_letters::parked;
use super::error;
use super::names::{DEAD_LETTERS, UNROUTED};
use super::topology::{open_channel, table};
use crate::log::{DeadLetterError, LetterQueue, LetterRound, LetterTicket, LogError, ParkedLetter};

const RPC_TIMEOUT: Duration = Duration::from_secs(15);
const REPLY_SUCCESS: u16 = 200;
/// Acks on their way to a quorum queue before its channel keeps the others back, by half.
const MOST_ACKS: u32 = 16;
/// The delivery tag that stands for all that are not settled.
const ALL_HELD: u64 = 0;

pub(super) struct AmqpRound {
    address: String,
    queue: LetterQueue,
    channel: Channel,
    /// Acks that may not be done yet.
    acks: u32,
    /// Taken, and not given yet.
    ahead: VecDeque<BasicGetMessage>,
    // Last, so that the channel is closed before it.
    connection: Connection,
}

impl AmqpRound {
    pub(super) async fn open(connector: &Connector, queue: LetterQueue) -> Result<Self, DeadLetterError> {
        let address = connector.address().to_owned();
        let connection = connector.connect("letters").await.map_err(LogError::from)?;
        let channel = open_channel(&address, &connection).await?;
        let round = Self { address, queue, channel, acks: 0, ahead: VecDeque::new(), connection };
        round.lock().await?;
        Ok(round)
    }

    async fn lock(&self) -> Result<(), DeadLetterError> {
        let name = format!("{}-lock", name(self.queue));
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let classic = table([("x-queue-type", AMQPValue::LongString(LongString::from("classic")))]);
        let declaring = self.channel.queue_declare(name.as_str().into(), options, classic);
        match timeout(RPC_TIMEOUT, declaring).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error::is_locked(&error) => Err(DeadLetterError::Busy),
            Ok(Err(error)) => Err(self.failed("keep others from the letters", &error).into()),
            Err(_) => Err(self.late("answer").into()),
        }
    }

    /// Waits until the acks so far are done. They have no answer, and a channel that is closed forgets those that wait
    /// for their turn, which are all but the first 32. The answer to a get comes after the acks that were on their way.
    async fn see_acks_done(&mut self) -> Result<(), DeadLetterError> {
        if self.acks > 0 {
            let got = self.get().await?;
            self.ahead.extend(got);
        }
        self.acks = 0;
        Ok(())
    }

    async fn get(&self) -> Result<Option<BasicGetMessage>, LogError> {
        let getting = self.channel.basic_get(name(self.queue).into(), BasicGetOptions::default());
        match timeout(RPC_TIMEOUT, getting).await {
            Ok(got) => got.map_err(|error| self.failed("read the letters", &error)),
            Err(_) => Err(self.late("give a letter")),
        }
    }

    fn failed(&self, doing: &str, error: &lapin::Error) -> LogError {
        error::operating(&self.address, &format!("queue {}", name(self.queue)), doing, error)
    }

    fn late(&self, doing: &str) -> LogError {
        error::late(&self.address, doing).into()
    }
}

fn name(queue: LetterQueue) -> &'static str {
    match queue {
        LetterQueue::Dead => DEAD_LETTERS,
        LetterQueue::Unrouted => UNROUTED,
    }
}

#[async_trait]
impl LetterRound for AmqpRound {
    async fn next(&mut self) -> Result<Option<(LetterTicket, ParkedLetter)>, DeadLetterError> {
        let got = match self.ahead.pop_front() {
            Some(got) => Some(got),
            None => self.get().await?,
        };
        Ok(got.map(|got| (LetterTicket(got.delivery.delivery_tag), parked(self.queue, got))))
    }

    async fn take_out(&mut self, ticket: LetterTicket) -> Result<(), DeadLetterError> {
        let acking = self.channel.basic_ack(ticket.0, BasicAckOptions::default());
        match timeout(RPC_TIMEOUT, acking).await {
            Ok(acked) => acked.map_err(|error| self.failed("take out a letter", &error))?,
            Err(_) => return Err(self.late("take an ack").into()),
        }
        self.acks += 1;
        if self.acks < MOST_ACKS { Ok(()) } else { self.see_acks_done().await }
    }

    /// What is held is put back by a nack, because what a closed channel leaves behind is put back only some time later.
    async fn close(&mut self) -> Result<(), DeadLetterError> {
        self.see_acks_done().await?;
        let closing = async {
            let all = BasicNackOptions { multiple: true, requeue: true };
            self.channel.basic_nack(ALL_HELD, all).await?;
            // A close may overtake what has no answer.
            self.channel.basic_qos(1, BasicQosOptions::default()).await?;
            self.channel.close(REPLY_SUCCESS, "done".into()).await
        };
        let closed = match timeout(RPC_TIMEOUT, closing).await {
            Ok(closed) => closed.map_err(|error| self.failed("put the letters back", &error)),
            Err(_) => Err(self.late("put the letters back")),
        };
        connection::close(&self.connection).await;
        Ok(closed?)
    }
}
