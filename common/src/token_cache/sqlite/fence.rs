//! Fences: a row for each blob that was written under a claim lately.

use sqlx::{Sqlite, Transaction};

use super::SqliteTokenCache;
use super::clock::in_us;
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::index::Fence;
use crate::token_cache::port::CacheWrite;

const RAISE: &str = "INSERT INTO token_cache_fences (cache_key, fence, until_us) VALUES (?1, ?2, ?3)
    ON CONFLICT (cache_key) DO UPDATE SET fence = excluded.fence, until_us = excluded.until_us";

/// How many fences that are no longer remembered a write deletes.
const FORGET: &str = "DELETE FROM token_cache_fences WHERE cache_key IN
    (SELECT cache_key FROM token_cache_fences WHERE until_us <= ?1 LIMIT 2)";

impl SqliteTokenCache {
    /// Whether a higher fence has written.
    pub(super) async fn is_fenced(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        key: &CacheKey,
        fence: Fence,
        now: i64,
    ) -> Result<bool, BackendError> {
        let highest: Option<i64> =
            sqlx::query_scalar("SELECT fence FROM token_cache_fences WHERE cache_key = ?1 AND until_us > ?2")
                .bind(key.as_str())
                .bind(now)
                .fetch_optional(&mut **transaction)
                .await
                .map_err(|e| self.error(e))?;
        Ok(highest.is_some_and(|highest| highest > stored(fence)))
    }

    /// Remembers the fence of a write.
    pub(super) async fn raise_fence(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        key: &CacheKey,
        fence: Fence,
        now: i64,
    ) -> Result<(), BackendError> {
        let until = now.saturating_add(in_us(CacheWrite::FENCE_KEPT));
        let forget = sqlx::query(FORGET).bind(now);
        forget.execute(&mut **transaction).await.map_err(|e| self.error(e))?;
        let raise = sqlx::query(RAISE).bind(key.as_str()).bind(stored(fence)).bind(until);
        raise.execute(&mut **transaction).await.map_err(|e| self.error(e))?;
        Ok(())
    }
}

fn stored(fence: Fence) -> i64 {
    i64::try_from(fence.0).unwrap_or(i64::MAX)
}
