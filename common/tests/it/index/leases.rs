//! The leases of partitions, on each backend.

use std::sync::Arc;

use common::backend::TlsFiles;
use common::index::{PartitionLeases, RedisPartitionLeases, SqlitePartitionLeases};
use common::redis_pool::RedisPool;
use common::sqlite::Database;
use testkit::conformance::leases::run_all;
use testkit::servers::KeyPrefix;

fn redis(prefix: &KeyPrefix) -> Arc<dyn PartitionLeases> {
    let pool = RedisPool::new(&prefix.redis_url().parse().unwrap(), &TlsFiles::default(), 4).unwrap();
    Arc::new(RedisPartitionLeases::new(pool, prefix.as_str()))
}

async fn sqlite(folder: &tempfile::TempDir) -> Arc<dyn PartitionLeases> {
    let url = format!("sqlite://{}", folder.path().join("index.db").display()).parse().unwrap();
    Arc::new(SqlitePartitionLeases::open(Database::open(&url).await.unwrap()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_in_redis_conform_and_leave_nothing_behind() {
    let prefix = KeyPrefix::fresh().await;
    run_all(redis(&prefix), redis(&prefix)).await;
    assert_eq!(
        prefix.remove_keys().unwrap(),
        0,
        "they are outside of all generations, so nothing else would remove them"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_in_sqlite_conform() {
    let folder = tempfile::tempdir().unwrap();
    run_all(sqlite(&folder).await, sqlite(&folder).await).await;
}
