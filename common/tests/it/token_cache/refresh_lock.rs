//! The exclusive right to refresh, on each backend.

use std::sync::Arc;
use std::time::Duration;

use common::account::CacheKey;
use common::backend::TlsFiles;
use common::redis_pool::RedisPool;
use common::sqlite::Database;
use common::token_cache::{
    RedisTokenCache, RedisTokenCacheOptions, RefreshLock, SqliteTokenCache, SqliteTokenCacheOptions,
};
use testkit::servers::KeyPrefix;

const LONG: Duration = Duration::from_secs(60);

async fn redis(prefix: &KeyPrefix) -> RedisTokenCache {
    let pool = RedisPool::new(&prefix.redis_url().parse().unwrap(), &TlsFiles::default(), 4).unwrap();
    let options = RedisTokenCacheOptions { instance_name: format!("{prefix}c:"), ..Default::default() };
    RedisTokenCache::open(pool, options).await.unwrap()
}

async fn sqlite(folder: &tempfile::TempDir) -> SqliteTokenCache {
    let url = format!("sqlite://{}", folder.path().join("cache.db").display()).parse().unwrap();
    SqliteTokenCache::open(Database::open(&url).await.unwrap(), SqliteTokenCacheOptions::default()).await.unwrap()
}

/// What every lock does; `mine` and `yours` are two processes.
async fn conforms(mine: &dyn RefreshLock, yours: &dyn RefreshLock) {
    let (ada, bob) = (CacheKey::new("ada").unwrap(), CacheKey::new("bob").unwrap());
    let permit = mine.try_acquire(&ada, LONG).await.unwrap().unwrap();
    assert_eq!(yours.try_acquire(&ada, LONG).await.unwrap(), None, "one has it");
    assert_eq!(mine.try_acquire(&ada, LONG).await.unwrap(), None, "not even the same one twice");
    let other = yours.try_acquire(&bob, LONG).await.unwrap().unwrap();

    yours.release(&ada, &other).await.unwrap();
    assert_eq!(yours.try_acquire(&ada, LONG).await.unwrap(), None, "another permit gives nothing back");
    mine.release(&ada, &permit).await.unwrap();
    assert!(yours.try_acquire(&ada, LONG).await.unwrap().is_some());

    let brief = CacheKey::new("brief").unwrap();
    let late = mine.try_acquire(&brief, Duration::from_millis(50)).await.unwrap().unwrap();
    let next =
        testkit::wait_for(Duration::from_secs(5), || async { yours.try_acquire(&brief, LONG).await.unwrap() }).await;
    mine.release(&brief, &late).await.unwrap();
    assert_eq!(mine.try_acquire(&brief, LONG).await.unwrap(), None, "a permit that is over gives nobody else's back");
    yours.release(&brief, &next).await.unwrap();
}

/// Of many who try at once, one has it.
async fn excludes(locks: Vec<Arc<dyn RefreshLock>>) {
    let tries = locks.into_iter().map(|lock| {
        tokio::spawn(async move { lock.try_acquire(&CacheKey::new("crowd").unwrap(), LONG).await.unwrap() })
    });
    let mut winners = 0;
    for attempt in tries.collect::<Vec<_>>() {
        winners += usize::from(attempt.await.unwrap().is_some());
    }
    assert_eq!(winners, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_redis_one_process_refreshes_at_a_time() {
    let prefix = KeyPrefix::fresh().await;
    let (mine, yours) = (redis(&prefix).await, redis(&prefix).await);
    conforms(&mine, &yours).await;
    excludes((0..32).map(|n| Arc::new(if n % 2 == 0 { &mine } else { &yours }.clone()) as _).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sqlite_one_process_refreshes_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (mine, yours) = (sqlite(&folder).await, sqlite(&folder).await);
    conforms(&mine, &yours).await;
    excludes((0..32).map(|n| Arc::new(if n % 2 == 0 { &mine } else { &yours }.clone()) as _).collect()).await;
}
