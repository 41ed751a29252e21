//! The outbox in SQLite: append with a time of its own, take, confirm, rewind, trim.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::{Row as _, Sqlite, Transaction};

use super::SqliteTokenCache;
use super::clock::{in_us, now_us, time_of};
use crate::backend::{BackendError, Trouble};
use crate::event::{ContractError, EventDraft, SealedEvent, encode_draft};
use crate::token_cache::port::{Backlog, EntryId, Outbox, OutboxEntry};

const NEXT_TIME: &str = "INSERT INTO token_outbox_clock (only_row, last_us) VALUES (1, ?1)
    ON CONFLICT (only_row) DO UPDATE SET last_us = max(last_us + 1, excluded.last_us) RETURNING last_us";

const APPEND: &str = "INSERT INTO token_outbox (time_us, draft) VALUES (?1, ?2)";

const IS_WAITING: &str = "SELECT EXISTS (SELECT 1 FROM token_outbox WHERE is_confirmed = 0 AND taken_until_us <= ?1)";

const TAKE: &str = "UPDATE token_outbox SET taken_until_us = ?1 WHERE time_us IN (
        SELECT time_us FROM token_outbox WHERE is_confirmed = 0 AND taken_until_us <= ?2 ORDER BY time_us LIMIT ?3
    ) RETURNING time_us, draft";

const REFUSE: &str = "INSERT INTO token_outbox_refused (time_us, draft, reason)
    SELECT time_us, draft, ?2 FROM token_outbox WHERE time_us = ?1";

const CONFIRM: &str = "UPDATE token_outbox SET is_confirmed = 1 WHERE time_us IN (SELECT value FROM json_each(?1))";

const REWIND: &str =
    "UPDATE token_outbox SET is_confirmed = 0, taken_until_us = 0 WHERE is_confirmed = 1 AND time_us >= ?1";

const TRIM: &str = "DELETE FROM token_outbox WHERE time_us IN (
        SELECT time_us FROM token_outbox WHERE is_confirmed = 1 AND time_us < ?1 ORDER BY time_us LIMIT ?2)";

const PURGE: &str = "DELETE FROM token_cache WHERE rowid IN (
        SELECT rowid FROM token_cache WHERE expires_us <= ?1 ORDER BY expires_us LIMIT ?2)";

const BACKLOG: &str = "SELECT
        (SELECT count(*) FROM token_outbox) AS kept,
        (SELECT count(*) FROM token_outbox WHERE is_confirmed = 0) AS unconfirmed,
        (SELECT min(time_us) FROM token_outbox WHERE is_confirmed = 0) AS oldest_us,
        (SELECT count(*) FROM token_outbox_refused) AS refused";

/// How many rows one deleting statement touches, so that writers do not wait long for it.
const DELETE_CHUNK: i64 = 5_000;

/// Appends `event` at a time later than that of every event before it.
pub(super) async fn append(
    transaction: &mut Transaction<'static, Sqlite>,
    event: &EventDraft,
    now: i64,
) -> Result<(), sqlx::Error> {
    let time: i64 = sqlx::query_scalar(NEXT_TIME).bind(now).fetch_one(&mut **transaction).await?;
    sqlx::query(APPEND).bind(time).bind(encode_draft(event)).execute(&mut **transaction).await?;
    Ok(())
}

#[async_trait]
impl Outbox for SqliteTokenCache {
    async fn append(&self, event: &EventDraft) -> Result<(), BackendError> {
        let mut transaction = self.database.begin().await?;
        append(&mut transaction, event, now_us()).await.map_err(|e| self.error(e))?;
        self.commit(transaction, true).await
    }

    async fn take(&self, max: usize, visibility: Duration, wait: Duration) -> Result<Vec<OutboxEntry>, BackendError> {
        let begun = Instant::now();
        loop {
            // Listening starts before looking, so that nothing written in between is slept over.
            let appended = self.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let entries = self.take_now(max, visibility).await?;
            let left = wait.saturating_sub(begun.elapsed());
            if !entries.is_empty() || left.is_zero() {
                return Ok(entries);
            }
            // That the time is up is no matter here: either way it is time to look again.
            let _ = tokio::time::timeout(left.min(self.options.poll_interval), appended).await;
        }
    }

    async fn confirm(&self, entries: &[EntryId]) -> Result<(), BackendError> {
        let times = entries.iter().map(|id| self.time_us(id)).collect::<Result<Vec<i64>, _>>()?;
        let times = serde_json::Value::from(times).to_string();
        sqlx::query(CONFIRM).bind(times).execute(self.database.writer()).await.map_err(|e| self.error(e))?;
        Ok(())
    }

