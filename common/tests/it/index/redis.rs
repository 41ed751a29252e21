//! The index in Redis: on the shared server, and on private ones with faults.

use std::sync::Arc;

use common::backend::{BackendError, TlsFiles, Trouble};
use common::index::RedisIndex;
use common::redis_pool::RedisPool;
use testkit::conformance::index::{TestIndex, run_all};
use testkit::servers::KeyPrefix;

fn pool(url: &str) -> RedisPool {
    RedisPool::new(&url.parse().unwrap(), &TlsFiles::default(), 4).unwrap()
}

async fn open(url: &str, prefix: &str) -> Result<RedisIndex, BackendError> {
    RedisIndex::open(pool(url), prefix).await
}

async fn fresh() -> TestIndex {
    let prefix = KeyPrefix::fresh().await;
    let store = open(prefix.redis_url(), prefix.as_str()).await.unwrap();
    let other = open(prefix.redis_url(), prefix.as_str()).await.unwrap();
    TestIndex { store: Arc::new(store), other: Arc::new(other), keeps: Box::new(prefix) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redis_index_conforms() {
    run_all(fresh).await;
}
