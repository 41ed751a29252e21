//! Exclusive rights to refresh: a row with its end for each.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::SqliteTokenCache;
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::token_cache::{RefreshLock, RefreshPermit};

const ACQUIRE: &str = "
INSERT INTO token_refresh_lock (cache_key, permit, until_us) VALUES (?1, ?2, ?3)
ON CONFLICT (cache_key) DO UPDATE SET permit = excluded.permit, until_us = excluded.until_us
WHERE token_refresh_lock.until_us <= ?4";

#[async_trait]
impl RefreshLock for SqliteTokenCache {
    async fn try_acquire(&self, key: &CacheKey, hold: Duration) -> Result<Option<RefreshPermit>, BackendError> {
        let permit = RefreshPermit::fresh();
        let now = Timestamp::now().as_microsecond();
        let until = now.saturating_add(i64::try_from(hold.as_micros()).unwrap_or(i64::MAX));
        let done = sqlx::query(ACQUIRE)
            .bind(key.as_str())
            .bind(permit.as_str())
            .bind(until)
            .bind(now)
            .execute(self.database.writer())
            .await
            .map_err(|e| self.error(e))?;
        Ok((done.rows_affected() > 0).then_some(permit))
    }

    async fn release(&self, key: &CacheKey, permit: &RefreshPermit) -> Result<(), BackendError> {
        sqlx::query("DELETE FROM token_refresh_lock WHERE cache_key = ?1 AND permit = ?2")
            .bind(key.as_str())
            .bind(permit.as_str())
            .execute(self.database.writer())
            .await
            .map_err(|e| self.error(e))?;
        Ok(())
    }
}
