//! Exclusive rights to refresh: a key with a TTL for each.

use std::time::Duration;

use async_trait::async_trait;
use redis::{ExistenceCheck, SetExpiry, SetOptions};

use super::RedisTokenCache;
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::token_cache::{RefreshLock, RefreshPermit};

/// KEYS: the lock. ARGV: the permit.
pub(super) const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

#[async_trait]
impl RefreshLock for RedisTokenCache {
    async fn try_acquire(&self, key: &CacheKey, hold: Duration) -> Result<Option<RefreshPermit>, BackendError> {
        let permit = RefreshPermit::fresh();
        let millis = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX).max(1);
        let options = SetOptions::default().conditional_set(ExistenceCheck::NX).with_expiration(SetExpiry::PX(millis));
        let mut connection = self.connection().await?;
        let set: Option<String> = redis::Cmd::set_options(self.shared.keys.refresh_lock(key), permit.as_str(), options)
            .query_async(&mut *connection)
            .await
            .map_err(|e| self.error(e))?;
        Ok(set.map(|_| permit))
    }

    async fn release(&self, key: &CacheKey, permit: &RefreshPermit) -> Result<(), BackendError> {
        let name = self.shared.keys.refresh_lock(key);
        self.run::<()>(&self.shared.release_refresh, &[&name], &[permit.as_str().as_bytes()]).await
    }
}
