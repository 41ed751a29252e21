//! Encrypted blobs, on each backend.

use std::sync::Arc;

use common::account::{CacheKey, ClientId};
use common::backend::{BackendError, TlsFiles, Trouble};
use common::redis_pool::RedisPool;
use common::token_cache::encryption::{BlobCipher, EncryptedTokenCache, EnvelopeScope, KeyRing, UndecryptableBlob};
use common::token_cache::{
    CacheWrite, ExpiryChange, Layout, Precondition, RedisTokenCache, RedisTokenCacheOptions, TokenCacheScan,
    TokenCacheStore, WriteOutcome,
};
use testkit::conformance::token_cache::run_all;
use testkit::servers::{KeyPrefix, PrivateRedis, RedisOptions};

use super::decorated::Decorated;
use super::redis::OnRedis;
use super::sqlite::OnSqlite;

const INSTANCE: &str = "tokencache:";
const BLOB: &[u8] = br#"{"RefreshToken":{"k":{"secret":"s3cret"}}}"#;

/// A cipher of these keys, each 32 times one byte; the first is active.
pub(crate) fn cipher(keys: &[(&str, u8)], instance_name: &str, client: &str) -> BlobCipher {
    use base64::Engine as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let line = |(index, (id, byte)): (usize, &(&str, u8))| {
        let key = base64::engine::general_purpose::STANDARD.encode([*byte; 32]);
        format!("{} {id} {key}\n", if index == 0 { "active" } else { "inactive" })
    };
    std::fs::write(&file, keys.iter().enumerate().map(line).collect::<String>()).unwrap();
    let scope = EnvelopeScope { instance_name: instance_name.to_owned(), client_id: ClientId::new(client).unwrap() };
    BlobCipher::new(KeyRing::from_files(&[file]).unwrap(), scope)
}

