//! CPU time, by who spent it.

use std::ops::Sub;

use anyhow::Context as _;
use common::redis_pool::RedisPool;
use redis::InfoDict;
use serde::Serialize;

/// The kernel's unit of times in `/proc`: 1/100 s on every Linux that Rust's standard targets run on.
const TICKS_PER_SECOND: f64 = 100.0;
/// The process of an Erlang node.
const BROKER_PROCESS: &str = "beam.smp";

/// CPU seconds, user and system together.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Seconds {
    pub(crate) ours: f64,
    pub(crate) redis: f64,
    /// All Erlang nodes of this machine; 0 where the broker is elsewhere.
    pub(crate) broker: f64,
}

impl Sub for Seconds {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { ours: self.ours - earlier.ours, redis: self.redis - earlier.redis, broker: self.broker - earlier.broker }
    }
}

pub(crate) async fn now(pool: &RedisPool) -> anyhow::Result<Seconds> {
    let ours = ticks_in(&tokio::fs::read_to_string("/proc/self/stat").await?).context("/proc/self/stat")?;
    Ok(Seconds { ours: ours / TICKS_PER_SECOND, redis: redis_seconds(pool).await?, broker: broker_seconds().await? })
}

async fn redis_seconds(pool: &RedisPool) -> anyhow::Result<f64> {
    let mut connection = pool.get().await?;
    let info: InfoDict = redis::cmd("INFO").arg("cpu").query_async(&mut *connection).await?;
    let user: f64 = info.get("used_cpu_user").context("used_cpu_user")?;
    let system: f64 = info.get("used_cpu_sys").context("used_cpu_sys")?;
    Ok(user + system)
}

async fn broker_seconds() -> anyhow::Result<f64> {
    let ticks = broker_files("stat").await?.iter().filter_map(|stat| ticks_in(stat)).sum::<f64>();
    Ok(ticks / TICKS_PER_SECOND)
}

/// A file of `/proc` of each Erlang node of this machine.
pub(crate) async fn broker_files(name: &str) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut processes = tokio::fs::read_dir("/proc").await?;
    while let Some(process) = processes.next_entry().await? {
        let folder = process.path();
        // A process may end while it is looked at.
        if let Ok(command) = tokio::fs::read_to_string(folder.join("comm")).await
            && command.trim() == BROKER_PROCESS
            && let Ok(file) = tokio::fs::read_to_string(folder.join(name)).await
        {
            files.push(file);
        }
    }
    Ok(files)
}

/// The sum of the fields `utime` and `stime`, which follow the command's name in parentheses.
fn ticks_in(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    Some(fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_read_behind_a_name_with_blanks_and_parentheses() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0";
        assert_eq!(super::ticks_in(stat), Some(300.0));
    }
}
