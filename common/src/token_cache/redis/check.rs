//! What a Redis server must be like to keep an outbox.

use redis::InfoDict;

use crate::backend::{BackendError, Trouble};
use crate::redis_pool::RedisPool;

/// The first version with `XAUTOCLAIM` and `XTRIM MINID`.
const OLDEST_VERSION: (u32, u32) = (6, 2);

/// A blob and the outbox would be in different slots of a cluster, which no script can write in one step.
pub(super) fn refuse_cluster(pool: &RedisPool) -> Result<(), BackendError> {
    if !pool.is_cluster() {
        return Ok(());
    }
    let message = "the token cache needs one Redis server, since a blob and its event are written in one step, and a \
                   cluster keeps them in different slots; use redis:// or rediss:// for it";
    Err(BackendError::plain(Trouble::Refused, pool.address(), message))
}

/// Asks the server once, at the start, so that a wrong one is noticed before events are lost in it.
pub(super) async fn refuse_unfit_server(pool: &RedisPool) -> Result<(), BackendError> {
    let mut connection = pool.get().await?;
    let info: InfoDict = redis::cmd("INFO").query_async(&mut *connection).await.map_err(|e| pool.error(e))?;
    let refused = |message: String| BackendError::plain(Trouble::Refused, pool.address(), message);
    if let Some(version) = info.get::<String>("redis_version").filter(|version| is_too_old(version)) {
        return Err(refused(format!("Redis {version} is too old to keep an outbox; 6.2 or later is needed")));
    }
    if let Some(policy) = info.get::<String>("maxmemory_policy").filter(|policy| policy.starts_with("allkeys")) {
        let message = "may evict events that are not sent yet; set it to noeviction";
        return Err(refused(format!("maxmemory-policy {policy} {message}")));
    }
    Ok(())
}

/// A version that cannot be read is some other server's; it is let through to fail at what it cannot do.
fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST_VERSION,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, too_old) in
            [("6.0.16", true), ("6.2.0", false), ("7.0.15", false), ("10.1", false), ("unstable", false)]
        {
            assert_eq!(is_too_old(version), too_old, "{version}");
        }
    }
}
