//! The ports of the log: append and read, and where an event goes that cannot be applied.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LogMessage;
use crate::backend::BackendError;
use crate::event::{self, ActivityEvent, Refused, SINGLE_CONTENT_TYPE, SealedEvent};

/// The most partitions a log may have: more than anybody needs.
pub const MAX_PARTITIONS: u32 = 1_024;
/// What one [`DeadLetters::peek`] holds in memory, about.
const MAX_PEEKED_BYTES: usize = 32 * 1024 * 1024;

/// The log: RabbitMQ streams in production, SQLite embedded.
///
/// Delivery is at least once; the order of arrival holds within a partition, and nothing relies on it.
/// Every implementation passes the conformance suite of the `testkit` crate.
#[async_trait]
pub trait ActivityLog: Send + Sync + fmt::Debug {
    /// How many partitions there are, 1 or more. They are numbered from 0.
    ///
    /// # Errors
    /// [`LogError`].
    async fn partitions(&self) -> Result<u32, LogError>;

    /// Appends `events` to one partition, as one message wherever the limits allow it.
    ///
    /// When it returns, the log has confirmed every one of them. Calls may run side by side.
    ///
    /// # Errors
    /// [`AppendError`]; any of the events may have been appended then, and appending all again is right.
    ///
    /// # Cancel safety
    /// A dropped call may still append, in whole or in part.
    async fn append_sealed(&self, partition: u32, events: &[SealedEvent]) -> Result<(), AppendError>;

    /// The same with events that are yet to be written as JSON.
    ///
    /// # Errors
    /// As [`append_sealed`](Self::append_sealed).
    ///
    /// # Cancel safety
    /// As [`append_sealed`](Self::append_sealed).
    async fn append(&self, partition: u32, events: &[ActivityEvent]) -> Result<(), AppendError> {
        let sealed: Vec<SealedEvent> = events.iter().map(SealedEvent::of).collect();
        self.append_sealed(partition, &sealed).await
    }

    /// Follows one partition from `position`, for ever.
    ///
    /// # Errors
    /// [`LogError`]. That the log does not have an offset is [`LogError::Gap`], here or at the first
    /// [`LogReader::next`].
    async fn read(&self, partition: u32, position: Position) -> Result<Box<dyn LogReader>, LogError>;

    /// The first offset the log still has and the offset the next message will get.
    ///
    /// # Errors
    /// [`LogError`].
    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError>;

    /// How often the connection that appends go over was lost. Whoever appended sends again, when this has changed,
    /// what was confirmed shortly before: a broker that confirms before it syncs may have lost it. Stays 0 where a
    /// confirm means that the events are on the disk.
    fn append_connection_losses(&self) -> u64 {
        0
    }
}

/// Where to begin to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At the first message the log still has.
    First,
    /// At this offset.
    Offset(u64),
    /// At the first message that arrived at or after this time. A log that keeps its times by the chunk may begin
    /// with some that arrived shortly before.
    Time(Timestamp),
    /// At the next message to arrive.
    End,
}

/// A partition's two ends. The partition is empty where they are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The first offset the log still has.
    pub first: u64,
    /// The offset the next message will get.
    pub next: u64,
}

/// Reads one partition.
#[async_trait]
pub trait LogReader: Send {
    /// The next messages, at least one and at most `max`, within `wait`; an empty list where none came in that time.
    ///
    /// # Errors
    /// [`LogError`]. The reader is spent then: open another one at the offset after the last message.
    ///
    /// # Cancel safety
    /// Cancel safe: messages that were not returned come with the next call.
    async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<LogMessage>, LogError>;
}

/// The log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The topology is not declared, or only in part.
    #[error("{log}: {what} is not declared; run `consumer topology --apply`")]
    Missing {
        /// The log's address without credentials.
        log: String,
        /// The exchange, stream or queue that is missing.
        what: String,
    },
    /// The topology is declared otherwise.
    #[error("{log}: {what} exists and is another kind: {difference}")]
    Mismatch {
        /// The log's address without credentials.
        log: String,
        /// The exchange, stream or queue.
        what: String,
        /// How it differs and what to do.
        difference: String,
    },
    /// The log does not have the offset: it was cut behind it, or was made anew.
    #[error("partition {partition} has offsets {first} to {next} and not {asked}: part of the log is gone")]
    Gap {
        /// The partition.
        partition: u32,
        /// The offset that was asked for.
        asked: u64,
        /// The first offset there is.
        first: u64,
        /// The offset the next message will get, as far as it is known.
        next: u64,
    },
    /// See [`BackendError`].
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl LogError {
    /// Whether the same may succeed later with nothing changed here.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Backend(error) if error.is_transient())
    }
}

/// Events were not all confirmed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no such partition.
    #[error("there is no partition {asked}; the log has {partitions}")]
    NoSuchPartition {
        /// The one asked for.
        asked: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The log said no to at least one message.
    #[error("the log did not take the message; it is kept and sent again")]
    Nacked,
    /// The log has no place for at least one message: not the stream, and not the queue for what has none.
    #[error(
        "the log has no queue for the message; it is kept and sent again. A broker is like this for a moment while it \
         starts; if it lasts, declare the log with 'consumer topology --apply'"
    )]
    Unrouted,
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
}

impl AppendError {
    /// Whether the same may succeed later with nothing changed here.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoSuchPartition { .. } => false,
            Self::Nacked | Self::Unrouted => true,
            Self::Log(error) => error.is_transient(),
        }
    }
}

