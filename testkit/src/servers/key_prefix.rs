//! A Redis key prefix of one test's own.

use std::time::Duration;

use redis::Connection;
use url::Url;

const PATIENCE: Duration = Duration::from_secs(10);
const KEYS_PER_SCAN: usize = 1_000;

/// A prefix no other test uses, ending in `:`. Dropping it removes every key that contains it.
pub struct KeyPrefix {
    redis: Url,
    prefix: String,
}

impl KeyPrefix {
    /// A new prefix on the shared Redis.
    ///
    /// # Panics
    /// When no Redis answers.
    pub async fn fresh() -> Self {
        Self::on(super::redis_url().await)
    }

    /// A new prefix on the Redis at `redis`, which must outlive it.
    #[must_use]
    pub fn on(redis: Url) -> Self {
        let prefix = format!("test:{}:", uuid::Uuid::now_v7().simple());
        Self { redis, prefix }
    }

    /// The prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.prefix
    }

    /// The URL of the Redis that the prefix is for.
    #[must_use]
    pub fn redis_url(&self) -> &str {
        self.redis.as_str()
    }

    /// Removes the keys and says how many there were.
    ///
    /// # Errors
    /// When Redis does not answer or refuses.
    pub fn remove_keys(&self) -> redis::RedisResult<usize> {
        let client = redis::Client::open(self.redis.as_str())?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        unlink_matching(&mut connection, &format!("*{}*", self.prefix))
    }
}

impl std::fmt::Display for KeyPrefix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.prefix)
    }
}

impl Drop for KeyPrefix {
    fn drop(&mut self) {
        if let Err(error) = self.remove_keys() {
            tracing::warn!(prefix = self.prefix, %error, "test keys were left behind");
        }
    }
}

fn unlink_matching(connection: &mut Connection, pattern: &str) -> redis::RedisResult<usize> {
    let mut cursor = 0_u64;
    let mut removed = 0;
    loop {
        let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(KEYS_PER_SCAN)
            .query(connection)?;
        if !keys.is_empty() {
            removed += redis::cmd("UNLINK").arg(&keys).query::<usize>(connection)?;
        }
        if next == 0 {
            return Ok(removed);
        }
        cursor = next;
    }
}
