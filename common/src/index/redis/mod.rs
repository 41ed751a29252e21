//! The index in Redis: a record per account, and sorted sets of short members in the order of last activity.
//!
//! Nothing is merged on the server. A batch is read, merged here, and written by one script per 500 accounts that
//! writes an account only if it is still as it was read; what changed meanwhile is read and merged again. So the
//! record, the lists and the counts of an account change in one step, and what changes nothing is not written.

mod apply;
mod check;
mod keys;
mod list;

use async_trait::async_trait;
use redis::{AsyncCommands as _, Script};

use super::{AccountActivity, AccountState, ActivityStore, Counts, ListError, ListRequest, Page, paging, record};
use crate::account::{CacheKey, TenantId};
use crate::backend::{BackendError, Trouble};
use crate::redis_pool::RedisPool;
use keys::{Keys, count_field, member};

/// The activity index in Redis. Clones share the connections.
#[derive(Debug, Clone)]
pub struct RedisIndex {
    pool: RedisPool,
    keys: Keys,
    scripts: Scripts,
}

#[derive(Debug, Clone)]
struct Scripts {
    apply: Script,
    page: Script,
    checkpoint: Script,
}

impl RedisIndex {
    /// Opens the index whose keys begin with `prefix`, beginning an empty one where there is none.
    ///
    /// # Errors
    /// [`BackendError`]: Redis does not answer, or is set to evict keys without a TTL; a version with another format
    /// made the index; the prefix has braces, which would make a hash tag of its own.
    pub async fn open(pool: RedisPool, prefix: &str) -> Result<Self, BackendError> {
        if prefix.contains(['{', '}']) {
            let message = "the prefix of the index must not have braces";
            return Err(BackendError::plain(Trouble::Refused, pool.address(), message));
        }
        check::refuse_eviction(&pool).await?;
        let generation = check::generation(&pool, prefix).await?;
        let scripts = Scripts {
            apply: Script::new(include_str!("apply.lua")),
            page: Script::new(include_str!("page.lua")),
            checkpoint: Script::new(include_str!("checkpoint.lua")),
        };
        Ok(Self { keys: Keys::new(prefix, generation, 0), pool, scripts })
    }

    /// Reads the record of the account that `member` stands for.
    fn decode(&self, stands_for: &[u8], bytes: &[u8]) -> Result<AccountActivity, BackendError> {
        let account = record::decode(bytes)
            .map_err(|e| BackendError::new(Trouble::Corrupt, self.pool.address(), "an account cannot be read", e))?;
        if member(&account.cache_key) != stands_for {
            return Err(self.corrupt("an account is stored in another one's place; rebuild the index"));
        }
        Ok(account)
    }

    fn corrupt(&self, message: &str) -> BackendError {
        BackendError::plain(Trouble::Corrupt, self.pool.address(), message)
    }
}

#[async_trait]
impl ActivityStore for RedisIndex {
    async fn apply(&self, changes: &[AccountActivity]) -> Result<(), BackendError> {
        self.apply_in_chunks(changes).await
    }

    async fn get(&self, cache_key: &CacheKey) -> Result<Option<AccountActivity>, BackendError> {
        let member = member(cache_key);
        let mut connection = self.pool.get().await?;
        let record: Option<Vec<u8>> =
            connection.hget(self.keys.accounts(), &member[..]).await.map_err(|e| self.pool.error(e))?;
        let account = record.map(|record| self.decode(&member, &record)).transpose()?;
        if account.as_ref().is_some_and(|account| account.cache_key != *cache_key) {
            return Err(self.corrupt("two cache keys have one digest; the index cannot keep both"));
        }
        Ok(account)
    }

    async fn list(&self, request: &ListRequest) -> Result<Page, ListError> {
        paging::page(self, request).await
    }

    async fn counts(&self, tenant: Option<&TenantId>) -> Result<Counts, BackendError> {
        let fields = AccountState::ALL.map(|state| count_field(state, tenant));
        let mut connection = self.pool.get().await?;
        let numbers: Vec<Option<i64>> =
            connection.hmget(self.keys.counts(), &fields).await.map_err(|e| self.pool.error(e))?;
        let mut counts = Counts::default();
        for (state, number) in AccountState::ALL.into_iter().zip(numbers) {
            let number = u64::try_from(number.unwrap_or_default());
            counts.add(state, number.map_err(|_| self.corrupt("a count is below zero; rebuild the index"))?);
        }
        Ok(counts)
    }

    async fn checkpoint(&self, partition: u32) -> Result<Option<u64>, BackendError> {
        let mut connection = self.pool.get().await?;
        connection.hget(self.keys.checkpoints(), partition).await.map_err(|e| self.pool.error(e))
    }

    async fn store_checkpoint(&self, partition: u32, next_offset: u64) -> Result<(), BackendError> {
        let mut connection = self.pool.get().await?;
        let mut call = self.scripts.checkpoint.prepare_invoke();
        call.key(self.keys.checkpoints()).arg(partition).arg(next_offset);
        call.invoke_async(&mut *connection).await.map_err(|e| self.pool.error(e))
    }
}
