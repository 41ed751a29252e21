//! Going on after a checkpoint, and noticing a log that has lost its end.
//!
//! A broker that confirms before it syncs may forget its last messages when it is killed, and gives their offsets to
//! others. Who went on at its checkpoint would pass over those. So a checkpoint remembers the message before it: where
//! another one is in its place, or none, reading goes on from further back. Applying again changes nothing.
//!
//! The checkpoint itself stays where it is until the log has passed it: it remembers a message that is gone, so whoever
//! comes next notices as well.

use std::fmt;
use std::time::Duration;

use common::backend::{BackendError, Trouble};
use common::index::Checkpoint;
use common::log::{ActivityLog, LogError, LogMessage, LogReader, Position};
use jiff::SignedDuration;

use crate::gap::oldest_event;

/// How much further back than the newest event that was read. What took the offsets of lost messages came after them;
/// this is for clocks that differ.
const STEP_BACK: SignedDuration = SignedDuration::from_mins(10);
/// How long the message before a checkpoint may take to come before it is asked whether it is there.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is asked. A log that has it and does not give it is not well.
const MOST_LOOKS: usize = 10;

/// A reader that goes on after a checkpoint.
pub(crate) struct Resumed {
    pub(crate) reader: Box<dyn LogReader>,
    /// The first offset it gives.
    pub(crate) next_offset: u64,
    /// Where the log has lost its end.
    pub(crate) lost: Option<LostEnd>,
}

/// The log no longer has what was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LostEnd {
    partition: u32,
    stood_at: u64,
    goes_on_at: u64,
}

impl fmt::Display for LostEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, stood_at, goes_on_at } = self;
        write!(
            f,
            "the log has lost its end: of partition {partition} offset {stood_at} comes next, and what was read before it \
             is not there any more; reading again from offset {goes_on_at}"
        )
    }
}

/// What the log has in the place of the message before a checkpoint.
enum Before {
    /// That message, as far as is known. The reader goes on after it.
    Same(Box<dyn LogReader>),
    /// Retention has just reached it.
    Aged,
    /// Another one, or none.
    Lost,
}

/// Opens `partition` after `checkpoint`.
///
/// # Errors
/// [`LogError::Gap`] where part of the log is gone that was not read, or where nothing tells that it was.
///
/// # Cancel safety
/// Cancel safe.
pub(crate) async fn resume(log: &dyn ActivityLog, partition: u32, checkpoint: Checkpoint) -> Result<Resumed, LogError> {
    let next_offset = checkpoint.next_offset;
    let before = match next_offset {
        0 => Before::Aged,
        _ => before(log, partition, checkpoint).await?,
    };
    match before {
        Before::Same(reader) => Ok(Resumed { reader, next_offset, lost: None }),
        Before::Aged => {
            let reader = log.read(partition, Position::Offset(next_offset)).await?;
            Ok(Resumed { reader, next_offset, lost: None })
        }
        Before::Lost => step_back(log, partition, checkpoint).await,
    }
}

async fn before(log: &dyn ActivityLog, partition: u32, checkpoint: Checkpoint) -> Result<Before, LogError> {
    let Checkpoint { next_offset, last_message, .. } = checkpoint;
    let mut reader = match log.read(partition, Position::Offset(next_offset - 1)).await {
        Ok(reader) => reader,
        Err(error) => return missing(error, next_offset),
    };
    for _ in 0..MOST_LOOKS {
        let messages = match reader.next(1, LOOK).await {
            Ok(messages) => messages,
            Err(error) => return missing(error, next_offset),
        };
        if let Some(message) = messages.first() {
            let is_same = message.offset + 1 == next_offset
                && last_message.is_none_or(|remembered| message.digest() == remembered);
            return Ok(if is_same { Before::Same(reader) } else { Before::Lost });
        }
        if log.bounds(partition).await?.next < next_offset {
            return Ok(Before::Lost);
        }
    }
    let message = format!("offset {} of partition {partition} is there and does not come", next_offset - 1);
    Err(BackendError::plain(Trouble::Unavailable, "the log", message).into())
}

/// What it means that the message before a checkpoint cannot be read.
fn missing(error: LogError, next_offset: u64) -> Result<Before, LogError> {
    match error {
        LogError::Gap { first, .. } if first == next_offset => Ok(Before::Aged),
        LogError::Gap { partition, first, next, .. } if first > next_offset => {
            Err(LogError::Gap { partition, asked: next_offset, first, next })
        }
        LogError::Gap { .. } => Ok(Before::Lost),
        error => Err(error),
    }
}

/// Opens the partition further back.
///
/// A log that begins after what was read last was made anew, or is another one: what came between may never have been
/// read. That is a gap.
async fn step_back(log: &dyn ActivityLog, partition: u32, checkpoint: Checkpoint) -> Result<Resumed, LogError> {
    let bounds = log.bounds(partition).await?;
    let gap = || LogError::Gap { partition, asked: checkpoint.next_offset, first: bounds.first, next: bounds.next };
    let Some(newest) = checkpoint.newest_event else { return Err(gap()) };
    let back_to = newest.checked_sub(STEP_BACK).unwrap_or(newest);
    let first = first_at(log, partition, Position::Time(back_to)).await?;
    let next_offset = first.as_ref().map_or(bounds.next, |message| message.offset).min(checkpoint.next_offset);
    if next_offset == bounds.first {
        let oldest = first_at(log, partition, Position::First).await?.as_ref().and_then(oldest_event);
        if oldest.is_none_or(|oldest| oldest > newest) {
            return Err(gap());
        }
    }
    let reader = log.read(partition, Position::Offset(next_offset)).await?;
    let lost = LostEnd { partition, stood_at: checkpoint.next_offset, goes_on_at: next_offset };
    Ok(Resumed { reader, next_offset, lost: Some(lost) })
}

async fn first_at(log: &dyn ActivityLog, partition: u32, position: Position) -> Result<Option<LogMessage>, LogError> {
    let mut reader = log.read(partition, position).await?;
    Ok(reader.next(1, LOOK).await?.into_iter().next())
}
