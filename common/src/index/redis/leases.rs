//! Leases of partitions in Redis: a script for each step, by the server's clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{FromRedisValue, Script, ScriptInvocation};

use super::keys::LeaseKeys;
use crate::backend::BackendError;
use crate::index::{LeaseView, MemberId, PartitionLeases};
use crate::redis_pool::RedisPool;

/// The leases beside the index of one prefix. Clones share the connections.
#[derive(Debug, Clone)]
pub struct RedisPartitionLeases {
    pool: RedisPool,
    keys: LeaseKeys,
    scripts: Arc<Scripts>,
}

#[derive(Debug)]
struct Scripts {
    announce: Script,
    acquire: Script,
    release: Script,
    leave: Script,
}

impl RedisPartitionLeases {
    /// The leases beside the index whose keys begin with `prefix`. Asks nothing yet.
    pub fn new(pool: RedisPool, prefix: &str) -> Self {
        let scripts = Scripts {
            announce: Script::new(include_str!("lease_announce.lua")),
            acquire: Script::new(include_str!("lease_acquire.lua")),
            release: Script::new(include_str!("lease_release.lua")),
            leave: Script::new(include_str!("lease_leave.lua")),
        };
        Self { pool, keys: LeaseKeys::new(prefix), scripts: Arc::new(scripts) }
    }

    async fn call<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, BackendError> {
        let mut connection = self.pool.get().await?;
        call.invoke_async(&mut *connection).await.map_err(|e| self.pool.error(e))
    }
}

#[async_trait]
impl PartitionLeases for RedisPartitionLeases {
    async fn announce(&self, member: &MemberId, hold: Duration) -> Result<LeaseView, BackendError> {
        let mut call = self.scripts.announce.prepare_invoke();
        call.key(&self.keys.members).key(&self.keys.leases).arg(member.as_str()).arg(millis(hold));
        let (members, holders): (Vec<String>, Vec<(u32, String)>) = self.call(&call).await?;
        Ok(LeaseView {
            members: members.into_iter().map(MemberId::stored).collect(),
            holders: holders.into_iter().map(|(partition, holder)| (partition, MemberId::stored(holder))).collect(),
        })
    }

    async fn acquire(
        &self,
        member: &MemberId,
        partitions: &[u32],
        most: usize,
        hold: Duration,
    ) -> Result<BTreeSet<u32>, BackendError> {
        let mut call = self.scripts.acquire.prepare_invoke();
        call.key(&self.keys.leases).arg(member.as_str()).arg(millis(hold)).arg(most).arg(partitions);
        self.call(&call).await
    }

    async fn release(&self, member: &MemberId, partitions: &BTreeSet<u32>) -> Result<(), BackendError> {
        let mut call = self.scripts.release.prepare_invoke();
        call.key(&self.keys.leases).arg(member.as_str()).arg(partitions);
        self.call(&call).await
    }

    async fn leave(&self, member: &MemberId) -> Result<(), BackendError> {
        let mut call = self.scripts.leave.prepare_invoke();
        call.key(&self.keys.members).key(&self.keys.leases).arg(member.as_str());
        self.call(&call).await
    }
}

/// At least 1, and no more than a year: Redis adds it to the time it is.
fn millis(hold: Duration) -> u64 {
    const YEAR: u64 = 365 * 24 * 60 * 60 * 1_000;
    u64::try_from(hold.as_millis()).unwrap_or(YEAR).clamp(1, YEAR)
}
