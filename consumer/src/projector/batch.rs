//! A batch of messages, folded: what to apply, what to park, and the checkpoint after it.

use std::collections::BTreeMap;

use common::index::{AccountActivity, Checkpoint, fold};
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

impl Batch {
    /// Folds `messages`, refusing the events that are too far ahead of `now`.
    pub(crate) fn of<'a>(messages: impl IntoIterator<Item = &'a LogMessage>, now: Timestamp) -> Self {
        let mut letters = Vec::new();
        let mut good = Vec::new();
        let (mut last, mut bytes) = (None, 0);
        for message in messages {
            last = Some(message);
            bytes += message.body_bytes();
            for (index, event) in message.events.iter().enumerate() {
                let checked = event.as_ref().map_err(Clone::clone).and_then(|event| {
                    event.check_time(now).map(|()| event).map_err(|error| message.refuse(index, error))
                });
                match checked {
                    Ok(event) => good.push(event),
                    Err(refused) => {
                        letters.push(DeadLetter {
                            partition: message.partition,
                            offset: message.offset,
                            content_type: message.content_type().map(str::to_owned),
                            refused,
                        });
                    }
                }
            }
        }
        let done = Done {
            next_offset: last.map_or(0, |message| message.offset + 1),
            bytes,
            events: u64::try_from(good.len()).unwrap_or(u64::MAX),
            refused: counted(&letters),
            newest_event: good.iter().map(|event| event.time).max(),
            last_message: last.map(LogMessage::digest),
        };
        let changes = fold(good).into_values().collect();
        Self { changes, letters, done }
    }
}

fn counted(letters: &[DeadLetter]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for letter in letters {
        *counts.entry(letter.refused.error.code()).or_default() += 1;
    }
    counts
}
