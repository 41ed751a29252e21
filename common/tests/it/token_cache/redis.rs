//! The token cache in Redis, in both layouts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::account::CacheKey;
use common::backend::{BackendError, TlsFiles, Trouble};
use common::event::{AccountHint, Activity, EventDraft, EventSource};
use common::redis_pool::RedisPool;
use common::token_cache::{
    BlobDigest, CacheWrite, EntryId, Expiry, ExpiryChange, Layout, Outbox, Precondition, RedisTokenCache,
    RedisTokenCacheOptions, RefreshLock, Reread, ScanCursor, TokenCacheScan, TokenCacheStore, WriteOutcome,
};
use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use testkit::certificates::{CertificateAuthority, CertificateFiles};
use testkit::conformance::token_cache::{Cache, TokenCacheUnderTest, run_all};
use testkit::servers::{KeyPrefix, PrivateRedis, RedisOptions, ServerTls};

pub(super) struct OnRedis {
    pub(super) prefix: KeyPrefix,
    pub(super) layout: Layout,
}

#[async_trait]
impl TokenCacheUnderTest for OnRedis {
    async fn open(&self, name: &str) -> Arc<dyn Cache> {
        Arc::new(open(&self.prefix, name, self.layout).await)
    }

    fn keeps_sliding_expiry(&self) -> bool {
        self.layout == Layout::Aspnet
    }
}

fn pool(prefix: &KeyPrefix) -> RedisPool {
    RedisPool::new(&prefix.redis_url().parse().unwrap(), &TlsFiles::default(), 4).unwrap()
}

pub(super) async fn open(prefix: &KeyPrefix, name: &str, layout: Layout) -> RedisTokenCache {
    let options = RedisTokenCacheOptions { instance_name: format!("{prefix}{name}:"), layout, ..Default::default() };
    RedisTokenCache::open(pool(prefix), options).await.unwrap()
}

