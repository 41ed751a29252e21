//! Claims on accounts, on each backend.

use std::sync::Arc;

use common::backend::TlsFiles;
use common::index::{RedisIndex, SqliteIndex};
use common::redis_pool::RedisPool;
use common::sqlite::Database;
use testkit::conformance::claims::{TestClaims, run_all};
use testkit::servers::KeyPrefix;

async fn redis() -> TestClaims {
    let prefix = KeyPrefix::fresh().await;
    let open = async || {
        let pool = RedisPool::new(&prefix.redis_url().parse().unwrap(), &TlsFiles::default(), 4).unwrap();
        RedisIndex::open(pool, prefix.as_str()).await.unwrap()
    };
    let (one, other) = (open().await, open().await);
    TestClaims {
        claims: Arc::new(one.clone()),
        other: Arc::new(other),
        store: Arc::new(one.clone()),
        generations: Arc::new(one),
        keeps: Box::new(prefix),
    }
}

async fn sqlite() -> TestClaims {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("index.sqlite").display()).parse().unwrap();
    let open = async || SqliteIndex::open(Database::open(&url).await.unwrap()).await.unwrap();
    let (one, other) = (open().await, open().await);
    TestClaims {
        claims: Arc::new(one.clone()),
        other: Arc::new(other),
        store: Arc::new(one.clone()),
        generations: Arc::new(one),
        keeps: Box::new(folder),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claims_in_redis_conform() {
    run_all(redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claims_in_sqlite_conform() {
    run_all(sqlite).await;
}
