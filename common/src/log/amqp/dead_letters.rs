//! Dead letters on RabbitMQ: a quorum queue, published to with confirms, looked at without taking.
//!
//! A letter is the refused bytes as `application/octet-stream`, with the letter's id as its message id, the type
//! `tokencache.dead-letter.v1`, and the headers `reason`, `detail`, `partition`, `offset` and, for one event of a
//! batch, `index`.

use std::time::Duration;

use async_trait::async_trait;
use lapin::message::BasicGetMessage;
use lapin::options::BasicGetOptions;
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel};
use tokio::time::timeout;

use super::names::DEAD_LETTERS;
use super::publisher::{Message, Outcome};
use super::topology::{open_channel, table};
use super::{PERSISTENT, RabbitMqLog, error, now_in_seconds};
use crate::log::{DeadLetter, DeadLetterError, DeadLetters, LogError, ParkedLetter};

const CONTENT_TYPE: &str = "application/octet-stream";
const TYPE: &str = "tokencache.dead-letter.v1";
/// Letters published before their confirms are awaited.
const PARK_AT_ONCE: usize = 100;
/// Bytes looked at in one go.
const MAX_PEEKED_BYTES: usize = 32 * 1024 * 1024;
const RPC_TIMEOUT: Duration = Duration::from_secs(15);
const REPLY_SUCCESS: u16 = 200;

#[async_trait]
impl DeadLetters for RabbitMqLog {
    async fn park(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError> {
        let _one_at_a_time = self.shared.parking.lock().await;
        for some in letters.chunks(PARK_AT_ONCE) {
            let outcomes = self.shared.dead_letter_publisher().publish(some.iter().map(message).collect()).await?;
            // Nothing but letters is on this channel, so one that came back says that the queue is not there.
            if outcomes.contains(&Outcome::Returned) {
                return Err(self.missing().into());
            }
            if outcomes.contains(&Outcome::Nacked) {
                return Err(DeadLetterError::Nacked);
            }
        }
        Ok(())
    }

    /// Takes letters without acking them, which puts them back in order when the channel is closed. Until then
    /// another one who looks sees those behind them. Each look counts as a delivery of the letter, and the queue is
    /// declared to bear a million of those.
    async fn peek(&self, max: usize) -> Result<Vec<ParkedLetter>, DeadLetterError> {
        let connection = self.shared.reading().await?;
        let channel = open_channel(self.shared.address(), &connection).await?;
        let letters = self.look(&channel, max).await;
        // The letters are back when the broker has answered the close.
        let closed = timeout(RPC_TIMEOUT, channel.close(REPLY_SUCCESS, "looked".into())).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::debug!("the channel for looking at dead letters ended by itself");
        }
        Ok(letters?)
    }
}

impl RabbitMqLog {
    async fn look(&self, channel: &Channel, max: usize) -> Result<Vec<ParkedLetter>, LogError> {
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < max && bytes < MAX_PEEKED_BYTES {
            let Some(letter) = self.get(channel).await? else { break };
            bytes += letter.data.len();
            letters.push(parked(letter));
        }
        Ok(letters)
    }

    async fn get(&self, channel: &Channel) -> Result<Option<BasicGetMessage>, LogError> {
        let address = self.shared.address();
        let getting = channel.basic_get(DEAD_LETTERS.into(), BasicGetOptions::default());
        match timeout(RPC_TIMEOUT, getting).await {
            Ok(got) => got.map_err(|e| error::operating(address, &queue(), "read the dead letters", &e)),
            Err(_) => Err(error::late(address, "give a dead letter").into()),
        }
    }

    fn missing(&self) -> LogError {
        LogError::Missing { log: self.shared.address().to_owned(), what: queue() }
    }
}

fn queue() -> String {
    format!("queue {DEAD_LETTERS}")
}

fn message(letter: &DeadLetter) -> Message {
    let properties = BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_type(TYPE.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(letter.id().into())
        .with_timestamp(now_in_seconds())
        .with_headers(headers(letter));
    Message {
        // The default exchange has no alternate exchange: what finds no queue has to come back.
        exchange: "",
        routing_key: DEAD_LETTERS.to_owned(),
        mandatory: true,
        properties,
        body: letter.refused.raw.clone(),
    }
}

fn headers(letter: &DeadLetter) -> FieldTable {
    let error = &letter.refused.error;
    let mut headers = table([
        ("reason", text(error.code())),
        ("detail", text(&error.to_string())),
        ("partition", AMQPValue::LongLongInt(letter.partition.into())),
        ("offset", AMQPValue::LongLongInt(letter.offset.cast_signed())),
    ]);
    if let Some(index) = letter.refused.index {
        headers.insert("index".into(), AMQPValue::LongLongInt(i64::try_from(index).unwrap_or(i64::MAX)));
    }
    headers
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// Reads a letter. A header that is missing, since somebody else put the message there, is read as empty or 0.
fn parked(got: BasicGetMessage) -> ParkedLetter {
    let properties = &got.delivery.properties;
    let headers = properties.headers().clone().unwrap_or_default();
    ParkedLetter {
        id: properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default(),
        partition: number(&headers, "partition").and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
        offset: number(&headers, "offset").unwrap_or_default().cast_unsigned(),
        index: number(&headers, "index").and_then(|n| usize::try_from(n).ok()),
        reason: words(&headers, "reason"),
        detail: words(&headers, "detail"),
        raw: got.delivery.data,
    }
}

fn number(headers: &FieldTable, name: &str) -> Option<i64> {
    headers.inner().get(name).and_then(|value| match value {
        AMQPValue::LongLongInt(number) => Some(*number),
        AMQPValue::LongInt(number) => Some((*number).into()),
        _ => None,
    })
}

fn words(headers: &FieldTable, name: &str) -> String {
    match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        _ => String::new(),
    }
}
