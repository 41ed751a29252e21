//! Reads one partition of the embedded log: woken by this process's appends, and looking for those of others.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::SqliteLog;
use crate::log::{ActivityLog, Bounds, LogError, LogMessage, LogReader};

/// How long another process's append may go unseen.
const POLL: Duration = Duration::from_millis(25);
/// Bodies read at once, so that a list of long messages does not fill the memory.
const MAX_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct SqliteReader {
    log: SqliteLog,
    appended: watch::Receiver<()>,
    partition: u32,
    next: u64,
    /// Messages that arrived before this are passed over.
    not_before: i64,
}

impl SqliteReader {
    pub(super) fn new(log: SqliteLog, partition: u32, next: u64) -> Self {
        let appended = log.appended.subscribe();
        Self { log, appended, partition, next, not_before: i64::MIN }
    }

    /// Goes to the first message that arrived at `time` or later, or will.
    pub(super) async fn skip_to(&mut self, time: Timestamp, bounds: Bounds) -> Result<(), LogError> {
        self.not_before = time.as_microsecond();
        let query = "SELECT min(message_offset) FROM log_message WHERE partition = ? AND arrived_at >= ?";
        let first: Option<i64> = sqlx::query_scalar(query)
            .bind(self.partition)
            .bind(self.not_before)
            .fetch_one(self.log.database.readers())
            .await
            .map_err(|e| self.log.failed(e))?;
        self.next = first.map_or(bounds.next, i64::cast_unsigned);
        Ok(())
    }

    async fn fetch(&mut self, max: usize) -> Result<Vec<LogMessage>, LogError> {
        loop {
            let (found, last) = self.rows(max).await?;
            let Some(last) = last else {
                self.check_nothing_is_missing().await?;
                return Ok(found);
            };
            self.next = last + 1;
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }

    /// The messages from `self.next` on that are late enough, and the last offset that was looked at.
    async fn rows(&self, max: usize) -> Result<(Vec<LogMessage>, Option<u64>), LogError> {
        let query = "SELECT message_offset, arrived_at, content_type, body FROM log_message
                     WHERE partition = ? AND message_offset >= ? ORDER BY message_offset LIMIT ?";
        let mut rows = sqlx::query(query)
            .bind(self.partition)
            .bind(i64::try_from(self.next).unwrap_or(i64::MAX))
            .bind(i64::try_from(max.max(1)).unwrap_or(i64::MAX))
            .fetch(self.log.database.readers());
        let (mut found, mut bytes, mut last) = (Vec::new(), 0, None);
        while let Some(row) = rows.try_next().await.map_err(|e| self.log.failed(e))? {
            let (offset, arrived_at) = place_of(&row).map_err(|e| self.log.failed(e))?;
            if last.is_none() && offset > self.next {
                drop(rows);
                return Err(self.gap().await?);
            }
            last = Some(offset);
            if arrived_at < self.not_before {
                continue;
            }
            let message = self.message(offset, &row).map_err(|e| self.log.failed(e))?;
            bytes += message.body_bytes();
            found.push(message);
            if bytes >= MAX_BYTES {
                break;
            }
        }
        Ok((found, last))
    }

    fn message(&self, offset: u64, row: &SqliteRow) -> Result<LogMessage, sqlx::Error> {
        Ok(LogMessage::decode(self.partition, offset, Some(row.try_get(2)?), row.try_get(3)?))
    }

    /// Tells an idle log from one that was cut, or made anew, under this reader.
    async fn check_nothing_is_missing(&self) -> Result<(), LogError> {
        let Bounds { first, next } = self.log.bounds(self.partition).await?;
        if first > self.next || next < self.next {
            return Err(self.gap().await?);
        }
        Ok(())
    }

    async fn gap(&self) -> Result<LogError, LogError> {
        let Bounds { first, next } = self.log.bounds(self.partition).await?;
        Ok(LogError::Gap { partition: self.partition, asked: self.next, first, next })
    }
}

fn place_of(row: &SqliteRow) -> Result<(u64, i64), sqlx::Error> {
    Ok((row.try_get::<i64, _>(0)?.cast_unsigned(), row.try_get(1)?))
}

#[async_trait]
impl LogReader for SqliteReader {
    async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<LogMessage>, LogError> {
        let deadline = Instant::now() + wait;
        loop {
            // What is appended from here on is noticed, even while the rows are read.
            self.appended.mark_unchanged();
            let messages = self.fetch(max).await?;
            let now = Instant::now();
            if !messages.is_empty() || now >= deadline {
                return Ok(messages);
            }
            // Both ends of the wait, an append and the time, lead to the same look at the rows.
            let _ = timeout_at(deadline.min(now + POLL), self.appended.changed()).await;
        }
    }
}
