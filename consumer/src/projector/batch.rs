//! A batch of messages, folded: what to apply, what to park, and the checkpoint after it.

use std::collections::BTreeMap;

use common::index::{AccountActivity, Checkpoint, Fold};
use common::log::{DeadLetter, LogMessage, MessageDigest};
use jiff::Timestamp;

/// Messages of one partition, ready to be applied.
#[derive(Debug)]
pub(crate) struct Batch {
    /// What the good events say, one change per account.
    pub(crate) changes: Vec<AccountActivity>,
    /// What cannot be applied.
    pub(crate) letters: Vec<DeadLetter>,
    /// What is noted when all of it is done.
    pub(crate) done: Done,
}

/// What a batch did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) next_offset: u64,
    pub(crate) bytes: usize,
    pub(crate) events: u64,
    pub(crate) refused: BTreeMap<&'static str, u64>,
    pub(crate) newest_event: Option<Timestamp>,
    pub(crate) last_message: Option<MessageDigest>,
}

impl Done {
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let Self { next_offset, newest_event, last_message, .. } = *self;
        Checkpoint { next_offset, newest_event, last_message }
    }
}

/// What messages of one partition were, beside what they say of the accounts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    letters: Vec<DeadLetter>,
    bytes: usize,
    events: usize,
    newest_event: Option<Timestamp>,
    last: Option<LogMessage>,
}

impl Tally {
    /// Takes a message apart: hands on what each event says, and refuses those that are too far ahead of `now`.
    pub(crate) fn add(&mut self, mut message: LogMessage, now: Timestamp, mut hand_on: impl FnMut(AccountActivity)) {
        self.bytes += message.body_bytes();
        for (index, event) in std::mem::take(&mut message.events).into_iter().enumerate() {
            let checked =
                event.and_then(|event| event.check_time(now).map(|()| event).map_err(|e| message.refuse(index, e)));
            match checked {
                Ok(event) => {
                    self.events += 1;
                    self.newest_event = self.newest_event.max(Some(event.time));
                    hand_on(event.into());
                }
                Err(refused) => self.letters.push(DeadLetter {
                    partition: message.partition,
                    offset: message.offset,
                    content_type: message.content_type().map(str::to_owned),
                    refused,
                }),
            }
        }
        self.last = Some(message);
    }

    pub(crate) fn done(&self) -> Done {
        Done {
            next_offset: self.last.as_ref().map_or(0, |message| message.offset + 1),
            bytes: self.bytes,
            events: u64::try_from(self.events).unwrap_or(u64::MAX),
            refused: counted(&self.letters),
            newest_event: self.newest_event,
            last_message: self.last.as_ref().map(LogMessage::digest),
        }
    }
}

/// A batch that messages are still added to.
#[derive(Debug, Default)]
pub(crate) struct OpenBatch {
    fold: Fold,
    tally: Tally,
}

impl OpenBatch {
    /// Folds a message in.
    pub(crate) fn add(&mut self, message: LogMessage, now: Timestamp) {
        self.tally.add(message, now, |said| self.fold.add(said));
    }

    /// Whether no message was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.tally.last.is_none()
    }

    /// How many events it has, those that cannot be applied included.
    pub(crate) fn events(&self) -> usize {
        self.tally.events + self.tally.letters.len()
    }

    /// The batch, with no more messages.
    pub(crate) fn close(mut self) -> Batch {
        let done = self.tally.done();
        Batch { changes: self.fold.take(), letters: self.tally.letters, done }
    }
}

fn counted(letters: &[DeadLetter]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for letter in letters {
        *counts.entry(letter.refused.error.code()).or_default() += 1;
    }
    counts
}
