//! Blobs in SQLite: read, compare and write, remove.

use async_trait::async_trait;
use sqlx::{Row as _, Sqlite, Transaction};

use super::SqliteTokenCache;
use super::clock::{in_us, now_us};
use super::outbox::append;
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::event::EventDraft;
use crate::token_cache::port::{CacheWrite, Expiry, ExpiryChange, Precondition, TokenCacheStore, WriteOutcome};

const READ: &str = "SELECT blob, sliding_us FROM token_cache
    WHERE cache_key = ?1 AND (expires_us IS NULL OR expires_us > ?2)";

const REARM: &str = "UPDATE token_cache
    SET expires_us = coalesce(min(absolute_us, ?2 + sliding_us), ?2 + sliding_us)
    WHERE cache_key = ?1 AND sliding_us IS NOT NULL AND expires_us > ?2";

const WRITE: &str = "INSERT INTO token_cache (cache_key, blob, absolute_us, sliding_us, expires_us)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (cache_key) DO UPDATE SET blob = excluded.blob, absolute_us = excluded.absolute_us,
        sliding_us = excluded.sliding_us, expires_us = excluded.expires_us";

/// What has expired and is not deleted yet has no expiry to keep.
const FORGET_EXPIRED: &str = "DELETE FROM token_cache WHERE cache_key = ?1 AND expires_us <= ?2";

const WRITE_WITHIN: &str = "INSERT INTO token_cache (cache_key, blob) VALUES (?1, ?2)
    ON CONFLICT (cache_key) DO UPDATE SET blob = excluded.blob, expires_us = CASE
        WHEN sliding_us IS NULL THEN expires_us
        ELSE coalesce(min(absolute_us, ?3 + sliding_us), ?3 + sliding_us) END";

const REMOVE: &str = "DELETE FROM token_cache WHERE cache_key = ?1
    RETURNING expires_us IS NULL OR expires_us > ?2 AS was_there";

#[async_trait]
impl TokenCacheStore for SqliteTokenCache {
    async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        let row = sqlx::query(READ).bind(key.as_str()).bind(now_us()).fetch_optional(self.database.readers()).await;
        let Some(row) = row.map_err(|e| self.error(e))? else {
            return Ok(None);
        };
        if row.get::<Option<i64>, _>("sliding_us").is_some() {
            self.rearm(key).await;
        }
        Ok(Some(row.get("blob")))
    }

    async fn write(&self, write: CacheWrite<'_>) -> Result<WriteOutcome, BackendError> {
        let mut transaction = self.database.begin().await?;
        let now = now_us();
        if let Some(fence) = write.fence {
            if self.is_fenced(&mut transaction, write.key, fence, now).await? {
                return Ok(WriteOutcome::Fenced);
            }
            self.raise_fence(&mut transaction, write.key, fence, now).await?;
        }
        if !self.precondition_holds(&mut transaction, &write, now).await? {
            return Ok(WriteOutcome::Conflict);
        }
        match write.expiry {
            ExpiryChange::To(expiry) => self.upsert(&mut transaction, &write, expiry, now).await?,
            ExpiryChange::Kept => self.upsert_within(&mut transaction, &write, now).await?,
        }
        if let Some(event) = write.event {
            append(&mut transaction, event, now).await.map_err(|e| self.error(e))?;
        }
        self.commit(transaction, write.event.is_some()).await?;
        Ok(WriteOutcome::Written)
    }

    async fn remove(&self, key: &CacheKey, event: Option<&EventDraft>) -> Result<bool, BackendError> {
        let mut transaction = self.database.begin().await?;
        let now = now_us();
        let removed = sqlx::query_scalar::<_, bool>(REMOVE).bind(key.as_str()).bind(now);
        let was_there = removed.fetch_optional(&mut *transaction).await.map_err(|e| self.error(e))?;
        if let Some(event) = event {
            append(&mut transaction, event, now).await.map_err(|e| self.error(e))?;
        }
        self.commit(transaction, event.is_some()).await?;
        Ok(was_there.unwrap_or(false))
    }
}

impl SqliteTokenCache {
    /// Starts the sliding window anew. The reader has its blob already, so a failure only shortens the blob's life.
    async fn rearm(&self, key: &CacheKey) {
        let rearmed = sqlx::query(REARM).bind(key.as_str()).bind(now_us()).execute(self.database.writer()).await;
        if let Err(error) = rearmed.map_err(|e| self.error(e)) {
            tracing::warn!(%error, "the sliding expiry of a blob was not re-armed");
        }
    }

    async fn precondition_holds(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        write: &CacheWrite<'_>,
        now: i64,
    ) -> Result<bool, BackendError> {
        if matches!(write.precondition, Precondition::None) {
            return Ok(true);
        }
        let row = sqlx::query(READ).bind(write.key.as_str()).bind(now).fetch_optional(&mut **transaction).await;
        let stored: Option<Vec<u8>> = row.map_err(|e| self.error(e))?.map(|row| row.get("blob"));
        Ok(match write.precondition {
            Precondition::None => true,
            Precondition::Absent => stored.is_none(),
            Precondition::Unchanged(expected) => stored.as_deref() == Some(expected),
        })
    }

    async fn upsert(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        write: &CacheWrite<'_>,
        expiry: Expiry,
        now: i64,
    ) -> Result<(), BackendError> {
        let absolute = expiry.absolute.map(|time| time.as_microsecond());
        let sliding = expiry.sliding.map(in_us);
        let unread = sliding.map(|sliding| now.saturating_add(sliding));
        let expires = [absolute, unread].into_iter().flatten().min();
        let query = sqlx::query(WRITE).bind(write.key.as_str()).bind(write.blob);
        let query = query.bind(absolute).bind(sliding).bind(expires);
        query.execute(&mut **transaction).await.map_err(|e| self.error(e))?;
        Ok(())
    }

    async fn upsert_within(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        write: &CacheWrite<'_>,
        now: i64,
    ) -> Result<(), BackendError> {
        let forget = sqlx::query(FORGET_EXPIRED).bind(write.key.as_str()).bind(now);
        forget.execute(&mut **transaction).await.map_err(|e| self.error(e))?;
        let query = sqlx::query(WRITE_WITHIN).bind(write.key.as_str()).bind(write.blob).bind(now);
        query.execute(&mut **transaction).await.map_err(|e| self.error(e))?;
        Ok(())
    }
}
