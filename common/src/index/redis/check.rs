//! What is asked once, when the index is opened: may this Redis keep it, and is it of this version's format.

use redis::{InfoDict, Script};

use super::keys;
use crate::backend::{BackendError, Trouble};
use crate::redis_pool::RedisPool;

const FORMAT: u32 = 2;
const FIRST_GENERATION: u32 = 1;

/// Refuses a server that would silently drop accounts when its memory is full. The index's keys have no TTL, so the
/// `volatile-*` policies leave them alone.
pub(super) async fn refuse_eviction(pool: &RedisPool) -> Result<(), BackendError> {
    let mut connection = pool.get().await?;
    let info: InfoDict =
        redis::cmd("INFO").arg("memory").query_async(&mut *connection).await.map_err(|e| pool.error(e))?;
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

/// The generation in use, of an index in this version's format.
pub(super) async fn generation(pool: &RedisPool, prefix: &str) -> Result<u32, BackendError> {
    let script = Script::new(include_str!("open.lua"));
    let meta = keys::meta(prefix);
    let mut call = script.prepare_invoke();
    call.key(&meta).arg(FORMAT).arg(FIRST_GENERATION);
    let mut connection = pool.get().await?;
    let (format, generation): (Option<String>, Option<u32>) =
        call.invoke_async(&mut *connection).await.map_err(|e| pool.error(e))?;
    if format.as_deref() != Some(FORMAT.to_string().as_str()) {
        let format = format.unwrap_or_else(|| "unknown".to_owned());
        let message = format!(
            "the index at {meta} has format {format} and this version reads format {FORMAT}; \
             set another index prefix and let the log fill it"
        );
        return Err(BackendError::plain(Trouble::Refused, pool.address(), message));
    }
    generation.ok_or_else(|| {
        let message = format!("{meta} does not say which generation is in use; set another index prefix");
        BackendError::plain(Trouble::Corrupt, pool.address(), message)
    })
}
