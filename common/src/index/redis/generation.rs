//! One generation of the index in Redis.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::AsyncCommands as _;

use super::Scripts;
use super::keys::{ClaimKeys, Keys, count_field, last_message_field, member, time_field};
use super::policies::DuePolicies;
use crate::account::{CacheKey, TenantId};
use crate::backend::{BackendError, Trouble};
use crate::index::{
    AccountActivity, AccountState, ActivityStore, Checkpoint, Counts, DuePolicy, IndexUpkeep, ListError, ListRequest,
    Page, ScanCursor, ScanPage, paging, record,
};
use crate::redis_pool::RedisPool;

/// How many records one command reads.
const READ_AT_ONCE: usize = 1_000;

/// One generation of the index in Redis. Clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct RedisGeneration {
    pub(super) pool: RedisPool,
    pub(super) keys: Keys,
    pub(super) claim_keys: ClaimKeys,
    pub(super) scripts: Arc<Scripts>,
    pub(super) policies: DuePolicies,
    pub(super) number: u32,
}

impl RedisGeneration {
    /// What makes its accounts due.
    pub(super) async fn due_policy(&self) -> Result<DuePolicy, BackendError> {
        self.policies.of(self.number, &DuePolicy::default()).await
    }

    /// Reads the record of the account that `member` stands for.
    pub(super) fn decode(&self, stands_for: &[u8], bytes: &[u8]) -> Result<AccountActivity, BackendError> {
        let account = record::decode(bytes)
            .map_err(|e| BackendError::new(Trouble::Corrupt, self.pool.address(), "an account cannot be read", e))?;
        if member(&account.cache_key) != stands_for {
            return Err(self.corrupt("an account is stored in another one's place; rebuild the index"));
        }
        Ok(account)
    }

    fn decode_of(&self, cache_key: &CacheKey, member: &[u8], record: &[u8]) -> Result<AccountActivity, BackendError> {
        let account = self.decode(member, record)?;
        if account.cache_key != *cache_key {
            return Err(self.corrupt("two cache keys have one digest; the index cannot keep both"));
        }
        Ok(account)
    }

    pub(super) fn corrupt(&self, message: &str) -> BackendError {
        BackendError::plain(Trouble::Corrupt, self.pool.address(), message)
    }
}

#[async_trait]
impl ActivityStore for RedisGeneration {
    async fn apply(&self, changes: &[AccountActivity]) -> Result<(), BackendError> {
        self.apply_in_chunks(changes).await
    }

    async fn get(&self, cache_key: &CacheKey) -> Result<Option<AccountActivity>, BackendError> {
        let member = member(cache_key);
        let mut connection = self.pool.get().await?;
        let record: Option<Vec<u8>> =
            connection.hget(self.keys.accounts(), &member[..]).await.map_err(|e| self.pool.error(e))?;
        record.map(|record| self.decode_of(cache_key, &member, &record)).transpose()
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

    async fn checkpoint(&self, partition: u32) -> Result<Option<Checkpoint>, BackendError> {
        let fields = [partition.to_string(), time_field(partition), last_message_field(partition)];
        let mut connection = self.pool.get().await?;
        let (offset, micros, digest): (Option<u64>, Option<i64>, Option<String>) =
            connection.hmget(self.keys.checkpoints(), &fields).await.map_err(|e| self.pool.error(e))?;
        let newest_event = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok());
        let last_message = digest.and_then(|digest| digest.parse().ok());
        Ok(offset.map(|next_offset| Checkpoint { next_offset, newest_event, last_message }))
    }

    async fn store_checkpoint(&self, partition: u32, checkpoint: Checkpoint) -> Result<(), BackendError> {
        let micros = checkpoint.newest_event.map(|time| time.as_microsecond().to_string()).unwrap_or_default();
        let digest = checkpoint.last_message.map(String::from).unwrap_or_default();
        let mut connection = self.pool.get().await?;
        let mut call = self.scripts.checkpoint.prepare_invoke();
        call.key(self.keys.checkpoints()).key(self.keys.dropped());
        call.arg(partition).arg(checkpoint.next_offset).arg(time_field(partition)).arg(micros);
        call.arg(last_message_field(partition)).arg(digest);
        call.invoke_async(&mut *connection).await.map_err(|e| self.pool.error(e))
    }
}

#[async_trait]
impl IndexUpkeep for RedisGeneration {
    async fn scan(&self, after: Option<&ScanCursor>, count: usize) -> Result<ScanPage, BackendError> {
        let from = after.map_or("0", |after| after.0.as_str());
        let mut connection = self.pool.get().await?;
        let (next, entries): (String, Vec<(Vec<u8>, Vec<u8>)>) = redis::cmd("HSCAN")
            .arg(self.keys.accounts())
            .arg(from)
            .arg("COUNT")
            .arg(count.max(1))
            .query_async(&mut *connection)
            .await
            .map_err(|e| self.pool.error(e))?;
        let accounts = entries.iter().map(|(member, record)| self.decode(member, record));
        Ok(ScanPage { accounts: accounts.collect::<Result<_, _>>()?, next: (next != "0").then_some(ScanCursor(next)) })
    }

    async fn get_many(&self, cache_keys: &[CacheKey]) -> Result<Vec<Option<AccountActivity>>, BackendError> {
        let mut accounts = Vec::with_capacity(cache_keys.len());
        let mut connection = self.pool.get().await?;
        for keys in cache_keys.chunks(READ_AT_ONCE) {
            let members: Vec<_> = keys.iter().map(member).collect();
            let fields: Vec<&[u8]> = members.iter().map(|member| &member[..]).collect();
            let records: Vec<Option<Vec<u8>>> =
                connection.hmget(self.keys.accounts(), &fields).await.map_err(|e| self.pool.error(e))?;
            for ((key, member), record) in keys.iter().zip(&members).zip(records) {
                accounts.push(record.map(|record| self.decode_of(key, member, &record)).transpose()?);
            }
        }
        Ok(accounts)
    }

    async fn replace(
        &self,
        expected: Option<&AccountActivity>,
        with: Option<&AccountActivity>,
    ) -> Result<bool, BackendError> {
        self.replace_one(expected, with).await
    }

    async fn forget_checkpoint(&self, partition: u32) -> Result<(), BackendError> {
        let fields = [partition.to_string(), time_field(partition), last_message_field(partition)];
        let mut connection = self.pool.get().await?;
        connection.hdel(self.keys.checkpoints(), &fields).await.map_err(|e| self.pool.error(e))
    }
}