    async fn rewind(&self, age: Duration) -> Result<(), BackendError> {
        let since = now_us().saturating_sub(in_us(age));
        let rewound = sqlx::query(REWIND).bind(since).execute(self.database.writer()).await;
        if rewound.map_err(|e| self.error(e))?.rows_affected() > 0 {
            self.appended.notify_waiters();
        }
        Ok(())
    }

    async fn trim(&self, age: Duration) -> Result<u64, BackendError> {
        let now = now_us();
        let trimmed = self.delete_in_chunks(TRIM, now.saturating_sub(in_us(age))).await?;
        self.delete_in_chunks(PURGE, now).await?;
        Ok(trimmed)
    }

    async fn backlog(&self) -> Result<Backlog, BackendError> {
        let row = sqlx::query(BACKLOG).fetch_one(self.database.readers()).await.map_err(|e| self.error(e))?;
        let count = |name: &str| u64::try_from(row.get::<i64, _>(name)).unwrap_or_default();
        let oldest = row.get::<Option<i64>, _>("oldest_us");
        Ok(Backlog {
            unconfirmed: count("unconfirmed"),
            kept: count("kept"),
            oldest: oldest.map(|us| Duration::from_micros(now_us().saturating_sub(us).max(0).unsigned_abs())),
            refused: count("refused"),
        })
    }
}

struct Row {
    time_us: i64,
    draft: Vec<u8>,
}

impl Row {
    fn entry(&self) -> Result<OutboxEntry, ContractError> {
        let event = SealedEvent::of_draft(&self.draft, time_of(self.time_us))?;
        Ok(OutboxEntry { id: EntryId::new(self.time_us.to_string()), event })
    }
}

impl SqliteTokenCache {
    async fn take_now(&self, max: usize, visibility: Duration) -> Result<Vec<OutboxEntry>, BackendError> {
        let mut entries = Vec::new();
        // A batch of which nothing was good is followed by the next one.
        while entries.is_empty() && self.is_waiting().await? {
            for row in self.take_rows(max, visibility).await? {
                match row.entry() {
                    Ok(entry) => entries.push(entry),
                    Err(reason) => self.refuse(row.time_us, &reason).await?,
                }
            }
        }
        Ok(entries)
    }

    /// Whether taking is worth the write lock.
    async fn is_waiting(&self) -> Result<bool, BackendError> {
        let waiting = sqlx::query_scalar(IS_WAITING).bind(now_us()).fetch_one(self.database.readers()).await;
        waiting.map_err(|e| self.error(e))
    }

    async fn take_rows(&self, max: usize, visibility: Duration) -> Result<Vec<Row>, BackendError> {
        let now = now_us();
        let limit = i64::try_from(max).unwrap_or(i64::MAX).max(1);
        let query = sqlx::query(TAKE).bind(now.saturating_add(in_us(visibility))).bind(now).bind(limit);
        let rows = query.fetch_all(self.database.writer()).await.map_err(|e| self.error(e))?;
        let mut rows: Vec<Row> =
            rows.iter().map(|row| Row { time_us: row.get("time_us"), draft: row.get("draft") }).collect();
        // RETURNING promises no order.
        rows.sort_unstable_by_key(|row| row.time_us);
        Ok(rows)
    }

    async fn refuse(&self, time_us: i64, reason: &ContractError) -> Result<(), BackendError> {
        let mut transaction = self.database.begin().await?;
        let copied = sqlx::query(REFUSE).bind(time_us).bind(reason.to_string()).execute(&mut *transaction).await;
        copied.map_err(|e| self.error(e))?;
        let deleted = sqlx::query("DELETE FROM token_outbox WHERE time_us = ?1").bind(time_us);
        deleted.execute(&mut *transaction).await.map_err(|e| self.error(e))?;
        self.commit(transaction, false).await?;
        tracing::error!(entry = time_us, %reason, "an outbox entry is no event; set aside in token_outbox_refused");
        Ok(())
    }

    fn time_us(&self, id: &EntryId) -> Result<i64, BackendError> {
        let foreign = || {
            let message = format!("{:?} is not the id of an outbox entry of this store", id.as_str());
            BackendError::plain(Trouble::Corrupt, self.database.address(), message)
        };
        id.as_str().parse().map_err(|_| foreign())
    }

    async fn delete_in_chunks(&self, statement: &'static str, before: i64) -> Result<u64, BackendError> {
        let mut deleted = 0;
        loop {
            let query = sqlx::query(statement).bind(before).bind(DELETE_CHUNK);
            let chunk = query.execute(self.database.writer()).await.map_err(|e| self.error(e))?.rows_affected();
            deleted += chunk;
            if chunk < DELETE_CHUNK.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }
}
