//! Claims on accounts, on each backend.

use std::sync::Arc;

use common::backend::TlsFiles;
use common::index::{RedisIndex, SqliteIndex};
use common::redis_pool::RedisPool;
use common::sqlite::Database;
use testkit::conformance::claims::{TestClaims, run_all, run_all_in_shards};
use testkit::servers::{KeyPrefix, RedisCluster};

async fn redis(shards: u32) -> TestClaims {
    let prefix = KeyPrefix::fresh().await;
    let open = async || {
        let pool = RedisPool::new(&prefix.redis_url().parse().unwrap(), &TlsFiles::default(), 4).unwrap();
        RedisIndex::open_sharded(pool, prefix.as_str(), Some(shards)).await.unwrap()
    };
    TestClaims::new(open().await, open().await, prefix)
}

async fn in_cluster(cluster: Arc<RedisCluster>) -> TestClaims {
    let prefix = format!("test:{}:", uuid::Uuid::now_v7().simple());
    let open = async || {
        let pool = RedisPool::new(&cluster.url().parse().unwrap(), &TlsFiles::default(), 4).unwrap();
        RedisIndex::open_sharded(pool, &prefix, Some(3)).await.unwrap()
    };
    TestClaims::new(open().await, open().await, cluster)
}

async fn sqlite() -> TestClaims {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("index.sqlite").display()).parse().unwrap();
    let open = async || SqliteIndex::open(Database::open(&url).await.unwrap()).await.unwrap();
    TestClaims::new(open().await, open().await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claims_in_redis_conform() {
    run_all(|| redis(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claims_in_several_shards_conform() {
    run_all_in_shards(|| redis(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claims_in_a_redis_cluster_conform() {
    let cluster = RedisCluster::shared().await;
    run_all_in_shards(|| in_cluster(Arc::clone(&cluster))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claims_in_sqlite_conform() {
    run_all(sqlite).await;
}
