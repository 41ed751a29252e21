//! What is asked once, when the index is opened: may this Redis keep it, and is it of this version's format.

use redis::{InfoDict, Script};

use super::keys;
use crate::backend::{BackendError, Trouble};
use crate::redis_pool::RedisPool;

const FORMAT: u32 = 4;
const FIRST_GENERATION: u32 = 1;

/// Refuses a server, or a cluster with a node, that would silently drop accounts when its memory is full. The index's keys have no TTL, so the
/// `volatile-*` policies leave them alone.
pub(super) async fn refuse_eviction(pool: &RedisPool) -> Result<(), BackendError> {
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    let nodes: Vec<InfoDict> = pool.everywhere(info).await?;
    nodes.iter().try_for_each(|node| refuse_evicting(pool, node))
}

fn refuse_evicting(pool: &RedisPool, info: &InfoDict) -> Result<(), BackendError> {
    let Some(policy) = info.get::<String>("maxmemory_policy") else {
        tracing::warn!(redis = pool.address(), "this server does not tell its maxmemory-policy; it must not evict");
        return Ok(());
    };
    if policy == "noeviction" || policy.starts_with("volatile-") {
        return Ok(());
    }
    let message = format!(
        "maxmemory-policy is {policy}, which drops accounts of the index when memory is full; set it to noeviction"
    );
    Err(BackendError::plain(Trouble::Refused, pool.address(), message))
}

/// The most shards of an index: a query asks them all.
pub(super) const MOST_SHARDS: u32 = 64;

/// What an index says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    /// The generation in use.
    pub(super) live: u32,
    /// Over how many shards its accounts are spread, for its life.
    pub(super) shards: u32,
}

/// Opens an index in this version's format; makes one with so many shards where there is none.
pub(super) async fn open(pool: &RedisPool, prefix: &str, shards: Option<u32>) -> Result<Opened, BackendError> {
    let refused = |message| BackendError::plain(Trouble::Refused, pool.address(), message);
    if let Some(wanted) = shards.filter(|wanted| !(1..=MOST_SHARDS).contains(wanted)) {
        return Err(refused(format!("an index has 1 to {MOST_SHARDS} shards, not {wanted}")));
    }
    let opened = opened(pool, prefix, shards.unwrap_or(1)).await?;
    match shards {
        Some(wanted) if wanted != opened.shards => Err(refused(format!(
            "the index at {} has {} shards for its life, and {wanted} are asked for: leave the setting out, or set \
             another index prefix and let the log fill it",
            keys::meta(prefix),
            opened.shards
        ))),
        _ => Ok(opened),
    }
}

async fn opened(pool: &RedisPool, prefix: &str, shards: u32) -> Result<Opened, BackendError> {
    let script = Script::new(include_str!("open.lua"));
    let meta = keys::meta(prefix);
    let mut call = script.prepare_invoke();
    call.key(&meta).arg(FORMAT).arg(FIRST_GENERATION).arg(shards);
    let mut connection = pool.get().await?;
    let (format, live, shards): (Option<String>, Option<u32>, Option<u32>) =
        call.invoke_async(&mut *connection).await.map_err(|e| pool.error(e))?;
    if format.as_deref() != Some(FORMAT.to_string().as_str()) {
        let format = format.unwrap_or_else(|| "unknown".to_owned());
        let message = format!(
            "the index at {meta} has format {format} and this version reads format {FORMAT}; \
             set another index prefix and let the log fill it"
        );
        return Err(BackendError::plain(Trouble::Refused, pool.address(), message));
    }
    match (live, shards) {
        (Some(live), Some(shards @ 1..=MOST_SHARDS)) => Ok(Opened { live, shards }),
        _ => {
            let message = format!("{meta} does not say what it is an index of; set another index prefix");
            Err(BackendError::plain(Trouble::Corrupt, pool.address(), message))
        }
    }
}
