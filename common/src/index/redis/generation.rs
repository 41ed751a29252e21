//! One generation of the index in Redis.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use redis::AsyncCommands as _;

use super::Scripts;
use super::keys::{Keys, count_field, last_message_field, member, time_field};
use super::layout::Layouts;
use super::policies::DuePolicies;
use super::shards::{Member, Shards};
use crate::account::{CacheKey, TenantId};
use crate::backend::{BackendError, Trouble};
use crate::index::{
    AccountActivity, AccountState, ActivityStore, Checkpoint, Counts, DuePolicy, IndexUpkeep, ListError, ListRequest,
    Page, ScanCursor, ScanPage, paging,
    record::{self, RecordError},
};
use crate::redis_pool::{AnyConnection, RedisPool};

/// How many records one command reads.
const READ_AT_ONCE: usize = 1_000;

/// One generation of the index in Redis. Clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct RedisGeneration {
    pub(super) pool: RedisPool,
    pub(super) shards: Shards,
    pub(super) scripts: Arc<Scripts>,
    pub(super) policies: DuePolicies,
    pub(super) layouts: Layouts,
    pub(super) number: u32,
}

impl RedisGeneration {
    /// What makes its accounts due.
    pub(super) async fn due_policy(&self) -> Result<DuePolicy, BackendError> {
        self.policies.of(self.number, &DuePolicy::default()).await
    }

    /// Reads the record of the account that `member` stands for.
    pub(super) fn decode(&self, stands_for: &[u8], bytes: &[u8]) -> Result<AccountActivity, BackendError> {
        let account = record::decode(bytes).map_err(|error| self.unreadable(error))?;
        if member(&account.cache_key) != stands_for {
            return Err(self.corrupt("an account is stored in another one's place; rebuild the index"));
        }
        Ok(account)
    }

    fn decode_of(&self, cache_key: &CacheKey, member: &[u8], record: &[u8]) -> Result<AccountActivity, BackendError> {
        let account = self.decode(member, record)?;
        if account.cache_key != *cache_key {
            return Err(self.one_digest());
        }
        Ok(account)
    }

    pub(super) fn unreadable(&self, error: RecordError) -> BackendError {
        BackendError::new(Trouble::Corrupt, self.pool.address(), "an account cannot be read", error)
    }

    pub(super) fn one_digest(&self) -> BackendError {
        self.corrupt("two cache keys have one digest; the index cannot keep both")
    }

    /// The accounts of one shard that are there, with their places in `cache_keys`.
    async fn read(
        &self,
        mut connection: AnyConnection,
        keys: &Keys,
        cache_keys: &[CacheKey],
        places: Vec<(usize, Member)>,
    ) -> Result<Vec<(usize, AccountActivity)>, BackendError> {
        let mut accounts = Vec::with_capacity(places.len());
        for places in places.chunks(READ_AT_ONCE) {
            let fields: Vec<&[u8]> = places.iter().map(|(_, member)| &member[..]).collect();
            let records: Vec<Option<Vec<u8>>> =
                connection.hmget(keys.accounts(), &fields).await.map_err(|e| self.pool.error(e))?;
            for ((place, member), record) in places.iter().zip(records) {
                if let Some(record) = record {
                    accounts.push((*place, self.decode_of(&cache_keys[*place], member, &record)?));
                }
            }
        }
        Ok(accounts)
    }

    fn odd_cursor(&self) -> BackendError {
        BackendError::plain(Trouble::Refused, self.pool.address(), "no scan of this index gave out that cursor")
    }

    pub(super) fn corrupt(&self, message: &str) -> BackendError {
        BackendError::plain(Trouble::Corrupt, self.pool.address(), message)
    }
}

