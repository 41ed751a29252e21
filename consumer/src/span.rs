//! Reads a stretch of one partition that has an end, over whatever the log's server does meanwhile.

use std::time::Duration;

use common::index::Checkpoint;
use common::log::{ActivityLog, LogError, LogMessage, LogReader, Position};
use common::retry::{Retry, RetryDelays, Setback};
use tokio::time::sleep;

use crate::resume::resume;

/// The most messages of one call.
const MOST: usize = 512;
const WAIT: Duration = Duration::from_secs(1);
/// How often nothing may come where it is not known that something has to.
const PATIENCE: u32 = 2;

/// A stretch of one partition, from a position to the offset `until`, which is not in it. Where the log loses its end
/// meanwhile, part of the stretch comes again.
pub(crate) struct Span<'a> {
    log: &'a dyn ActivityLog,
    partition: u32,
    place: Place,
    until: u64,
    reader: Option<Box<dyn LogReader>>,
    retry: Retry,
    waits: u32,
    is_over: bool,
}

/// How far a stretch is read.
#[derive(Clone, Copy)]
enum Place {
    /// Not at all.
    Before(Position),
    /// Up to here.
    After(Checkpoint),
}

impl<'a> Span<'a> {
    pub(crate) fn new(
        log: &'a dyn ActivityLog,
        partition: u32,
        position: Position,
        until: u64,
        retry: RetryDelays,
    ) -> Self {
        Self::at(log, partition, Place::Before(position), until, retry)
    }

    /// What comes after a checkpoint; from further back where the log has lost its end since.
    pub(crate) fn after(
        log: &'a dyn ActivityLog,
        partition: u32,
        checkpoint: Checkpoint,
        until: u64,
        retry: RetryDelays,
    ) -> Self {
        Self::at(log, partition, Place::After(checkpoint), until, retry)
    }

    fn at(log: &'a dyn ActivityLog, partition: u32, place: Place, until: u64, retry: RetryDelays) -> Self {
        Self { log, partition, place, until, reader: None, retry: Retry::new(retry), waits: 0, is_over: false }
    }

    /// The next messages, at least one; `None` at the end. Waits as long as the server is away.
    ///
    /// # Errors
    /// [`LogError`] that does not pass by itself, a gap above all.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<LogMessage>>, LogError> {
        while !self.is_over() {
            match self.try_next().await {
                Ok(messages) if messages.is_empty() => self.wait_for_more().await?,
                Ok(messages) => {
                    self.retry.reset();
                    return Ok(Some(messages));
                }
                Err(error) if error.is_transient() => self.set_back(&error).await,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What is read, for who goes on from here another time.
    pub(crate) fn read_up_to(&self) -> Option<Checkpoint> {
        match self.place {
            Place::Before(_) => None,
            Place::After(checkpoint) => Some(checkpoint),
        }
    }

    fn is_over(&self) -> bool {
        self.is_over || self.waits > PATIENCE || self.next_offset().is_some_and(|next| next >= self.until)
    }

    fn next_offset(&self) -> Option<u64> {
        match self.place {
            Place::After(Checkpoint { next_offset, .. }) | Place::Before(Position::Offset(next_offset)) => {
                Some(next_offset)
            }
            Place::Before(_) => None,
        }
    }

    async fn try_next(&mut self) -> Result<Vec<LogMessage>, LogError> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.open().await?,
        };
        match self.reader.insert(reader).next(MOST, WAIT).await {
            Ok(messages) => Ok(self.take(messages)),
            // Opening again tells from where the log still has what was read.
            Err(LogError::Gap { asked, next, .. }) if asked > next && self.read_up_to().is_some() => {
                self.reader = None;
                self.reader = Some(self.open().await?);
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Those of the stretch.
    fn take(&mut self, mut messages: Vec<LogMessage>) -> Vec<LogMessage> {
        self.is_over = messages.last().is_some_and(|last| last.offset >= self.until);
        messages.retain(|message| message.offset < self.until);
        if let Some(last) = messages.last() {
            let events = messages.iter().flat_map(|message| message.events.iter().flatten());
            let newest_event = events.map(|event| event.time).max();
            let newest_event = newest_event.or(self.read_up_to().and_then(|before| before.newest_event));
            let (next_offset, last_message) = (last.offset + 1, Some(last.digest()));
            self.place = Place::After(Checkpoint { next_offset, newest_event, last_message });
        }
        messages
    }

    async fn open(&mut self) -> Result<Box<dyn LogReader>, LogError> {
        let checkpoint = match self.place {
            Place::Before(position) => return self.log.read(self.partition, position).await,
            Place::After(checkpoint) => checkpoint,
        };
        let resumed = resume(self.log, self.partition, checkpoint).await?;
        if let Some(lost) = resumed.lost {
            tracing::warn!(partition = self.partition, %lost, "the log has lost messages that were read");
            let newest_event = checkpoint.newest_event;
            self.place = Place::After(Checkpoint { newest_event, ..Checkpoint::at(resumed.next_offset) });
        }
        Ok(resumed.reader)
    }

    /// Where a message has to come it is waited for, unless the log turns out to end before it: a broker may lose
    /// what it had not synced. Where none has to, such as after a time, there may be none.
    async fn wait_for_more(&mut self) -> Result<(), LogError> {
        match self.log.bounds(self.partition).await {
            Ok(bounds) => self.until = self.until.min(bounds.next),
            Err(error) if error.is_transient() => self.set_back(&error).await,
            Err(error) => return Err(error),
        }
        if self.next_offset().is_none() {
            self.waits += 1;
        }
        Ok(())
    }

    async fn set_back(&mut self, error: &LogError) {
        let setback = Setback::from(error);
        tracing::warn!(partition = self.partition, why = %setback, "the log is away; reading goes on when it is back");
        self.reader = None;
        sleep(self.retry.delay_after(&setback)).await;
    }
}

/// The offset after the last message of every partition.
pub(crate) async fn ends(log: &dyn ActivityLog) -> Result<Vec<(u32, u64)>, LogError> {
    let mut ends = Vec::new();
    for partition in 0..log.partitions().await? {
        ends.push((partition, log.bounds(partition).await?.next));
    }
    Ok(ends)
}
