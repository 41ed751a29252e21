//! Blobs kept in memory: never staler than the store, and of use.

use std::sync::Arc;
use std::time::Duration;

use common::account::CacheKey;
use common::backend::TlsFiles;
use common::redis_pool::RedisPool;
use common::token_cache::encryption::EncryptedTokenCache;
use common::token_cache::{
    CacheWrite, Expiry, ExpiryChange, L1Counts, L1Options, L1TokenCache, Layout, Precondition, RedisTokenCache,
    RedisTokenCacheOptions, TokenCacheStore, WhenDown, WriteOutcome,
};
use testkit::conformance::token_cache::run_all;
use testkit::servers::{KeyPrefix, PrivateRedis, RedisOptions};

use super::decorated::Decorated;
use super::encryption::cipher;
use super::redis::{OnRedis, open};
use super::sqlite::OnSqlite;

const OPTIONS: L1Options = L1Options { ttl: Duration::from_secs(60), max_bytes: 64 << 20, when_down: WhenDown::Fail };

fn kept(store: Arc<dyn TokenCacheStore>) -> Arc<dyn TokenCacheStore> {
    Arc::new(L1TokenCache::new(store, OPTIONS))
}

/// As [`common::backends::Backends`] stacks them.
fn kept_and_encrypted(store: Arc<dyn TokenCacheStore>) -> Arc<dyn TokenCacheStore> {
    Arc::new(EncryptedTokenCache::new(kept(store), cipher(&[("one", 1)], "i:", "app"), "test"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_in_redis_that_is_kept_in_memory_conforms_in_the_layout_aspnet() {
    let subject = OnRedis { prefix: KeyPrefix::fresh().await, layout: Layout::Aspnet };
    run_all(&Decorated { subject, wrap: kept }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_in_redis_that_is_kept_in_memory_and_encrypted_conforms_in_the_layout_string() {
    let subject = OnRedis { prefix: KeyPrefix::fresh().await, layout: Layout::String };
    run_all(&Decorated { subject, wrap: kept_and_encrypted }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_in_sqlite_that_is_kept_in_memory_conforms() {
    run_all(&Decorated { subject: OnSqlite(tempfile::tempdir().unwrap()), wrap: kept }).await;
}

async fn put(store: &dyn TokenCacheStore, key: &CacheKey, blob: &[u8]) {
    let (expiry, precondition) = (ExpiryChange::Kept, Precondition::None);
    store.write(CacheWrite { key, blob, expiry, precondition, event: None, fence: None }).await.unwrap();
}

fn ada() -> CacheKey {
    CacheKey::new("ada.tenant").unwrap()
}

fn counts(hits: u64, misses: u64, served_while_down: u64) -> L1Counts {
    L1Counts { hits, misses, served_while_down }
}

#[tokio::test]
async fn what_another_program_writes_or_removes_is_seen_by_the_next_read() {
    let prefix = KeyPrefix::fresh().await;
    for layout in [Layout::Aspnet, Layout::String] {
        let theirs = open(&prefix, &layout.to_string(), layout).await;
        let ours = L1TokenCache::new(Arc::new(theirs.clone()), OPTIONS);
        put(&theirs, &ada(), b"first").await;
        for _ in 0..2 {
            assert_eq!(ours.read(&ada()).await.unwrap().unwrap(), b"first");
        }
        assert_eq!(ours.counts(), counts(1, 1, 0));
        put(&theirs, &ada(), b"other").await;
        let stale = CacheWrite {
            key: &ada(),
            blob: b"stale",
            expiry: ExpiryChange::Kept,
            precondition: Precondition::Unchanged(b"first"),
            event: None,
            fence: None,
        };
        assert_eq!(ours.write(stale).await.unwrap(), WriteOutcome::Conflict);
        assert_eq!(ours.read(&ada()).await.unwrap().unwrap(), b"other");
        assert_eq!(ours.read(&ada()).await.unwrap().unwrap(), b"other");
        theirs.remove(&ada(), None).await.unwrap();
        assert_eq!(ours.read(&ada()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_blob_that_is_kept_does_not_travel_and_its_sliding_window_starts_anew_all_the_same() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let (theirs, ours) = private(&redis, OPTIONS).await;
    let blob = vec![b'x'; 100_000];
    let expiry = Expiry { absolute: None, sliding: Some(Duration::from_secs(600)) };
    let write = CacheWrite {
        key: &ada(),
        blob: &blob,
        expiry: expiry.into(),
        precondition: Precondition::None,
        event: None,
        fence: None,
    };
    theirs.write(write).await.unwrap();
    ours.read(&ada()).await.unwrap().unwrap();
    redis.command::<()>(&["CONFIG", "RESETSTAT"]).unwrap();
    redis.command::<()>(&["EXPIRE", "tokencache:ada.tenant", "10"]).unwrap();
    for _ in 0..20 {
        assert_eq!(ours.read(&ada()).await.unwrap().unwrap(), blob);
    }
    assert!((599..=600).contains(&redis.command::<i64>(&["TTL", "tokencache:ada.tenant"]).unwrap()));
    let info: redis::InfoDict = redis.command(&["INFO", "stats"]).unwrap();
    let sent: u64 = info.get("total_net_output_bytes").unwrap();
    assert!(sent < 20_000, "20 reads of 100 kB took {sent} bytes");
    assert_eq!(ours.counts(), counts(20, 1, 0));
}

async fn private(redis: &PrivateRedis, options: L1Options) -> (RedisTokenCache, L1TokenCache) {
    let pool = RedisPool::new(&redis.url().parse().unwrap(), &TlsFiles::default(), 4).unwrap();
    let theirs = RedisTokenCache::open(pool, RedisTokenCacheOptions::default()).await.unwrap();
    let ours = L1TokenCache::new(Arc::new(theirs.clone()), options);
    (theirs, ours)
}

#[tokio::test]
async fn while_the_store_is_down_a_read_fails_unless_serving_from_memory_is_set() {
    let mut redis = PrivateRedis::start(RedisOptions::default()).await;
    let (theirs, careful) = private(&redis, OPTIONS).await;
    let serving = L1TokenCache::new(Arc::new(theirs.clone()), L1Options { when_down: WhenDown::Serve, ..OPTIONS });
    let (gone, never) = (CacheKey::new("gone").unwrap(), CacheKey::new("never read").unwrap());
    for key in [&ada(), &gone, &never] {
        put(&theirs, key, b"blob").await;
    }
    for cache in [&careful, &serving] {
        cache.read(&ada()).await.unwrap().unwrap();
        cache.read(&gone).await.unwrap().unwrap();
    }
    serving.remove(&gone, None).await.unwrap();
    redis.kill9();
    assert!(careful.read(&ada()).await.unwrap_err().is_transient());
    assert_eq!(serving.read(&ada()).await.unwrap().unwrap(), b"blob");
    assert_eq!(serving.counts(), counts(0, 2, 1));
    for key in [&gone, &never] {
        assert!(serving.read(key).await.unwrap_err().is_transient(), "{key}: not known is not absent");
    }
    let write = CacheWrite {
        key: &ada(),
        blob: b"lost",
        expiry: ExpiryChange::Kept,
        precondition: Precondition::None,
        event: None,
        fence: None,
    };
    assert!(serving.write(write).await.unwrap_err().is_transient());
    assert!(serving.read(&ada()).await.unwrap_err().is_transient(), "that write may have happened");
}

#[tokio::test]
async fn nothing_is_served_from_memory_for_longer_than_its_time() {
    let mut redis = PrivateRedis::start(RedisOptions::default()).await;
    let options = L1Options { ttl: Duration::from_millis(200), when_down: WhenDown::Serve, ..OPTIONS };
    let (theirs, ours) = private(&redis, options).await;
    put(&theirs, &ada(), b"blob").await;
    ours.read(&ada()).await.unwrap().unwrap();
    redis.kill9();
    testkit::wait_until(Duration::from_secs(20), async || ours.read(&ada()).await.is_err()).await;
}

#[tokio::test]
async fn no_more_bytes_are_kept_than_are_allowed() {
    let prefix = KeyPrefix::fresh().await;
    let theirs = open(&prefix, "c", Layout::Aspnet).await;
    let ours = L1TokenCache::new(Arc::new(theirs.clone()), L1Options { max_bytes: 10_000, ..OPTIONS });
    let blob = vec![b'x'; 2_000];
    let keys: Vec<CacheKey> = (0..400).map(|number| CacheKey::new(format!("user-{number}")).unwrap()).collect();
    for key in &keys {
        put(&theirs, key, &blob).await;
    }
    for _ in 0..3 {
        for key in &keys {
            assert_eq!(ours.read(key).await.unwrap().unwrap(), blob);
        }
    }
    let hits = ours.counts().hits;
    assert!(hits < 100, "{hits} of 1200 reads were of kept blobs, and there is room for 4");
}