pub(super) async fn raw(prefix: &KeyPrefix) -> MultiplexedConnection {
    redis::Client::open(prefix.redis_url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

pub(super) async fn ask<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, words: &[&str]) -> T {
    redis::cmd(words[0]).arg(&words[1..]).query_async(connection).await.unwrap()
}

fn draft() -> EventDraft {
    let source = EventSource::new("/apps/test").unwrap();
    EventDraft::new(source, CacheKey::new("key").unwrap(), Activity::Removed(AccountHint::default()))
}

fn write<'a>(key: &'a CacheKey, expiry: Expiry, event: Option<&'a EventDraft>) -> CacheWrite<'a> {
    CacheWrite { key, blob: b"blob", expiry: expiry.into(), precondition: Precondition::None, event, fence: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_cache_in_redis_conforms_in_the_layout_aspnet() {
    run_all(&OnRedis { prefix: KeyPrefix::fresh().await, layout: Layout::Aspnet }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_cache_in_redis_conforms_in_the_layout_string() {
    run_all(&OnRedis { prefix: KeyPrefix::fresh().await, layout: Layout::String }).await;
}

#[tokio::test]
async fn a_hash_is_what_the_dotnet_cache_writes_and_reads() {
    let prefix = KeyPrefix::fresh().await;
    let cache = open(&prefix, "c", Layout::Aspnet).await;
    let mut connection = raw(&prefix).await;
    let (key, name) = (CacheKey::new("key").unwrap(), format!("{prefix}c:key"));

    let absolute = Timestamp::now() + Duration::from_secs(7200);
    let expiry = Expiry { absolute: Some(absolute), sliding: Some(Duration::from_secs(600)) };
    cache.write(write(&key, expiry, None)).await.unwrap();
    let fields: Vec<String> = ask(&mut connection, &["HMGET", &name, "absexp", "sldexp", "data"]).await;
    let ticks = 621_355_968_000_000_000 + absolute.as_nanosecond() / 100;
    assert_eq!(fields, [ticks.to_string(), "6000000000".to_owned(), "blob".to_owned()]);
    assert_eq!(ask::<i64>(&mut connection, &["HLEN", &name]).await, 3);
    assert!((599..=600).contains(&ask::<i64>(&mut connection, &["TTL", &name]).await), "the shorter of the two");

    ask::<()>(&mut connection, &["EXPIRE", &name, "10"]).await;
    cache.read(&key).await.unwrap().unwrap();
    assert!((599..=600).contains(&ask::<i64>(&mut connection, &["TTL", &name]).await), "re-armed by reading");

    cache.write(write(&key, Expiry::default(), None)).await.unwrap();
    let fields: Vec<String> = ask(&mut connection, &["HMGET", &name, "absexp", "sldexp"]).await;
    assert_eq!(fields, ["-1", "-1"]);
    assert_eq!(ask::<i64>(&mut connection, &["TTL", &name]).await, -1, "no old TTL is left standing");

    ask::<()>(&mut connection, &["HSET", &name, "absexp", "-1", "sldexp", "9000000000", "data", "by .NET"]).await;
    ask::<()>(&mut connection, &["EXPIRE", &name, "10"]).await;
    assert_eq!(cache.read(&key).await.unwrap().unwrap(), b"by .NET");
    assert!((899..=900).contains(&ask::<i64>(&mut connection, &["TTL", &name]).await));
}

#[tokio::test]
async fn a_write_that_keeps_the_expiry_leaves_both_fields_and_the_ttl_as_they_are() {
    let prefix = KeyPrefix::fresh().await;
    let cache = open(&prefix, "c", Layout::Aspnet).await;
    let mut connection = raw(&prefix).await;
    let (key, name) = (CacheKey::new("key").unwrap(), format!("{prefix}c:key"));
    let kept = CacheWrite { expiry: ExpiryChange::Kept, ..write(&key, Expiry::default(), None) };
    let in_a_week =
        (621_355_968_000_000_000 + (Timestamp::now().as_nanosecond() / 100) + 6_048_000_000_000).to_string();
    // absexp, sldexp, the TTL on the key before, and after.
    let cases = [
        ["-1", "-1", "500", "500"],
        [&in_a_week, "-1", "500", "500"],
        ["-1", "9000000000", "500", "900"],
        [&in_a_week, "9000000000", "500", "900"],
        [&in_a_week, "90000000000000", "500", "604800"],
    ];
    for [absolute, sliding, before, after] in cases {
        ask::<()>(&mut connection, &["HSET", &name, "absexp", absolute, "sldexp", sliding, "data", "by .NET"]).await;
        ask::<()>(&mut connection, &["EXPIRE", &name, before]).await;
        cache.write(kept).await.unwrap();
        let fields: Vec<String> = ask(&mut connection, &["HMGET", &name, "absexp", "sldexp", "data"]).await;
        assert_eq!(fields, [absolute, sliding, "blob"]);
        let (ttl, after) = (ask::<i64>(&mut connection, &["TTL", &name]).await, after.parse::<i64>().unwrap());
        assert!((after - 2..=after).contains(&ttl), "{absolute} {sliding}: {ttl} and not {after}");
    }
    ask::<()>(&mut connection, &["DEL", &name]).await;
    cache.write(kept).await.unwrap();
    let fields: Vec<String> = ask(&mut connection, &["HMGET", &name, "absexp", "sldexp", "data"]).await;
    assert_eq!(fields, ["-1", "-1", "blob"], "a new hash is whole");
    assert_eq!(ask::<i64>(&mut connection, &["TTL", &name]).await, -1);

    let plain = open(&prefix, "p", Layout::String).await;
    let name = format!("{prefix}p:key");
    ask::<()>(&mut connection, &["SET", &name, "by Node", "EX", "500"]).await;
    plain.write(kept).await.unwrap();
    assert_eq!(ask::<String>(&mut connection, &["GET", &name]).await, "blob");
    assert!((498..=500).contains(&ask::<i64>(&mut connection, &["TTL", &name]).await));
}

/// What RedisCache.GetAndRefresh does: the TTL alone ends an entry, and a sliding one is given the shorter of what is
/// left and its window.
#[tokio::test]
async fn an_expiry_that_dotnet_wrote_is_treated_as_dotnet_treats_it() {
    let prefix = KeyPrefix::fresh().await;
    let cache = open(&prefix, "c", Layout::Aspnet).await;
    let mut connection = raw(&prefix).await;
    let (key, name) = (CacheKey::new("key").unwrap(), format!("{prefix}c:key"));
    let ticks = |seconds: i128| {
        (621_355_968_000_000_000 + (Timestamp::now().as_nanosecond() / 100) + seconds * 10_000_000).to_string()
    };
    let (past, soon) = (ticks(-60), ticks(100));
    // The fields beside `data`, the TTL before, and after the read: -1 none, -2 no key.
    let cases: [(&[&str], i64, i64); 8] = [
        (&[], -1, -1),
        (&[], 50, 50),
        (&["absexp", "-1", "sldexp", "-1"], 50, 50),
        (&["absexp", &past, "sldexp", "-1"], -1, -1),
        (&["absexp", &past, "sldexp", "6000000000"], -1, -2),
        (&["absexp", &soon, "sldexp", "6000000000"], 50, 100),
        (&["absexp", "-1", "sldexp", "6000000000"], -1, 600),
        (&["sldexp", "6000000000"], 50, 600),
    ];
    for (fields, before, after) in cases {
        for digest in [None, Some(BlobDigest::of(b"by .NET")), Some(BlobDigest::of(b"another"))] {
            ask::<()>(&mut connection, &["DEL", &name]).await;
            ask::<()>(&mut connection, &[&["HSET", &name, "data", "by .NET"], fields].concat()).await;
            if before > 0 {
                ask::<()>(&mut connection, &["EXPIRE", &name, &before.to_string()]).await;
            }
            match &digest {
                None => assert_eq!(cache.read(&key).await.unwrap().unwrap(), b"by .NET"),
                Some(digest) => assert!(cache.reread(&key, digest).await.unwrap() != Reread::Absent),
            }
            let ttl: i64 = ask(&mut connection, &["TTL", &name]).await;
            assert!(ttl == after || (after > 0 && ttl == after - 1), "{fields:?} {digest:?}: {ttl}");
        }
    }
    ask::<()>(&mut connection, &["HSET", &name, "absexp", "-1", "sldexp", "-1"]).await;
    ask::<()>(&mut connection, &["HDEL", &name, "data"]).await;
    assert_eq!(cache.read(&key).await.unwrap(), None, "a hash without data holds no blob");
    assert!(cache.reread(&key, &BlobDigest::of(b"")).await.unwrap() == Reread::Absent);
}

#[tokio::test]
async fn a_plain_value_is_a_plain_value_with_its_expiry() {
    let prefix = KeyPrefix::fresh().await;
    let cache = open(&prefix, "c", Layout::String).await;
    let mut connection = raw(&prefix).await;
    let (key, name) = (CacheKey::new("key").unwrap(), format!("{prefix}c:key"));
    let expiry = Expiry { absolute: Some(Timestamp::now() + Duration::from_secs(60)), sliding: None };
    cache.write(write(&key, expiry, None)).await.unwrap();
    assert_eq!(ask::<String>(&mut connection, &["GET", &name]).await, "blob");
    assert!((59..=60).contains(&ask::<i64>(&mut connection, &["TTL", &name]).await));
    let sliding = Expiry { absolute: None, sliding: Some(Duration::from_secs(60)) };
    let error = cache.write(write(&key, sliding, None)).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused);
    assert!(error.message.contains("sliding"), "{error}");
}

#[tokio::test]
async fn a_key_of_the_other_layout_is_an_error_that_names_the_setting_and_changes_nothing() {
    let prefix = KeyPrefix::fresh().await;
    let mut connection = raw(&prefix).await;
    let (key, name) = (CacheKey::new("key").unwrap(), format!("{prefix}c:key"));
    let event = draft();
    for (layout, set, kind) in [
        (Layout::Aspnet, &["SET", name.as_str(), "theirs"][..], "string"),
        (Layout::String, &["HSET", name.as_str(), "data", "theirs"][..], "hash"),
    ] {
        let cache = open(&prefix, "c", layout).await;
        ask::<()>(&mut connection, &["DEL", &name]).await;
        ask::<()>(&mut connection, set).await;
        let precondition = Precondition::Unchanged(b"theirs");
        let errors = [
            cache.read(&key).await.unwrap_err(),
            cache.write(write(&key, Expiry::default(), Some(&event))).await.unwrap_err(),
            cache.write(CacheWrite { precondition, ..write(&key, Expiry::default(), Some(&event)) }).await.unwrap_err(),
            cache.remove(&key, Some(&event)).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.trouble, Trouble::Corrupt, "{layout}: {error}");
            assert!(error.message.contains("layout"), "{error}");
        }
        assert_eq!(ask::<String>(&mut connection, &["TYPE", &name]).await, kind, "it is left as it was");
        assert_eq!(cache.backlog().await.unwrap().kept, 0, "no event of a write that was not");
    }
}

#[tokio::test]
async fn a_scan_takes_the_instance_name_literally_and_tells_of_names_that_are_no_cache_key() {
    let prefix = KeyPrefix::fresh().await;
    let mut connection = raw(&prefix).await;
    let cache = open(&prefix, "[c]*?\\", Layout::Aspnet).await;
    let key = CacheKey::new("key").unwrap();
    cache.write(write(&key, Expiry::default(), None)).await.unwrap();
    cache.try_acquire(&key, Duration::from_secs(60)).await.unwrap().unwrap();
    let name = format!("{prefix}[c]*?\\:");
    for other in [format!("{prefix}c*x\\:key"), format!("{prefix}[c]*x\\:key"), format!("{name}{}", "k".repeat(513))] {
        ask::<()>(&mut connection, &["HSET", &other, "data", "x"]).await;
    }
    let (mut keys, mut unreadable_names, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = cache.scan(cursor.as_ref(), 10_000).await.unwrap();
        keys.extend(page.keys);
        unreadable_names += page.unreadable_names;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((keys, unreadable_names), (vec![key], 1));
    let error = cache.scan(Some(&ScanCursor::new("x")), 10).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Corrupt);
}

#[tokio::test]
async fn nothing_is_written_where_the_event_cannot_be() {
    let prefix = KeyPrefix::fresh().await;
    let mut connection = raw(&prefix).await;
    for layout in [Layout::Aspnet, Layout::String] {
        let cache = open(&prefix, "c", layout).await;
        ask::<()>(&mut connection, &["DEL", &format!("{prefix}c:outbox")]).await;
        ask::<()>(&mut connection, &["SET", &format!("{prefix}c:outbox"), "in the way"]).await;
        let key = CacheKey::new("key").unwrap();
        let error = cache.write(write(&key, Expiry::default(), Some(&draft()))).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::Corrupt);
        assert_eq!(cache.read(&key).await.unwrap(), None);
        ask::<()>(&mut connection, &["DEL", &format!("{prefix}c:outbox")]).await;
    }
}

#[tokio::test]
async fn the_time_goes_on_from_the_last_event_when_the_clock_was_set_back() {
    let prefix = KeyPrefix::fresh().await;
    let cache = open(&prefix, "c", Layout::Aspnet).await;
    let mut connection = raw(&prefix).await;
    let ahead = Timestamp::now().as_microsecond() + 3_600_000_000;
    ask::<()>(&mut connection, &["XADD", &format!("{prefix}c:outbox"), &format!("{ahead}-7"), "e", "x"]).await;
    let event = draft();
    cache.write(write(&event.subject, Expiry::default(), Some(&event))).await.unwrap();
    cache.append(&event).await.unwrap();
    let taken = cache.take(10, Duration::from_secs(60), Duration::ZERO).await.unwrap();
    let times: Vec<i64> = taken.iter().map(|entry| entry.event.time().as_microsecond()).collect();
    assert_eq!(times, [ahead + 1, ahead + 2]);
}

#[tokio::test]
async fn an_entry_that_is_no_event_is_set_aside_and_the_rest_flows_on() {
    let prefix = KeyPrefix::fresh().await;
    let cache = open(&prefix, "c", Layout::Aspnet).await;
    let mut connection = raw(&prefix).await;
    let (outbox, refused) = (format!("{prefix}c:outbox"), format!("{prefix}c:outbox.refused"));
    for (id, field, value) in
        [("5-0", "e", "{}"), ("1795400000000000-0", "e", "no json"), ("1795400000000001-0", "f", "v")]
    {
        ask::<()>(&mut connection, &["XADD", &outbox, id, field, value]).await;
    }
    redis::cmd("XADD")
        .arg(&outbox)
        .arg("1795400000000002-0")
        .arg(&b"\xff\xfe"[..])
        .arg(&b"\x00"[..])
        .query_async::<()>(&mut connection)
        .await
        .unwrap();
    cache.append(&draft()).await.unwrap();
    let taken = cache.take(2, Duration::from_secs(60), Duration::ZERO).await.unwrap();
    assert_eq!(taken.len(), 1, "a batch of nothing but garbage is followed by the next");
    let backlog = cache.backlog().await.unwrap();
    assert_eq!((backlog.refused, backlog.unconfirmed, backlog.kept), (4, 1, 1));
    let moved: redis::streams::StreamRangeReply = redis::cmd("XRANGE")
        .arg(&refused)
        .arg("-")
        .arg("+")
        .arg("COUNT")
        .arg(3)
        .query_async(&mut connection)
        .await
        .unwrap();
    let second = &moved.ids[1];
    let field = |name: &str| second.get::<String>(name).unwrap();
    assert_eq!((field("entry").as_str(), field("e").as_str()), ("1795400000000000-0", "no json"));
    assert!(field("reason").contains("JSON"), "{}", field("reason"));
    cache.confirm(&[taken[0].id.clone()]).await.unwrap();
    assert_eq!(cache.backlog().await.unwrap().unconfirmed, 0);
}

#[tokio::test]
async fn a_group_that_was_deleted_is_made_again_and_everything_comes_again() {
    let prefix = KeyPrefix::fresh().await;
    let cache = open(&prefix, "c", Layout::Aspnet).await;
    let mut connection = raw(&prefix).await;
    cache.append(&draft()).await.unwrap();
    ask::<()>(&mut connection, &["XGROUP", "DESTROY", &format!("{prefix}c:outbox"), "relay"]).await;
    assert_eq!(cache.trim(Duration::ZERO).await.unwrap(), 0, "without the group nobody knows what is confirmed");
    assert_eq!(cache.backlog().await.unwrap().unconfirmed, 1);
    assert_eq!(cache.take(5, Duration::from_secs(60), Duration::ZERO).await.unwrap().len(), 1);
    ask::<()>(&mut connection, &["DEL", &format!("{prefix}c:outbox")]).await;
    assert_eq!(cache.take(5, Duration::from_secs(60), Duration::from_millis(10)).await.unwrap(), []);
    cache.append(&draft()).await.unwrap();
    assert_eq!(cache.take(5, Duration::from_secs(60), Duration::ZERO).await.unwrap().len(), 1);
    cache.confirm(&[EntryId::new("1-0")]).await.unwrap();
}

async fn open_private(redis: &PrivateRedis) -> Result<RedisTokenCache, BackendError> {
    let pool = RedisPool::new(&redis.url().parse().unwrap(), &TlsFiles::default(), 4).unwrap();
    RedisTokenCache::open(pool, RedisTokenCacheOptions::default()).await
}

#[tokio::test]
async fn scripts_that_were_flushed_are_sent_again() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let cache = open_private(&redis).await.unwrap();
    let event = draft();
    for _ in 0..2 {
        redis.command::<()>(&["SCRIPT", "FLUSH"]).unwrap();
        let outcome = cache.write(write(&event.subject, Expiry::default(), Some(&event))).await.unwrap();
        assert_eq!(outcome, WriteOutcome::Written);
    }
    assert_eq!(cache.backlog().await.unwrap().kept, 2);
}

#[tokio::test]
async fn a_server_that_may_evict_events_is_refused() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    for (policy, is_fit) in [("allkeys-lru", false), ("allkeys-random", false), ("volatile-ttl", true)] {
        redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", policy]).unwrap();
        match open_private(&redis).await {
            Ok(_) => assert!(is_fit, "{policy}"),
            Err(error) => {
                assert!(!is_fit && error.trouble == Trouble::Refused, "{policy}: {error}");
                assert!(error.message.contains("noeviction"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn the_deployed_users_of_the_token_cache_may_do_all_of_it() {
    let users = include_str!("../../../../deploy/redis/users.acl.in");
    for (user, password) in [("web", "@REDIS_WEB_PASSWORD@"), ("worker", "@REDIS_WORKER_PASSWORD@")] {
        let acl = users.lines().map(|line| line.replace(">@", ">at-")).collect();
        let redis = PrivateRedis::start(RedisOptions { acl, ..Default::default() }).await;
        let secret = password.replacen('@', "at-", 1);
        let url = format!("redis://{user}:{secret}@127.0.0.1:{}", redis.port()).parse().unwrap();
        let pool = RedisPool::new(&url, &TlsFiles::default(), 4).unwrap();
        let cache = RedisTokenCache::open(pool, RedisTokenCacheOptions::default()).await.unwrap();
        use_all_of_it(&cache).await;
    }
}

#[tokio::test]
async fn tls_needs_a_server_that_is_trusted_and_a_client_that_is_known() {
    let (authority, strangers) = (CertificateAuthority::new(), CertificateAuthority::new());
    let tls = Some(ServerTls::of(&authority).requiring_client_certificate());
    let redis = PrivateRedis::start(RedisOptions { tls, ..Default::default() }).await;
    let open = async |authority: &CertificateAuthority, client: Option<CertificateFiles>| {
        let (client_certificate, client_key) = client.map(|files| (files.certificate, files.key)).unzip();
        let tls = TlsFiles { ca: Some(authority.certificate()), client_certificate, client_key };
        let pool = RedisPool::new(&redis.tls_url().parse().unwrap(), &tls, 4)?;
        RedisTokenCache::open(pool, RedisTokenCacheOptions::default()).await
    };
    let cache = open(&authority, Some(authority.client("web"))).await.unwrap();
    use_all_of_it(&cache).await;
    assert!(open(&strangers, Some(authority.client("web"))).await.is_err());
    assert!(open(&authority, Some(strangers.client("web"))).await.is_err());
    assert!(open(&authority, None).await.is_err());
}

async fn use_all_of_it(cache: &RedisTokenCache) {
    let event = draft();
    let expiry = Expiry { absolute: None, sliding: Some(Duration::from_secs(60)) };
    cache.write(write(&event.subject, expiry, Some(&event))).await.unwrap();
    assert!(cache.read(&event.subject).await.unwrap().is_some());
    assert!(cache.remove(&event.subject, Some(&event)).await.unwrap());
    cache.append(&event).await.unwrap();
    let (visibility, wait) = (Duration::from_millis(100), Duration::from_secs(20));
    let taken = cache.take(10, visibility, Duration::ZERO).await.unwrap();
    let ids: Vec<EntryId> = taken.into_iter().map(|entry| entry.id).collect();
    cache.confirm(&ids).await.unwrap();
    cache.rewind(Duration::from_secs(60)).await.unwrap();
    assert_eq!(cache.backlog().await.unwrap().unconfirmed, 3);
    assert_eq!(cache.take(10, visibility, Duration::ZERO).await.unwrap().len(), 3);
    assert_eq!(cache.take(10, visibility, wait).await.unwrap().len(), 3, "abandoned ones are claimed");
    cache.confirm(&ids).await.unwrap();
    assert_eq!(cache.trim(Duration::ZERO).await.unwrap(), 3);
}

#[tokio::test]
async fn many_waiting_takes_block_neither_each_other_nor_the_writers() {
    let prefix = KeyPrefix::fresh().await;
    let cache = open(&prefix, "c", Layout::Aspnet).await;
    let takers: Vec<_> = (0..12)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.take(1, Duration::from_secs(60), Duration::from_secs(30)).await.unwrap() })
        })
        .collect();
    for _ in 0..12 {
        cache.append(&draft()).await.unwrap();
    }
    for taker in takers {
        assert_eq!(taker.await.unwrap().len(), 1);
    }
}
