//! The cache keys of one instance name, by SCAN.

use std::collections::HashSet;

use async_trait::async_trait;

use super::{Layout, RedisTokenCache};
use crate::account::CacheKey;
use crate::backend::{BackendError, Trouble};
use crate::token_cache::scan::{MOST_SCANNED, ScanCursor, ScanPage, TokenCacheScan};

#[async_trait]
impl TokenCacheScan for RedisTokenCache {
    /// Keys of the other layout come too, so that a wrong layout is noticed when they are read.
    async fn scan(&self, cursor: Option<&ScanCursor>, limit: usize) -> Result<ScanPage, BackendError> {
        let cursor = cursor.map_or(Ok(0), |cursor| self.position(cursor))?;
        let mut connection = self.connection().await?;
        let (next, names): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(self.shared.keys.pattern())
            .arg("COUNT")
            .arg(limit.clamp(1, MOST_SCANNED))
            .query_async(&mut *connection)
            .await
            .map_err(|e| self.error(e))?;
        let mut page = self.page(names);
        page.next = (next != 0).then(|| ScanCursor::new(next.to_string()));
        Ok(page)
    }

    async fn peek(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        let name = self.shared.keys.blob(key);
        let query = match self.shared.layout {
            Layout::Aspnet => redis::cmd("HGET").arg(name).arg("data").to_owned(),
            Layout::String => redis::cmd("GET").arg(name).to_owned(),
        };
        let mut connection = self.connection().await?;
        query.query_async(&mut *connection).await.map_err(|e| self.error(e))
    }
}

impl RedisTokenCache {
    fn position(&self, cursor: &ScanCursor) -> Result<u64, BackendError> {
        let foreign = |_| BackendError::plain(Trouble::Corrupt, self.shared.pool.address(), "no cursor of this cache");
        cursor.as_str().parse().map_err(foreign)
    }

    fn page(&self, names: Vec<Vec<u8>>) -> ScanPage {
        let mut page = ScanPage::default();
        // While Redis grows or shrinks its table, one answer may hold a key twice.
        let names: HashSet<Vec<u8>> = names.into_iter().collect();
        for name in names.iter().filter(|name| !self.shared.keys.is_of_the_outbox(name)) {
            match self.shared.keys.cache_key(name) {
                Some(key) => page.keys.push(key),
                None => page.unreadable_names += 1,
            }
        }
        page
    }
}
