//! A Redis Cluster of a test's own: three primaries with a replica each.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{FromRedisValue, RedisResult};
use tokio::sync::Mutex;

use super::private_redis::{PrivateRedis, RedisOptions};
use super::process::free_port;

const PRIMARIES: usize = 3;
const NODES: usize = 2 * PRIMARIES;
const SLOTS: usize = 16_384;
const PATIENCE: Duration = Duration::from_secs(60);

/// How a cluster is set up.
#[derive(Clone)]
pub struct RedisClusterOptions {
    /// After how many milliseconds without an answer a node counts as failed.
    pub node_timeout_millis: u32,
    /// The default user's password, of all nodes.
    pub password: Option<String>,
    /// Further lines of every node's `redis.conf`.
    pub config_lines: Vec<String>,
}

impl Default for RedisClusterOptions {
    /// 2 seconds, no password.
    fn default() -> Self {
        Self { node_timeout_millis: 2_000, password: None, config_lines: Vec::new() }
    }
}

/// Six servers that are one cluster; killed and removed when dropped. The first three begin as primaries.
pub struct RedisCluster {
    nodes: Vec<PrivateRedis>,
    password: Option<String>,
}

impl RedisCluster {
    /// Starts a cluster; all slots are served, and all replicas follow, when this returns.
    ///
    /// # Panics
    /// When `redis-server` is not installed, or the nodes do not find each other.
    pub async fn start(options: RedisClusterOptions) -> Self {
        let starting = (0..NODES).map(|_| PrivateRedis::start(node_options(&options)));
        let nodes = futures_util::future::join_all(starting).await;
        let cluster = Self { nodes, password: options.password };
        cluster.join().await;
        cluster
    }

    /// The cluster that the tests of one process share; it is ended when the last of them lets go of it.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RedisCluster>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Self::start(RedisClusterOptions::default()).await);
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    /// The URL that names all nodes.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{password}{}", nodes.join(","))
    }

    /// The nodes, to be killed and asked.
    #[must_use]
    pub fn nodes(&self) -> &[PrivateRedis] {
        &self.nodes
    }

    /// The same, to be changed.
    pub fn nodes_mut(&mut self) -> &mut [PrivateRedis] {
        &mut self.nodes
    }

    /// The place among the nodes of the primary that keeps `key`.
    ///
    /// # Panics
    /// When no node says that it keeps it.
    #[must_use]
    pub fn primary_of(&self, key: &str) -> usize {
        let is_kept = |node: &PrivateRedis| {
            let value: RedisResult<redis::Value> = node.command(&["TYPE", key]);
            value.is_ok() && role(node).as_deref() == Some("master")
        };
        self.nodes.iter().position(is_kept).unwrap_or_else(|| panic!("no primary keeps {key}"))
    }

    /// Waits until every slot has a primary that answers, as all of the nodes that run see it.
    pub async fn recovered(&self) {
        crate::wait_until(PATIENCE, || async { self.running().all(is_ok) }).await;
    }

    fn running(&self) -> impl Iterator<Item = &PrivateRedis> {
        self.nodes.iter().filter(|node| node.command::<String>(&["PING"]).is_ok())
    }

    async fn join(&self) {
        for (place, node) in self.nodes.iter().enumerate().take(PRIMARIES) {
            let (first, last) = (SLOTS * place / PRIMARIES, SLOTS * (place + 1) / PRIMARIES - 1);
            must::<()>(node, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        for (place, node) in self.nodes.iter().enumerate() {
            must::<()>(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]);
        }
        let (port, bus) = (self.nodes[0].port().to_string(), self.nodes[0].cluster_port().to_string());
        for node in &self.nodes[1..] {
            must::<()>(node, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        self.all(|node| info(node, "cluster_known_nodes").as_deref() == Some("6")).await;
        for place in 0..PRIMARIES {
            let primary: String = must(&self.nodes[place], &["CLUSTER", "MYID"]);
            let replica = &self.nodes[PRIMARIES + place];
            crate::wait_until(PATIENCE, || async {
                replica.command::<()>(&["CLUSTER", "REPLICATE", &primary]).is_ok()
            })
            .await;
        }
        self.all(is_ok).await;
        self.all(|node| role(node).as_deref() == Some("master") || is_following(node)).await;
        self.all(knows_the_replicas).await;
    }

    async fn all(&self, condition: impl Fn(&PrivateRedis) -> bool) {
        crate::wait_until(PATIENCE, || async { self.nodes.iter().all(&condition) }).await;
    }
}

fn node_options(options: &RedisClusterOptions) -> RedisOptions {
    let cluster_port = free_port();
    let mut config_lines = vec![
        "cluster-enabled yes".to_owned(),
        format!("cluster-port {cluster_port}"),
        format!("cluster-node-timeout {}", options.node_timeout_millis),
        "cluster-replica-validity-factor 0".to_owned(),
        "repl-diskless-sync-delay 0".to_owned(),
    ];
    config_lines.extend(options.password.iter().map(|password| format!("masterauth {password}")));
    config_lines.extend(options.config_lines.iter().cloned());
    RedisOptions {
        password: options.password.clone(),
        config_lines,
        cluster_port: Some(cluster_port),
        ..RedisOptions::default()
    }
}

fn must<T: FromRedisValue>(node: &PrivateRedis, words: &[&str]) -> T {
    node.command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn info(node: &PrivateRedis, field: &str) -> Option<String> {
    let text: String = node.command(&["CLUSTER", "INFO"]).ok()?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(name, _)| *name == field).map(|(_, value)| value.trim().to_owned())
}

fn is_ok(node: &PrivateRedis) -> bool {
    info(node, "cluster_state").as_deref() == Some("ok")
}

fn role(node: &PrivateRedis) -> Option<String> {
    let info: redis::InfoDict = node.command(&["INFO", "replication"]).ok()?;
    info.get("role")
}

/// Whether it names a replica for each range of slots, as it does once it has heard that the replica follows.
fn knows_the_replicas(node: &PrivateRedis) -> bool {
    let ranges: RedisResult<Vec<Vec<redis::Value>>> = node.command(&["CLUSTER", "SLOTS"]);
    /// First slot, last slot, primary, replica.
    const WITH_REPLICA: usize = 4;
    ranges.is_ok_and(|ranges| ranges.len() == PRIMARIES && ranges.iter().all(|range| range.len() == WITH_REPLICA))
}

fn is_following(node: &PrivateRedis) -> bool {
    let info: RedisResult<redis::InfoDict> = node.command(&["INFO", "replication"]);
    info.ok().and_then(|info| info.get::<String>("master_link_status")).as_deref() == Some("up")
}