fn encrypted(store: Arc<dyn TokenCacheStore>) -> Arc<dyn TokenCacheStore> {
    Arc::new(EncryptedTokenCache::new(store, cipher(&[("one", 1)], INSTANCE, "app"), "test"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_cache_in_redis_conforms_in_the_layout_aspnet() {
    let subject = OnRedis { prefix: KeyPrefix::fresh().await, layout: Layout::Aspnet };
    run_all(&Decorated { subject, wrap: encrypted }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_cache_in_redis_conforms_in_the_layout_string() {
    let subject = OnRedis { prefix: KeyPrefix::fresh().await, layout: Layout::String };
    run_all(&Decorated { subject, wrap: encrypted }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_cache_in_sqlite_conforms() {
    run_all(&Decorated { subject: OnSqlite(tempfile::tempdir().unwrap()), wrap: encrypted }).await;
}

/// Two users' caches in Redis, to be tampered with.
struct Rig {
    prefix: KeyPrefix,
    raw: RedisTokenCache,
    cache: Arc<dyn TokenCacheStore>,
    ada: CacheKey,
    bob: CacheKey,
}

impl Rig {
    async fn start() -> Self {
        let prefix = KeyPrefix::fresh().await;
        let raw = super::redis::open(&prefix, "c", Layout::Aspnet).await;
        let cache = encrypted(Arc::new(raw.clone()));
        let (ada, bob) = (CacheKey::new("ada.tenant").unwrap(), CacheKey::new("bob.tenant").unwrap());
        let rig = Self { prefix, raw, cache, ada, bob };
        rig.put(&*rig.cache, &rig.ada, BLOB).await;
        rig.put(&*rig.cache, &rig.bob, b"{}").await;
        rig
    }

    async fn put(&self, cache: &dyn TokenCacheStore, key: &CacheKey, blob: &[u8]) {
        assert_eq!(cache.write(write(key, blob, Precondition::None)).await.unwrap(), WriteOutcome::Written);
    }

    async fn stored(&self, key: &CacheKey) -> Vec<u8> {
        self.raw.peek(key).await.unwrap().unwrap()
    }
}

fn write<'a>(key: &'a CacheKey, blob: &'a [u8], precondition: Precondition<'a>) -> CacheWrite<'a> {
    CacheWrite { key, blob, expiry: ExpiryChange::Kept, precondition, event: None, fence: None }
}

fn reason(error: &BackendError) -> &UndecryptableBlob {
    assert_eq!(error.trouble, Trouble::Corrupt);
    assert!(!error.is_transient());
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("AQEB"), "{shown}");
    UndecryptableBlob::of(error).unwrap()
}

#[tokio::test]
async fn what_is_stored_is_an_envelope_in_the_field_that_dotnet_keeps_its_data_in() {
    let rig = Rig::start().await;
    let mut connection = super::redis::raw(&rig.prefix).await;
    let name = format!("{}c:ada.tenant", rig.prefix);
    let data: Vec<u8> = super::redis::ask(&mut connection, &["HGET", &name, "data"]).await;
    assert!(data.starts_with(b"\x89TCE\x01\x03one"), "{data:?}");
    assert!(!String::from_utf8_lossy(&data).contains("RefreshToken"));
    assert_eq!(rig.cache.read(&rig.ada).await.unwrap().unwrap(), BLOB);
}

#[tokio::test]
async fn two_users_blobs_that_were_swapped_open_for_neither() {
    let rig = Rig::start().await;
    let (ada, bob) = (rig.stored(&rig.ada).await, rig.stored(&rig.bob).await);
    rig.put(&rig.raw, &rig.ada, &bob).await;
    rig.put(&rig.raw, &rig.bob, &ada).await;
    for key in [&rig.ada, &rig.bob] {
        let error = rig.cache.read(key).await.unwrap_err();
        assert!(matches!(reason(&error), UndecryptableBlob::Forged { .. }), "{error}");
    }
}

#[tokio::test]
async fn plain_text_is_refused_on_reading_and_on_comparing_and_is_left_alone() {
    let rig = Rig::start().await;
    rig.put(&rig.raw, &rig.ada, BLOB).await;
    let error = rig.cache.read(&rig.ada).await.unwrap_err();
    assert_eq!(reason(&error), &UndecryptableBlob::NotEncrypted);
    let error = rig.cache.write(write(&rig.ada, b"{}", Precondition::Unchanged(BLOB))).await.unwrap_err();
    assert_eq!(reason(&error), &UndecryptableBlob::NotEncrypted);
    assert_eq!(rig.stored(&rig.ada).await, BLOB);
    let absent = rig.cache.write(write(&rig.ada, b"{}", Precondition::Absent)).await.unwrap();
    assert_eq!(absent, WriteOutcome::Conflict, "what cannot be read is there all the same");
    assert!(rig.cache.remove(&rig.ada, None).await.unwrap(), "and the user can sign out");
}

#[tokio::test]
async fn a_cache_of_another_app_instance_or_ring_is_undecryptable_and_says_which() {
    let rig = Rig::start().await;
    let envelope = rig.stored(&rig.ada).await;
    let read_with = async |cipher| {
        let cache = EncryptedTokenCache::new(Arc::new(rig.raw.clone()), cipher, "test");
        reason(&cache.read(&rig.ada).await.unwrap_err()).clone()
    };
    for cipher in [cipher(&[("one", 1)], INSTANCE, "other"), cipher(&[("one", 1)], "staging:", "app")] {
        assert!(matches!(read_with(cipher).await, UndecryptableBlob::Forged { .. }));
    }
    let unknown = read_with(cipher(&[("two", 2)], INSTANCE, "app")).await;
    assert!(unknown.to_string().contains("the key one"), "{unknown}");
    assert_eq!(rig.stored(&rig.ada).await, envelope, "nothing was touched");
}

#[tokio::test]
async fn a_store_that_is_down_is_neither_an_absence_nor_undecryptable() {
    let mut redis = PrivateRedis::start(RedisOptions::default()).await;
    let pool = RedisPool::new(&redis.url().parse().unwrap(), &TlsFiles::default(), 4).unwrap();
    let raw = RedisTokenCache::open(pool, RedisTokenCacheOptions::default()).await.unwrap();
    let key = CacheKey::new("ada.tenant").unwrap();
    let cache = encrypted(Arc::new(raw.clone()));
    cache.write(write(&key, BLOB, Precondition::None)).await.unwrap();
    redis.kill9();
    for error in [
        raw.read(&key).await.unwrap_err(),
        cache.read(&key).await.unwrap_err(),
        cache.write(write(&key, BLOB, Precondition::None)).await.unwrap_err(),
        cache.write(write(&key, BLOB, Precondition::Unchanged(BLOB))).await.unwrap_err(),
        cache.remove(&key, None).await.unwrap_err(),
    ] {
        assert!(error.is_transient(), "{error}");
        assert_eq!(UndecryptableBlob::of(&error), None);
    }
}
