//! The cache keys in SQLite, in their order.

use async_trait::async_trait;

use super::SqliteTokenCache;
use super::clock::now_us;
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::token_cache::scan::{MOST_SCANNED, ScanCursor, ScanPage, TokenCacheScan};

const PAGE: &str = "SELECT cache_key FROM token_cache
    WHERE cache_key > ?1 AND (expires_us IS NULL OR expires_us > ?2) ORDER BY cache_key LIMIT ?3";

const PEEK: &str = "SELECT blob FROM token_cache WHERE cache_key = ?1 AND (expires_us IS NULL OR expires_us > ?2)";

#[async_trait]
impl TokenCacheScan for SqliteTokenCache {
    async fn scan(&self, cursor: Option<&ScanCursor>, limit: usize) -> Result<ScanPage, BackendError> {
        let limit = limit.clamp(1, MOST_SCANNED);
        let after = cursor.map_or("", ScanCursor::as_str);
        let query = sqlx::query_scalar(PAGE).bind(after).bind(now_us()).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let names: Vec<String> = query.fetch_all(self.database.readers()).await.map_err(|e| self.error(e))?;
        let next = names.last().filter(|_| names.len() == limit).map(ScanCursor::new);
        let found = names.len();
        let keys: Vec<CacheKey> = names.into_iter().filter_map(|name| CacheKey::new(name).ok()).collect();
        Ok(ScanPage { unreadable_names: (found - keys.len()) as u64, keys, next })
    }

    async fn peek(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        let query = sqlx::query_scalar(PEEK).bind(key.as_str()).bind(now_us());
        query.fetch_optional(self.database.readers()).await.map_err(|e| self.error(e))
    }
}
