//! The token cache in Redis: blobs as other apps read and write them, and the outbox as a stream beside them.
//!
//! | key | type | holds | TTL |
//! |---|---|---|---|
//! | instance name, cache key | by [`Layout`] | one blob | its expiry, or none |
//! | instance name, `outbox` | stream, consumer group `relay` | the events; field `e` is the draft JSON | none; trimmed |
//! | instance name, `outbox.refused` | stream | what stood in the outbox and is no event | none |
//! | instance name, `outbox.refresh:`, cache key | string | who refreshes the blob just now | its time |
//!
//! **A write is one Lua script**: it compares, writes the blob and appends the event, so whatever of a write Redis
//! keeps or loses, it keeps or loses both. The id of an outbox entry is `{microseconds}-0` by Redis' own clock, and
//! greater than every id before it; it is the time of the event.
//!
//! **The consumer group is the relay's memory.** Taken entries are pending; confirming acknowledges them; what is
//! pending for longer than the visibility time is taken again. Entries stay in the stream until they are trimmed,
//! so that they can be sent again, and trimming stops before the first that is not confirmed.
//!
//! Redis 6.2 or later, one primary. In Redis Cluster a blob and the outbox may be in different slots, which no script
//! can write atomically: that is out of scope, unless all keys are in one slot by an instance name with a hash tag
//! (`{tokencache}:`). An eviction policy that may take keys without a TTL is refused, since it would take events.

mod append;
mod blobs;
mod blocking;
mod check;
mod erasure;
mod housekeeping;
mod keys;
mod layout;
mod outbox;
mod refresh_lock;
mod scan;
mod script;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use redis::{FromRedisValue, RedisError};

use self::blobs::BlobScripts;
use self::blocking::BlockingConnections;
use self::keys::Keys;
use self::outbox::OutboxScripts;
use self::script::Script;
use crate::backend::{BackendError, Trouble};
use crate::redis_pool::{RedisConnection, RedisPool};

pub use self::layout::{Layout, UnknownLayout};

/// How a [`RedisTokenCache`] names and lays out its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTokenCacheOptions {
    /// What every key begins with, as the other apps of this cache have it (`InstanceName` in ASP.NET Core).
    pub instance_name: String,
    /// How a blob is stored.
    pub layout: Layout,
    /// What follows the instance name in the key of the outbox. It must be no cache key.
    pub outbox_name: String,
}

impl Default for RedisTokenCacheOptions {
    /// `tokencache:`, [`Layout::Aspnet`], `outbox`.
    fn default() -> Self {
        Self { instance_name: "tokencache:".to_owned(), layout: Layout::Aspnet, outbox_name: "outbox".to_owned() }
    }
}

/// A [`TokenCacheStore`](super::TokenCacheStore) with its [`Outbox`](super::Outbox) in Redis. Clones share the
/// connections.
#[derive(Debug, Clone)]
pub struct RedisTokenCache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pool: RedisPool,
    keys: Keys,
    layout: Layout,
    blobs: BlobScripts,
    outbox: OutboxScripts,
    release_refresh: Script,
    blocking: BlockingConnections,
    /// When abandoned entries are looked for next, in milliseconds since the cache was opened.
    next_claim: AtomicU64,
    opened: std::time::Instant,
}

impl RedisTokenCache {
    /// Checks that the server may keep an outbox, and makes its consumer group where there is none.
    ///
    /// # Errors
    /// [`BackendError`]: Redis does not answer, is too old, may evict keys that have no TTL, or is a cluster.
    pub async fn open(pool: RedisPool, options: RedisTokenCacheOptions) -> Result<Self, BackendError> {
        check::refuse_cluster(&pool)?;
        check::refuse_unfit_server(&pool).await?;
        let shared = Shared {
            keys: Keys::new(&options),
            layout: options.layout,
            blobs: BlobScripts::new(options.layout),
            outbox: OutboxScripts::new(),
            release_refresh: Script::new(&[refresh_lock::RELEASE]),
            blocking: BlockingConnections::new(pool.clone()),
            next_claim: AtomicU64::new(0),
            opened: std::time::Instant::now(),
            pool,
        };
        let cache = Self { shared: Arc::new(shared) };
        cache.make_group().await?;
        Ok(cache)
    }

    async fn connection(&self) -> Result<RedisConnection, BackendError> {
        self.shared.pool.get().await
    }

    async fn run<T: FromRedisValue>(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<T, BackendError> {
        let mut connection = self.connection().await?;
        script.run(&mut *connection, keys, args).await.map_err(|e| self.error(e))
    }

    /// Tells what an error means here, where a key of another type is a matter of settings.
    fn error(&self, error: RedisError) -> BackendError {
        if !error.to_string().contains("WRONGTYPE") {
            return self.shared.pool.error(error);
        }
        let message = format!(
            "a key of this cache is not of the layout `{}`: set the token cache's layout to the one its other apps \
             use (`aspnet` or `string`), or give it an instance name of its own",
            self.shared.layout
        );
        BackendError::new(Trouble::Corrupt, self.shared.pool.address(), message, error)
    }
}
