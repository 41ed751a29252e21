//! The embedded log: one row per message in an SQLite file that other processes may share.
//!
//! ```text
//! log_partition    partition → next_offset, last_arrival
//! log_message      (partition, message_offset) → arrived_at, content_type, body
//! log_letter       letter (in order of parking) → id, partition, message_offset, event_index, reason, detail,
//!                  parked_at, content_type, raw
//! log_retention    one row, where messages are not kept for ever → max_age
//! ```
//!
//! Ages are in microseconds, and times in microseconds since the Unix epoch. Bodies are the CloudEvents that RabbitMQ would carry.

mod dead_letters;
mod reader;
mod retention;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{Row, Sqlite, Transaction};
use tokio::sync::watch;
use tokio::time::Instant;

use self::reader::SqliteReader;
use super::{ActivityLog, AppendError, Bounds, GrowError, Grown, LogError, LogReader, Position, grow};
use crate::backend::BackendError;
use crate::event::{EncodedEvents, SealedEvent, encode_batches};
use crate::sqlite::Database;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS log_partition (
    partition INTEGER PRIMARY KEY,
    next_offset INTEGER NOT NULL,
    last_arrival INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS log_message (
    partition INTEGER NOT NULL,
    message_offset INTEGER NOT NULL,
    arrived_at INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (partition, message_offset)
) STRICT;
CREATE INDEX IF NOT EXISTS log_message_by_arrival ON log_message (partition, arrived_at);
CREATE TABLE IF NOT EXISTS log_letter (
    letter INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    message_offset INTEGER NOT NULL,
    event_index INTEGER,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    parked_at INTEGER NOT NULL,
    content_type TEXT,
    raw BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS log_letter_by_id ON log_letter (id);
CREATE TABLE IF NOT EXISTS log_retention (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    max_age INTEGER NOT NULL
) STRICT;
";

/// Rows a trim deletes before it lets other writers in.
const TRIM_CHUNK: i64 = 500;

/// The log and its dead letters in one SQLite file. Clones share it.
#[derive(Debug, Clone)]
pub struct SqliteLog {
    database: Database,
    appended: watch::Sender<()>,
    /// When to look again for what is older than the retention.
    look_at: Arc<Mutex<Instant>>,
}

impl SqliteLog {
    /// Makes the tables where there are none, and partitions until there are `partitions`. There may be more of them
    /// already; partitions are never taken away.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn open(database: Database, partitions: u32) -> Result<Self, BackendError> {
        let look_at = Arc::new(Mutex::new(Instant::now()));
        let log = Self { database, appended: watch::Sender::new(()), look_at };
        let mut transaction = log.database.begin().await?;
        sqlx::raw_sql(TABLES).execute(&mut *transaction).await.map_err(|e| log.database.error(e))?;
        log.add_partitions(&mut transaction, partitions.max(1)).await?;
        transaction.commit().await.map_err(|e| log.database.error(e))?;
        Ok(log)
    }

    /// Adds partitions until there are `partitions`, while the log is in use.
    ///
    /// # Errors
    /// [`GrowError`].
    pub async fn grow(&self, partitions: u32) -> Result<Grown, GrowError> {
        let mut transaction = self.database.begin().await.map_err(LogError::from)?;
        let count = sqlx::query_scalar("SELECT count(*) FROM log_partition").fetch_one(&mut *transaction).await;
        let before = count.map_err(|e| self.failed(e))?;
        grow::check(before, partitions)?;
        self.add_partitions(&mut transaction, partitions).await.map_err(LogError::from)?;
        transaction.commit().await.map_err(|e| self.failed(e))?;
        Ok(Grown { before, partitions })
    }

    async fn add_partitions(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        partitions: u32,
    ) -> Result<(), BackendError> {
        for partition in 0..partitions {
            sqlx::query("INSERT INTO log_partition VALUES (?, 0, 0) ON CONFLICT DO NOTHING")
                .bind(partition)
                .execute(&mut **transaction)
                .await
                .map_err(|e| self.database.error(e))?;
        }
        Ok(())
    }

    /// Appends bodies to one partition as they are, all or none, such as another program's.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append_bodies(&self, partition: u32, bodies: &[EncodedEvents]) -> Result<(), AppendError> {
        let mut transaction = self.database.begin().await.map_err(LogError::from)?;
        let place = self.reserve(&mut transaction, partition, bodies.len()).await?;
        let Some((first, arrived_at)) = place else {
            drop(transaction);
            return Err(AppendError::NoSuchPartition { asked: partition, partitions: self.partitions().await? });
        };
        for (offset, encoded) in (first..).zip(bodies) {
            sqlx::query("INSERT INTO log_message VALUES (?, ?, ?, ?, ?)")
                .bind(partition)
                .bind(offset)
                .bind(arrived_at)
                .bind(encoded.content_type)
                .bind(encoded.body.as_slice())
                .execute(&mut *transaction)
                .await
                .map_err(|e| self.failed(e))?;
        }
        transaction.commit().await.map_err(|e| self.failed(e))?;
        self.appended.send_replace(());
        self.keep_to_retention().await;
        Ok(())
    }

    /// Takes the next `count` offsets of a partition. Gives the first of them and the time of arrival, which never
    /// goes back within a partition; nothing where there is no such partition.
    async fn reserve(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        partition: u32,
        count: usize,
    ) -> Result<Option<(i64, i64)>, LogError> {
        let taken = "UPDATE log_partition SET next_offset = next_offset + ?, last_arrival = max(last_arrival, ?) \
                     WHERE partition = ? RETURNING next_offset, last_arrival";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let row = sqlx::query(taken)
            .bind(count)
            .bind(Timestamp::now().as_microsecond())
            .bind(partition)
            .fetch_optional(&mut **transaction)
            .await
            .map_err(|e| self.failed(e))?;
        let Some(row) = row else { return Ok(None) };
        let next: i64 = row.try_get(0).map_err(|e| self.failed(e))?;
        Ok(Some((next - count, row.try_get(1).map_err(|e| self.failed(e))?)))
    }

    /// Forgets the messages that arrived longer than `age` ago, and says how many. Offsets go on where they were.
    ///
    /// # Errors
    /// [`BackendError`]; part of them may be gone then.
    ///
    /// # Cancel safety
    /// A dropped call leaves the rest for the next one.
    pub async fn trim(&self, age: Duration) -> Result<u64, BackendError> {
        let horizon = horizon(age);
        let mut trimmed = 0;
        loop {
            let chunk = self.trim_chunk(horizon).await?;
            trimmed += chunk;
            if chunk == 0 {
                return Ok(trimmed);
            }
        }
    }

    async fn trim_chunk(&self, horizon: i64) -> Result<u64, BackendError> {
        // Arrival follows offset within a partition, so the oldest rows go first and no hole is left.
        let delete = "DELETE FROM log_message WHERE rowid IN (
                          SELECT m.rowid FROM log_partition p JOIN log_message m ON m.partition = p.partition
                          WHERE m.arrived_at < ? ORDER BY m.partition, m.message_offset LIMIT ?)";
        let done = sqlx::query(delete).bind(horizon).bind(TRIM_CHUNK).execute(self.database.writer()).await;
        Ok(done.map_err(|e| self.database.error(e))?.rows_affected())
    }

    fn failed(&self, error: sqlx::Error) -> LogError {
        LogError::Backend(self.database.error(error))
    }
}

