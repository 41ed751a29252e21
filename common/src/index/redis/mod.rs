//! The index in Redis: a record per account, and sorted sets of short members in the order of last activity.
//!
//! Nothing is merged on the server. A batch is read, merged here, and written by one script per 500 accounts that
//! writes an account only if it is still as it was read; what changed meanwhile is read and merged again. So the
//! record, the lists and the counts of an account change in one step, and what changes nothing is not written.
//!
//! The accounts are spread over *shards* by the digest of their cache key. A shard has all structures for its accounts,
//! and what is asked of all is put together here; so every script touches one shard, which is one slot of a cluster.

mod apply;
mod check;
mod claims;
mod generation;
mod generations;
mod heads;
mod keys;
mod layout;
mod leases;
mod list;
mod policies;
mod shards;
mod user;

use redis::Script;

use self::claims::ClaimScripts;
use self::generation::RedisGeneration;
use self::generations::RedisGenerations;
pub use self::leases::RedisPartitionLeases;
use super::live::LiveIndex;
use crate::backend::{BackendError, Trouble};
use crate::redis_pool::RedisPool;

/// The activity index in Redis. Clones share the connections.
pub type RedisIndex = LiveIndex<RedisGenerations>;

#[derive(Debug)]
struct Scripts {
    apply: Script,
    heads: Script,
    record: Script,
    user: Script,
    layout: Script,
    checkpoint: Script,
    change: Script,
    claims: ClaimScripts,
}

impl RedisIndex {
    /// Opens the index whose keys begin with `prefix`, beginning an empty one where there is none.
    ///
    /// # Errors
    /// [`BackendError`]: Redis does not answer, or is set to evict keys without a TTL; a version with another format
    /// made the index; the prefix has braces, which would make a hash tag of its own.
    pub async fn open(pool: RedisPool, prefix: &str) -> Result<Self, BackendError> {
        Self::open_sharded(pool, prefix, None).await
    }

    /// Like [`open`](Self::open), over so many shards, 1 to 64. What is said when an index is made holds for its life;
    /// with `None` it is made with one.
    ///
    /// # Errors
    /// As those of [`open`](Self::open); and the index has another number of shards.
    pub async fn open_sharded(pool: RedisPool, prefix: &str, shards: Option<u32>) -> Result<Self, BackendError> {
        if prefix.contains(['{', '}']) {
            let message = "the prefix of the index must not have braces";
            return Err(BackendError::plain(Trouble::Refused, pool.address(), message));
        }
        check::refuse_eviction(&pool).await?;
        let opened = check::open(&pool, prefix, shards).await?;
        let scripts = Scripts {
            apply: Script::new(concat!(include_str!("first.lua"), include_str!("apply/apply.lua"))),
            heads: heads::script(),
            record: Script::new(include_str!("record.lua")),
            user: Script::new(include_str!("user.lua")),
            layout: Script::new(include_str!("layout.lua")),
            checkpoint: Script::new(include_str!("checkpoint.lua")),
            change: Script::new(include_str!("change.lua")),
            claims: ClaimScripts::new(),
        };
        Ok(Self::new(RedisGenerations::new(pool, prefix, opened.shards, scripts), opened.live))
    }
}