/// A part of a message that cannot be applied, with its reason.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The partition it came from.
    pub partition: u32,
    /// The offset of its message.
    pub offset: u64,
    /// The content type of its message, where that had one.
    pub content_type: Option<String>,
    /// What was refused, and why.
    pub refused: Refused,
}

impl DeadLetter {
    /// `{partition}-{offset}` and, for one event of a batch, `-{index}`: the same for the same poison, parked twice.
    pub fn id(&self) -> String {
        let Self { partition, offset, refused, .. } = self;
        match refused.index {
            Some(index) => format!("{partition}-{offset}-{index}"),
            None => format!("{partition}-{offset}"),
        }
    }
}

/// Where events wait that are in nobody's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterQueue {
    /// What a projector refused.
    Dead,
    /// What was published and no stream took. Always empty where that cannot be.
    Unrouted,
}

/// Where events are put that cannot be applied. All that a projector needs of the dead letters.
#[async_trait]
pub trait ParkLetters: Send + Sync + fmt::Debug {
    /// Parks `letters`. When it returns, all of them are kept for good.
    ///
    /// # Errors
    /// [`DeadLetterError`]; some may be parked then, and parking all again is right.
    async fn park(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError>;
}

/// Where events wait that cannot be applied: a quorum queue, or a table.
#[async_trait]
pub trait DeadLetters: ParkLetters {
    /// Begins to go through what waits in `queue`, about in the order of parking: a round that broke off may have
    /// put what it saw behind what it did not. One letter at a time is in memory.
    ///
    /// # Errors
    /// [`DeadLetterError::Busy`] where somebody else goes through it and would be shown half; and the others.
    async fn open(&self, queue: LetterQueue) -> Result<Box<dyn LetterRound>, DeadLetterError>;

    /// Up to `max` dead letters in the order of a round, without taking them out. They are all in memory, so there may
    /// be fewer where they are long.
    ///
    /// # Errors
    /// [`DeadLetterError`].
    async fn peek(&self, max: usize) -> Result<Vec<ParkedLetter>, DeadLetterError> {
        let mut round = self.open(LetterQueue::Dead).await?;
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < max
            && bytes < MAX_PEEKED_BYTES
            && let Some((_, letter)) = round.next().await?
        {
            bytes += letter.raw.len();
            letters.push(letter);
        }
        round.close().await?;
        Ok(letters)
    }
}

/// One way through a queue of letters. What is not taken out stays.
///
/// A round that is dropped, or whose process dies, takes out what was taken out by then, or less: a letter that was
/// dealt with may come again, and none is lost. A round lasts no longer than a few minutes: brokers call back what is
/// held for longer.
#[async_trait]
pub trait LetterRound: Send {
    /// The next letter, and what to take it out by; `None` after the last.
    ///
    /// # Errors
    /// [`DeadLetterError`]. The round is over then, as if dropped.
    async fn next(&mut self) -> Result<Option<(LetterTicket, ParkedLetter)>, DeadLetterError>;

    /// Takes a letter of this round out for good. It is out when [`close`](Self::close) has returned.
    ///
    /// # Errors
    /// [`DeadLetterError`].
    async fn take_out(&mut self, ticket: LetterTicket) -> Result<(), DeadLetterError>;

    /// Ends the round: what was not taken out is where it was. Nothing can be asked of it any more.
    ///
    /// # Errors
    /// [`DeadLetterError`]; what was taken out may come again then.
    async fn close(&mut self) -> Result<(), DeadLetterError>;
}

/// A letter's place in its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetterTicket(pub u64);

/// A letter as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedLetter {
    /// See [`DeadLetter::id`]. For what no stream took, `u-` and a digest of the body.
    pub id: String,
    /// The partition it came from, or was meant for.
    pub partition: u32,
    /// The offset of its message; 0 for what no stream took.
    pub offset: u64,
    /// Which event of the batch, from 0; `None` for the whole body.
    pub index: Option<usize>,
    /// [`crate::event::ContractError::code`]; `unrouted` for what no stream took.
    pub reason: String,
    /// The error in words.
    pub detail: String,
    /// When it was parked, where that is known: in whole seconds at worst.
    pub parked_at: Option<Timestamp>,
    /// The content type of the message, where that had one.
    pub content_type: Option<String>,
    /// The refused bytes, as they came.
    pub raw: Vec<u8>,
}

impl ParkedLetter {
    /// The events in it by the rules of today, each read for itself, as [`crate::event::decode`] does.
    pub fn events(&self) -> Vec<Result<ActivityEvent, Refused>> {
        // One event of a batch is a body by itself, of another type than its message was.
        let content_type = if self.index.is_some() { Some(SINGLE_CONTENT_TYPE) } else { self.content_type.as_deref() };
        event::decode(content_type, &self.raw)
    }
}

/// Dead letters could not be parked or read.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The queue said no to at least one letter.
    #[error("the dead-letter queue did not take the letter")]
    Nacked,
    /// Somebody else goes through the letters, and holds those that were not looked at yet.
    #[error("somebody else is going through the letters; try again when they are done")]
    Busy,
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
}

impl DeadLetterError {
    /// Whether the same may succeed later with nothing changed here.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Nacked | Self::Busy => true,
            Self::Log(error) => error.is_transient(),
        }
    }
}
