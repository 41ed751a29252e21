//! Dead letters on RabbitMQ: a quorum queue behind a fanout exchange of its own, published to with confirms.
//!
//! A letter is the refused bytes as `application/octet-stream`, with the letter's id as its message id, the type
//! `tokencache.dead-letter.v1`, and the headers `reason`, `detail`, `partition`, `offset`, where the message had a
//! content type `content-type`, and for one event of a batch `index`.

use async_trait::async_trait;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::BasicGetMessage;
use lapin::types::{AMQPValue, FieldTable, LongString};
use sha2::{Digest, Sha256};

use super::letter_round::AmqpRound;
use super::names::DEAD_LETTERS;
use super::publisher::{Message, Outcome};
use super::topology::table;
use super::{PERSISTENT, RabbitMqLog, now_in_seconds};
use crate::log::{
    DeadLetter, DeadLetterError, DeadLetters, LetterQueue, LetterRound, LogError, ParkLetters, ParkedLetter,
};

const CONTENT_TYPE: &str = "application/octet-stream";
const TYPE: &str = "tokencache.dead-letter.v1";
/// Letters published before their confirms are awaited.
const PARK_AT_ONCE: usize = 100;

#[async_trait]
impl ParkLetters for RabbitMqLog {
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
}

#[async_trait]
impl DeadLetters for RabbitMqLog {
    async fn open(&self, queue: LetterQueue) -> Result<Box<dyn LetterRound>, DeadLetterError> {
        Ok(Box::new(AmqpRound::open(&self.shared.connector, queue).await?))
    }
}

impl RabbitMqLog {
    fn missing(&self) -> LogError {
        LogError::Missing { log: self.shared.address().to_owned(), what: format!("queue {DEAD_LETTERS}") }
    }
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
        routing_key: String::new(),
        // The exchange has no alternate exchange: what finds no queue has to come back.
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
    if let Some(content_type) = &letter.content_type {
        headers.insert("content-type".into(), text(content_type));
    }
    if let Some(index) = letter.refused.index {
        headers.insert("index".into(), AMQPValue::LongLongInt(i64::try_from(index).unwrap_or(i64::MAX)));
    }
    headers
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// Reads a letter. A header that is missing, since somebody else put the message there, is read as empty or 0.
pub(super) fn parked(queue: LetterQueue, got: BasicGetMessage) -> ParkedLetter {
    match queue {
        LetterQueue::Dead => dead(got),
        LetterQueue::Unrouted => unrouted(got),
    }
}

fn dead(got: BasicGetMessage) -> ParkedLetter {
    let properties = &got.delivery.properties;
    let headers = properties.headers().clone().unwrap_or_default();
    let id = properties.message_id().as_ref().map(ToString::to_string);
    ParkedLetter {
        id: id.unwrap_or_else(|| digest_id('x', &got.delivery.data)),
        partition: number(&headers, "partition").and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
        offset: number(&headers, "offset").unwrap_or_default().cast_unsigned(),
        index: number(&headers, "index").and_then(|n| usize::try_from(n).ok()),
        reason: words(&headers, "reason"),
        detail: words(&headers, "detail"),
        parked_at: published_at(properties),
        content_type: headers.inner().contains_key("content-type").then(|| words(&headers, "content-type")),
        raw: got.delivery.data,
    }
}

fn unrouted(got: BasicGetMessage) -> ParkedLetter {
    let properties = &got.delivery.properties;
    let routing_key = got.delivery.routing_key.as_str();
    ParkedLetter {
        id: digest_id('u', &got.delivery.data),
        partition: routing_key.parse().unwrap_or_default(),
        offset: 0,
        index: None,
        reason: "unrouted".to_owned(),
        detail: match routing_key.parse::<u32>() {
            Ok(partition) => format!("there was no stream for partition {partition}"),
            Err(_) => "the routing key is no partition's number".to_owned(),
        },
        parked_at: published_at(properties),
        content_type: properties.content_type().as_ref().map(ToString::to_string),
        raw: got.delivery.data,
    }
}

/// The id of a message that brings none: the same for the same bytes.
fn digest_id(kind: char, body: &[u8]) -> String {
    let hex: String = Sha256::digest(body).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}-{hex}")
}

fn published_at(properties: &BasicProperties) -> Option<Timestamp> {
    let seconds = i64::try_from(properties.timestamp().as_ref().copied()?).ok()?;
    Timestamp::from_second(seconds).ok()
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
