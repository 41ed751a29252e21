//! Moving blobs to another key, beside those who use them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use common::account::CacheKey;
use common::backend::TlsFiles;
use common::redis_pool::RedisPool;
use common::token_cache::encryption::{BlobCipher, EncryptedTokenCache, Rewrap, RewrapOptions, Rewrapped};
use common::token_cache::{
    CacheWrite, Expiry, ExpiryChange, Layout, Outbox, Precondition, RedisTokenCache, RedisTokenCacheOptions,
    TokenCacheScan, TokenCacheStore, WriteOutcome,
};
use jiff::Timestamp;
use testkit::servers::{KeyPrefix, PrivateRedis, RedisOptions};

use super::encryption::cipher;

const PLAIN: &[u8] = br#"{"RefreshToken":{}}"#;

fn old() -> BlobCipher {
    cipher(&[("old", 1)], "i:", "app")
}

/// Between the two: the new key is active, the old one still opens.
fn both() -> BlobCipher {
    cipher(&[("new", 2), ("old", 1)], "i:", "app")
}

fn new() -> BlobCipher {
    cipher(&[("new", 2)], "i:", "app")
}

fn over(raw: &RedisTokenCache, cipher: BlobCipher) -> EncryptedTokenCache {
    EncryptedTokenCache::new(Arc::new(raw.clone()), cipher, "test")
}

fn rewrap(raw: &RedisTokenCache, options: RewrapOptions) -> Rewrap {
    Rewrap::new(Arc::new(raw.clone()), Arc::new(raw.clone()), both(), options)
}

async fn put(store: &dyn TokenCacheStore, key: &CacheKey, blob: &[u8]) {
    let (expiry, precondition) = (ExpiryChange::default(), Precondition::None);
    store.write(CacheWrite { key, blob, expiry, precondition, event: None, fence: None }).await.unwrap();
}

fn key(text: &str) -> CacheKey {
    CacheKey::new(text).unwrap()
}

#[tokio::test]
async fn what_was_under_an_old_key_is_under_the_active_one_with_its_expiry_and_no_event() {
    let prefix = KeyPrefix::fresh().await;
    for layout in [Layout::Aspnet, Layout::String] {
        let raw = super::redis::open(&prefix, &layout.to_string(), layout).await;
        let ada = key("ada");
        let expiry = Expiry { absolute: Some(Timestamp::now() + Duration::from_secs(600)), sliding: None };
        let write = CacheWrite {
            key: &ada,
            blob: PLAIN,
            expiry: expiry.into(),
            precondition: Precondition::None,
            event: None,
            fence: None,
        };
        over(&raw, old()).write(write).await.unwrap();
        let rewrap = rewrap(&raw, RewrapOptions::default());
        assert_eq!(rewrap.one(&ada).await.unwrap(), Rewrapped::Done);
        assert_eq!(rewrap.one(&ada).await.unwrap(), Rewrapped::AlreadyActive);
        assert_eq!(over(&raw, new()).read(&ada).await.unwrap().unwrap(), PLAIN);
        let mut connection = super::redis::raw(&prefix).await;
        let ttl: i64 = super::redis::ask(&mut connection, &["TTL", &format!("{prefix}{layout}:ada")]).await;
        assert!((590..=600).contains(&ttl), "{ttl}");
        assert_eq!(raw.backlog().await.unwrap().kept, 0);
        assert_eq!(rewrap.one(&key("nobody")).await.unwrap(), Rewrapped::Vanished);
    }
}

#[tokio::test]
async fn plain_text_is_encrypted_where_that_is_asked_for_and_what_is_no_cache_never() {
    let prefix = KeyPrefix::fresh().await;
    let raw = super::redis::open(&prefix, "c", Layout::Aspnet).await;
    let (ada, foreign, damaged) = (key("ada"), key("foreign"), key("damaged"));
    put(&raw, &ada, PLAIN).await;
    put(&raw, &foreign, b"\x09\xF0\xC9\xF0{}").await;
    put(&over(&raw, old()), &damaged, PLAIN).await;
    let mut envelope = raw.peek(&damaged).await.unwrap().unwrap();
    envelope[0] ^= 1;
    put(&raw, &damaged, &envelope).await;

    let careful = rewrap(&raw, RewrapOptions::default());
    assert_eq!(careful.one(&ada).await.unwrap(), Rewrapped::PlainText);
    let dry = rewrap(&raw, RewrapOptions { takes_plaintext: true, is_dry_run: true });
    assert_eq!(dry.one(&ada).await.unwrap(), Rewrapped::Encrypted);
    assert_eq!(raw.peek(&ada).await.unwrap().unwrap(), PLAIN, "a dry run writes nothing");
    let migrating = rewrap(&raw, RewrapOptions { takes_plaintext: true, ..Default::default() });
    assert_eq!(migrating.one(&ada).await.unwrap(), Rewrapped::Encrypted);
    assert_eq!(over(&raw, new()).read(&ada).await.unwrap().unwrap(), PLAIN);
    for key in [&foreign, &damaged] {
        let stored = raw.peek(key).await.unwrap();
        assert!(matches!(migrating.one(key).await.unwrap(), Rewrapped::Undecryptable(_)), "{key}");
        assert_eq!(raw.peek(key).await.unwrap(), stored, "{key} is left as it was");
    }
}