/// What arrived before this is older than `age`.
fn horizon(age: Duration) -> i64 {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::now().as_microsecond().saturating_sub(age)
}

#[async_trait]
impl ActivityLog for SqliteLog {
    async fn partitions(&self) -> Result<u32, LogError> {
        let count = sqlx::query_scalar("SELECT count(*) FROM log_partition").fetch_one(self.database.readers()).await;
        count.map_err(|e| self.failed(e))
    }

    async fn append_sealed(&self, partition: u32, events: &[SealedEvent]) -> Result<(), AppendError> {
        if events.is_empty() {
            return Ok(());
        }
        self.append_bodies(partition, &encode_batches(events)).await
    }

    async fn read(&self, partition: u32, position: Position) -> Result<Box<dyn LogReader>, LogError> {
        let bounds = self.bounds(partition).await?;
        let (from, not_before) = match position {
            Position::First => (bounds.first, None),
            Position::End => (bounds.next, None),
            Position::Time(time) => (bounds.first, Some(time)),
            Position::Offset(asked) if (bounds.first..=bounds.next).contains(&asked) => (asked, None),
            Position::Offset(asked) => {
                return Err(LogError::Gap { partition, asked, first: bounds.first, next: bounds.next });
            }
        };
        let mut reader = SqliteReader::new(self.clone(), partition, from);
        if let Some(time) = not_before {
            reader.skip_to(time, bounds).await?;
        }
        Ok(Box::new(reader))
    }

    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        let query = "SELECT next_offset, (SELECT min(message_offset) FROM log_message WHERE partition = p.partition)
                     FROM log_partition p WHERE partition = ?";
        let row = sqlx::query_as::<_, (i64, Option<i64>)>(query)
            .bind(partition)
            .fetch_optional(self.database.readers())
            .await
            .map_err(|e| self.failed(e))?;
        let Some((next, first)) = row else {
            return Err(LogError::Missing {
                log: self.database.address().to_owned(),
                what: format!("partition {partition}"),
            });
        };
        Ok(Bounds { first: first.unwrap_or(next).cast_unsigned(), next: next.cast_unsigned() })
    }
}
