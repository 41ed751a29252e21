//! The index on a Redis Cluster, whose primaries may go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::backend::{BackendError, TlsFiles, Trouble};
use common::index::{AccountActivity, ActivityStore, Checkpoint, RedisIndex, RedisPartitionLeases};
use common::redis_pool::RedisPool;
use common::token_cache::{RedisTokenCache, RedisTokenCacheOptions};
use testkit::conformance::index::{TestIndex, assert_is_fold_of, run_all};
use testkit::conformance::leases;
use testkit::servers::{PrivateRedis, RedisCluster, RedisClusterOptions, RedisOptions};
use testkit::wait_until;

use super::{changes, list_all, some_events};

const PATIENCE: Duration = Duration::from_secs(60);
const SHARDS: u32 = 5;

fn pool(url: &str) -> RedisPool {
    RedisPool::new(&url.parse().unwrap(), &TlsFiles::default(), 4).unwrap()
}

fn fresh_prefix() -> String {
    format!("test:{}:", uuid::Uuid::now_v7().simple())
}

async fn open(url: &str, prefix: &str) -> Result<RedisIndex, BackendError> {
    RedisIndex::open_sharded(pool(url), prefix, Some(SHARDS)).await
}

async fn fresh(cluster: Arc<RedisCluster>) -> TestIndex {
    let prefix = fresh_prefix();
    let store = open(&cluster.url(), &prefix).await.unwrap();
    let other = open(&cluster.url(), &prefix).await.unwrap();
    TestIndex {
        store: Arc::new(store.clone()),
        other: Arc::new(other),
        generations: Arc::new(store),
        keeps: Box::new(cluster),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_in_a_redis_cluster_conforms() {
    let cluster = RedisCluster::shared().await;
    run_all(|| fresh(Arc::clone(&cluster))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_in_a_redis_cluster_conform() {
    let cluster = RedisCluster::shared().await;
    let prefix = fresh_prefix();
    let leases = || Arc::new(RedisPartitionLeases::new(pool(&cluster.url()), &prefix));
    leases::run_all(leases(), leases()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shards_are_spread_over_the_primaries() {
    let cluster = RedisCluster::shared().await;
    let store = open(&cluster.url(), "spread:").await.unwrap();
    store.apply(&changes(&some_events())).await.unwrap();
    let mut primaries: Vec<usize> =
        (0..SHARDS).map(|shard| cluster.primary_of(&format!("spread:{{s{shard}}}:g1:accounts"))).collect();
    primaries.sort_unstable();
    primaries.dedup();
    assert!(primaries.len() > 1, "{primaries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_costs_transient_errors_and_nothing_else() {
    let mut cluster = RedisCluster::start(RedisClusterOptions::default()).await;
    let (url, prefix) = (cluster.url(), "activity:");
    let store = open(&url, prefix).await.unwrap();
    let events = some_events();
    let traffic = Traffic::start(&store, &changes(&events));
    wait_until(PATIENCE, || async { traffic.applied() > 8 }).await;

    let killed = cluster.primary_of("activity:{s0}:g1:accounts");
    cluster.nodes_mut()[killed].kill9();
    wait_until(PATIENCE, || async { traffic.failures() > 0 }).await;
    cluster.recovered().await;
    let before = traffic.applied();
    wait_until(PATIENCE, || async { traffic.applied() > before + 8 }).await;
    traffic.stop().await;

    // What the replica had not got yet is applied again, as a projector does that goes on from its checkpoint.
    store.apply(&changes(&events)).await.unwrap();
    store.store_checkpoint(0, Checkpoint::at(7)).await.unwrap();
    assert_is_fold_of(&store, &events).await;
    assert_is_fold_of(&open(&url, prefix).await.unwrap(), &events).await;

    cluster.nodes_mut()[killed].start_again().await;
    cluster.recovered().await;
    assert_is_fold_of(&store, &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_gone_is_unavailable_within_a_bound_and_is_found_again() {
    let options = RedisClusterOptions { config_lines: vec!["appendonly yes".to_owned()], ..Default::default() };
    let mut cluster = RedisCluster::start(options).await;
    let store = open(&cluster.url(), "activity:").await.unwrap();
    let events = some_events();
    store.apply(&changes(&events)).await.unwrap();
    cluster.nodes_mut().iter_mut().for_each(PrivateRedis::kill9);
    let error = tokio::time::timeout(PATIENCE, store.apply(&changes(&events))).await.unwrap().unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let error = tokio::time::timeout(PATIENCE, open(&cluster.url(), "activity:")).await.unwrap().unwrap_err();
    assert_eq!(error.trouble, Trouble::Unavailable, "{error:?}");
    assert!(error.to_string().ends_with("nothing answers there; is Redis up, and the address right?"), "{error}");
    for node in cluster.nodes_mut() {
        node.start_again().await;
    }
    cluster.recovered().await;
    wait_until(PATIENCE, || async { store.apply(&changes(&events)).await.is_ok() }).await;
    assert_is_fold_of(&store, &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_answers_no_more_keeps_nobody_waiting_for_ever() {
    let options = RedisClusterOptions { node_timeout_millis: 600_000, ..Default::default() };
    let cluster = RedisCluster::start(options).await;
    let store = open(&cluster.url(), "activity:").await.unwrap();
    let events = some_events();
    store.apply(&changes(&events)).await.unwrap();
    let paused = &cluster.nodes()[cluster.primary_of("activity:{s0}:g1:accounts")];
    paused.pause();
    let outcome = tokio::time::timeout(PATIENCE, store.apply(&changes(&events))).await.unwrap();
    paused.resume();
    assert_eq!(outcome.unwrap_err().trouble, Trouble::Unavailable);
    wait_until(PATIENCE, || async { store.apply(&changes(&events)).await.is_ok() }).await;
    assert_is_fold_of(&store, &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_that_may_evict_accounts_is_enough_to_refuse_the_cluster() {
    let cluster = RedisCluster::start(RedisClusterOptions::default()).await;
    for node in cluster.nodes() {
        node.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
        let error = open(&cluster.url(), "activity:").await.unwrap_err();
        assert_eq!(error.trouble, Trouble::Refused);
        assert!(error.to_string().contains("allkeys-lru"), "{error}");
        node.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]).unwrap();
    }
    open(&cluster.url(), "activity:").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_of_a_cluster_is_refused_and_not_repeated() {
    let options = RedisClusterOptions { password: Some("right".to_owned()), ..Default::default() };
    let cluster = RedisCluster::start(options).await;
    open(&cluster.url(), "activity:").await.unwrap();
    let error = open(&cluster.url().replace("right", "h1dden"), "activity:").await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused, "{error:?}");
    assert!(!format!("{error:?}").contains("h1dden"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_no_node_of_a_cluster_is_refused() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let url = redis.url().replace("redis://", "redis-cluster://");
    let error = open(&url, "activity:").await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused, "{error:?}");
    assert!(error.to_string().ends_with("use redis:// for it"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_a_node_forgot_are_loaded_again() {
    let cluster = RedisCluster::start(RedisClusterOptions::default()).await;
    let store = open(&cluster.url(), "activity:").await.unwrap();
    let events = some_events();
    for (chunk, node) in events.chunks(40).zip(cluster.nodes()) {
        node.command::<()>(&["SCRIPT", "FLUSH"]).unwrap();
        store.apply(&changes(chunk)).await.unwrap();
    }
    assert_is_fold_of(&store, &events).await;
}

#[tokio::test]
async fn a_token_cache_in_a_cluster_is_refused() {
    let cluster = pool("redis-cluster://127.0.0.1:1");
    let error = RedisTokenCache::open(cluster, RedisTokenCacheOptions::default()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused);
    assert!(error.to_string().contains("the token cache needs one Redis server"), "{error}");
}

/// Applies and asks over and over; any error has to be one that passes.
struct Traffic {
    state: Arc<TrafficState>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct TrafficState {
    stopped: AtomicBool,
    applied: AtomicU64,
    failures: AtomicU64,
}

impl Traffic {
    fn start(store: &RedisIndex, changes: &[AccountActivity]) -> Self {
        let state = Arc::new(TrafficState::default());
        let tasks = (0..4_usize).map(|writer| {
            let (state, store, changes) = (Arc::clone(&state), store.clone(), changes.to_vec());
            tokio::spawn(async move {
                for turn in writer.. {
                    if state.stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let part = &changes[turn % changes.len()..];
                    if state.is_done(store.apply(part).await) {
                        state.applied.fetch_add(1, Ordering::Relaxed);
                    }
                    state.is_done(store.counts(None).await);
                    state.is_done(store.get(&part[0].cache_key).await);
                    if let Err(error) = list_all(&store).await {
                        assert!(error.is_transient(), "{error:?}");
                    }
                }
            })
        });
        Self { tasks: tasks.collect(), state }
    }

    fn applied(&self) -> u64 {
        assert!(!self.tasks.iter().any(tokio::task::JoinHandle::is_finished), "an error that does not pass");
        self.state.applied.load(Ordering::Relaxed)
    }

    fn failures(&self) -> u64 {
        self.state.failures.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        }
    }
}

impl TrafficState {
    fn is_done<T>(&self, outcome: Result<T, BackendError>) -> bool {
        match outcome {
            Ok(_) => true,
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                self.failures.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}