/// Writers that compare and set, removals, and two rewraps at once.
#[tokio::test(flavor = "multi_thread")]
async fn beside_writers_no_update_is_lost_and_what_was_removed_stays_removed() {
    let prefix = KeyPrefix::fresh().await;
    let raw = super::redis::open(&prefix, "c", Layout::Aspnet).await;
    let (busy, leaving) = (key("busy"), key("leaving"));
    put(&over(&raw, old()), &leaving, PLAIN).await;
    let writers = (0..4).map(|writer| {
        let raw = raw.clone();
        // Half of the fleet has made the new key active already.
        let cache = over(&raw, if writer % 2 == 0 { both() } else { cipher(&[("old", 1), ("new", 2)], "i:", "app") });
        tokio::spawn(async move {
            for number in 0..25 {
                add_line(&cache, &key("busy"), &format!("{writer}-{number}\n")).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let rewraps: Vec<_> = (0..2)
        .map(|_| {
            let rewrap = rewrap(&raw, RewrapOptions::default());
            tokio::spawn(async move {
                for _ in 0..100 {
                    rewrap.one(&key("busy")).await.unwrap();
                    rewrap.one(&key("leaving")).await.unwrap();
                }
            })
        })
        .collect();
    assert!(raw.remove(&leaving, None).await.unwrap());
    for task in writers.into_iter().chain(rewraps) {
        task.await.unwrap();
    }
    rewrap(&raw, RewrapOptions::default()).one(&busy).await.unwrap();
    let blob = String::from_utf8(over(&raw, new()).read(&busy).await.unwrap().unwrap()).unwrap();
    assert_eq!(blob.lines().collect::<HashSet<_>>().len(), 4 * 25);
    assert_eq!(blob.lines().count(), 4 * 25);
    assert_eq!(raw.read(&leaving).await.unwrap(), None, "a rewrap never brings a removed blob back");
}

async fn add_line(cache: &dyn TokenCacheStore, key: &CacheKey, line: &str) {
    testkit::wait_until(Duration::from_secs(20), async || {
        let stored = cache.read(key).await.unwrap();
        let blob = [stored.clone().unwrap_or_default(), line.as_bytes().to_vec()].concat();
        let precondition = stored.as_deref().map_or(Precondition::Absent, Precondition::Unchanged);
        let write = CacheWrite { key, blob: &blob, expiry: ExpiryChange::Kept, precondition, event: None, fence: None };
        cache.write(write).await.unwrap() == WriteOutcome::Written
    })
    .await;
}

#[tokio::test]
async fn the_deployed_operator_may_rewrap() {
    let users = include_str!("../../../../deploy/redis/users.acl.in");
    let acl = users.lines().map(|line| line.replace(">@", ">at-")).collect();
    let redis = PrivateRedis::start(RedisOptions { acl, ..Default::default() }).await;
    let url = format!("redis://operator:at-REDIS_OPERATOR_PASSWORD%40@127.0.0.1:{}", redis.port());
    let pool = RedisPool::new(&url.parse().unwrap(), &TlsFiles::default(), 4).unwrap();
    let raw = RedisTokenCache::open(pool, RedisTokenCacheOptions::default()).await.unwrap();
    put(&over(&raw, old()), &key("ada"), PLAIN).await;
    let rewrap = rewrap(&raw, RewrapOptions::default());
    let mut found = Vec::new();
    let mut page = rewrap.scan().scan(None, 100).await.unwrap();
    found.append(&mut page.keys);
    assert_eq!((found, page.next), (vec![key("ada")], None));
    assert_eq!(rewrap.one(&key("ada")).await.unwrap(), Rewrapped::Done);
}