/// The shard, and the cursor in it.
fn scan_place(cursor: &ScanCursor) -> Option<(usize, &str)> {
    let (shard, from) = cursor.0.split_once(':')?;
    Some((shard.parse().ok()?, from))
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
            connection.hget(self.shards.of(&member).accounts(), &member[..]).await.map_err(|e| self.pool.error(e))?;
        record.map(|record| self.decode_of(cache_key, &member, &record)).transpose()
    }

    async fn list(&self, request: &ListRequest) -> Result<Page, ListError> {
        paging::page(self, request).await
    }

    async fn counts(&self, tenant: Option<&TenantId>) -> Result<Counts, BackendError> {
        let fields = AccountState::ALL.map(|state| count_field(state, tenant));
        let connection = self.pool.get().await?;
        let shards = self.shards.all().iter().map(|keys| {
            let (mut connection, fields) = (connection.clone(), &fields);
            async move { connection.hmget(keys.counts(), fields).await.map_err(|e| self.pool.error(e)) }
        });
        let numbers: Vec<Vec<Option<i64>>> = try_join_all(shards).await?;
        let mut counts = Counts::default();
        for (state, number) in numbers.iter().flat_map(|numbers| AccountState::ALL.into_iter().zip(numbers)) {
            let number = u64::try_from(number.unwrap_or_default());
            counts.add(state, number.map_err(|_| self.corrupt("a count is below zero; rebuild the index"))?);
        }
        Ok(counts)
    }

    async fn checkpoint(&self, partition: u32) -> Result<Option<Checkpoint>, BackendError> {
        let fields = [partition.to_string(), time_field(partition), last_message_field(partition)];
        let mut connection = self.pool.get().await?;
        let (offset, micros, digest): (Option<u64>, Option<i64>, Option<String>) =
            connection.hmget(self.shards.first().checkpoints(), &fields).await.map_err(|e| self.pool.error(e))?;
        let newest_event = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok());
        let last_message = digest.and_then(|digest| digest.parse().ok());
        Ok(offset.map(|next_offset| Checkpoint { next_offset, newest_event, last_message }))
    }

    async fn store_checkpoint(&self, partition: u32, checkpoint: Checkpoint) -> Result<(), BackendError> {
        let micros = checkpoint.newest_event.map(|time| time.as_microsecond().to_string()).unwrap_or_default();
        let digest = checkpoint.last_message.map(String::from).unwrap_or_default();
        let mut connection = self.pool.get().await?;
        let mut call = self.scripts.checkpoint.prepare_invoke();
        call.key(self.shards.first().checkpoints()).key(self.shards.first().dropped());
        call.arg(partition).arg(checkpoint.next_offset).arg(time_field(partition)).arg(micros);
        call.arg(last_message_field(partition)).arg(digest);
        call.invoke_async(&mut *connection).await.map_err(|e| self.pool.error(e))
    }
}

#[async_trait]
impl IndexUpkeep for RedisGeneration {
    /// Shard by shard.
    async fn scan(&self, after: Option<&ScanCursor>, count: usize) -> Result<ScanPage, BackendError> {
        let (shard, from) = after.map_or(Some((0, "0")), scan_place).ok_or_else(|| self.odd_cursor())?;
        let keys = self.shards.all().get(shard).ok_or_else(|| self.odd_cursor())?;
        let mut connection = self.pool.get().await?;
        let (next, entries): (String, Vec<(Vec<u8>, Vec<u8>)>) = redis::cmd("HSCAN")
            .arg(keys.accounts())
            .arg(from)
            .arg("COUNT")
            .arg(count.max(1))
            .query_async(&mut *connection)
            .await
            .map_err(|e| self.pool.error(e))?;
        let accounts = entries.iter().map(|(member, record)| self.decode(member, record)).collect::<Result<_, _>>()?;
        let next = match next.as_str() {
            "0" if shard + 1 == self.shards.all().len() => None,
            "0" => Some(ScanCursor(format!("{}:0", shard + 1))),
            next => Some(ScanCursor(format!("{shard}:{next}"))),
        };
        Ok(ScanPage { accounts, next })
    }

    async fn get_many(&self, cache_keys: &[CacheKey]) -> Result<Vec<Option<AccountActivity>>, BackendError> {
        let connection = self.pool.get().await?;
        let shards = self.shards.all().iter().zip(self.shards.places(cache_keys.iter()));
        let reads = shards.map(|(keys, places)| self.read(connection.clone(), keys, cache_keys, places));
        let mut accounts = vec![None; cache_keys.len()];
        for (place, account) in try_join_all(reads).await?.into_iter().flatten() {
            accounts[place] = Some(account);
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
        connection.hdel(self.shards.first().checkpoints(), &fields).await.map_err(|e| self.pool.error(e))
    }
}
