//! Reads a stretch of one partition that has an end, over whatever the log's server does meanwhile.

use std::time::Duration;

use common::log::{ActivityLog, LogError, LogMessage, LogReader, Position};
use common::retry::{Retry, RetryDelays, Setback};
use tokio::time::sleep;

/// The most messages of one call.
const MOST: usize = 512;
const WAIT: Duration = Duration::from_secs(1);
/// How often nothing may come where it is not known that something has to.
const PATIENCE: u32 = 2;

/// A stretch of one partition, from a position to the offset `until`, which is not in it.
pub(crate) struct Span<'a> {
    log: &'a dyn ActivityLog,
    partition: u32,
    position: Position,
    until: u64,
    reader: Option<Box<dyn LogReader>>,
    retry: Retry,
    waits: u32,
}

impl<'a> Span<'a> {
    pub(crate) fn new(
        log: &'a dyn ActivityLog,
        partition: u32,
        position: Position,
        until: u64,
        retry: RetryDelays,
    ) -> Self {
        Self { log, partition, position, until, reader: None, retry: Retry::new(retry), waits: 0 }
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

    fn is_over(&self) -> bool {
        self.waits > PATIENCE || matches!(self.position, Position::Offset(next) if next >= self.until)
    }

    async fn try_next(&mut self) -> Result<Vec<LogMessage>, LogError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.log.read(self.partition, self.position).await?),
        };
        let mut messages = reader.next(MOST, WAIT).await?;
        if let Some(last) = messages.last() {
            self.position = Position::Offset(last.offset + 1);
        }
        messages.retain(|message| message.offset < self.until);
        Ok(messages)
    }

    /// Where a message has to come it is waited for, unless the log turns out to end before it: a broker may lose
    /// what it had not synced. Where none has to, such as after a time, there may be none.
    async fn wait_for_more(&mut self) -> Result<(), LogError> {
        match self.log.bounds(self.partition).await {
            Ok(bounds) => self.until = self.until.min(bounds.next),
            Err(error) if error.is_transient() => self.set_back(&error).await,
            Err(error) => return Err(error),
        }
        if !matches!(self.position, Position::Offset(_)) {
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
