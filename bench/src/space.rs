//! A place of the run's own on the servers: a vhost, and key prefixes that are removed at the end.

use std::sync::Arc;

use anyhow::Context as _;
use common::backend::TlsFiles;
use common::index::RedisIndex;
use common::log::{RabbitMqLog, RabbitMqOptions, TopologyOptions};
use common::redis_pool::RedisPool;
use common::token_cache::{Layout, RedisTokenCache, RedisTokenCacheOptions};
use redis::InfoDict;
use serde::Serialize;
use testkit::servers::{KeyPrefix, Vhost};
use url::Url;

use crate::cpu;

const CONNECTIONS: usize = 16;

/// The servers, and a vhost of its own on RabbitMQ.
pub(crate) struct Space {
    vhost: Vhost,
    pub(crate) redis_url: Url,
    pub(crate) pool: RedisPool,
    pub(crate) versions: Versions,
}

/// Who was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Versions {
    bench: &'static str,
    redis: String,
    rabbitmq: String,
}

impl Space {
    pub(crate) async fn make(amqp_url: &Url, redis_url: &Url) -> anyhow::Result<Self> {
        let pool = RedisPool::new(&redis_url.as_str().parse()?, &TlsFiles::default(), CONNECTIONS)?;
        let redis = redis_version(&pool).await?;
        let vhost = Vhost::at(amqp_url.clone()).await;
        let versions = Versions { bench: env!("CARGO_PKG_VERSION"), redis, rabbitmq: rabbitmq_version().await };
        Ok(Self { vhost, redis_url: redis_url.clone(), pool, versions })
    }

    /// The vhost's address.
    pub(crate) fn amqp_url(&self) -> String {
        self.vhost.amqp_url()
    }

    /// The log in the vhost, declared with so many partitions.
    pub(crate) async fn log(&self, partitions: u32) -> anyhow::Result<Arc<RabbitMqLog>> {
        let topology = TopologyOptions { partitions, ..TopologyOptions::default() };
        let options = RabbitMqOptions { topology, ..RabbitMqOptions::new(self.vhost.amqp_url().parse()?) };
        let log = RabbitMqLog::connect(&options)?;
        log.declare().await?;
        Ok(Arc::new(log))
    }

    /// A prefix that nothing else uses; its keys go when it is dropped.
    pub(crate) fn prefix(&self) -> KeyPrefix {
        KeyPrefix::on(self.redis_url.clone())
    }

    /// An empty index.
    pub(crate) async fn index(&self, prefix: &KeyPrefix) -> anyhow::Result<Arc<RedisIndex>> {
        Ok(Arc::new(RedisIndex::open(self.pool.clone(), prefix.as_str()).await?))
    }

    /// An empty token cache with its outbox.
    pub(crate) async fn token_cache(&self, prefix: &KeyPrefix, layout: Layout) -> anyhow::Result<Arc<RedisTokenCache>> {
        let instance_name = prefix.as_str().to_owned();
        let options = RedisTokenCacheOptions { instance_name, layout, ..RedisTokenCacheOptions::default() };
        Ok(Arc::new(RedisTokenCache::open(self.pool.clone(), options).await?))
    }

    /// CPU seconds used so far: by this process, by Redis, and by RabbitMQ where it runs on this machine.
    pub(crate) async fn cpu(&self) -> anyhow::Result<cpu::Seconds> {
        cpu::now(&self.pool).await
    }
}

async fn redis_version(pool: &RedisPool) -> anyhow::Result<String> {
    let mut connection = pool.get().await?;
    let info: InfoDict = redis::cmd("INFO").arg("server").query_async(&mut *connection).await?;
    info.get("redis_version").context("redis does not tell its version")
}

/// What `rabbitmqctl` on this machine says of itself: the protocol's client does not hand the broker's version on.
async fn rabbitmq_version() -> String {
    let answer = tokio::process::Command::new("rabbitmqctl").arg("version").output().await;
    let version = answer.ok().and_then(|answer| String::from_utf8(answer.stdout).ok());
    version.map_or_else(|| "unknown".to_owned(), |version| version.trim().to_owned())
}
