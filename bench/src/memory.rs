//! Resident memory, by who has it: by how much it rose, at most, while something was measured.

use anyhow::Context as _;
use common::redis_pool::RedisPool;
use redis::InfoDict;

use crate::cpu::broker_files;

const STATUS: &str = "/proc/self/status";
const KIB_PER_MIB: f64 = 1024.0;
const BYTES_PER_MIB: f64 = 1024.0 * 1024.0;

/// MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    /// By how much this process had grown at its largest.
    pub(crate) ours: f64,
    /// By how much Redis had grown at the end.
    pub(crate) redis: f64,
    /// What all Erlang nodes of this machine had at the end; 0 where the broker is elsewhere.
    pub(crate) broker: f64,
}

/// What there was at the beginning.
pub(crate) struct Watch {
    ours: f64,
    redis: f64,
}

impl Watch {
    pub(crate) async fn begin(pool: &RedisPool) -> anyhow::Result<Self> {
        // The kernel's way to forget the largest size so far.
        tokio::fs::write("/proc/self/clear_refs", "5").await.context("/proc/self/clear_refs")?;
        Ok(Self { ours: own("VmRSS:").await?, redis: of_redis(pool).await? })
    }

    pub(crate) async fn end(self, pool: &RedisPool) -> anyhow::Result<Resident> {
        let broker = broker_files("status").await?.iter().filter_map(|status| mib_in(status, "VmRSS:")).sum();
        Ok(Resident { ours: own("VmHWM:").await? - self.ours, redis: of_redis(pool).await? - self.redis, broker })
    }
}

async fn own(field: &str) -> anyhow::Result<f64> {
    mib_in(&tokio::fs::read_to_string(STATUS).await?, field).with_context(|| format!("{field} in {STATUS}"))
}

async fn of_redis(pool: &RedisPool) -> anyhow::Result<f64> {
    let mut connection = pool.get().await?;
    let info: InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut *connection).await?;
    let bytes: f64 = info.get("used_memory").context("used_memory")?;
    Ok(bytes / BYTES_PER_MIB)
}

/// The kernel counts KiB.
fn mib_in(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / KIB_PER_MIB)
}

#[cfg(test)]
mod tests {
    use super::mib_in;

    #[test]
    fn resident_memory_is_read_among_other_lines() {
        let status = "Name:\tredis\nVmPeak:\t  900000 kB\nVmRSS:\t    2048 kB\nThreads:\t4\n";
        assert_eq!(mib_in(status, "VmRSS:"), Some(2.0));
        assert_eq!(mib_in("Name:\tkthreadd\n", "VmRSS:"), None, "a thread of the kernel has none");
    }
}
