//! The index in Redis: on the shared server, and on private ones with faults.

use std::sync::Arc;
use std::time::Duration;

use common::account::CacheKey;
use common::backend::{BackendError, TlsFiles, Trouble};
use common::index::{AccountActivity, AccountState, ActivityStore, Checkpoint, ListError, RedisIndex, fold};
use common::redis_pool::RedisPool;
use testkit::certificates::CertificateAuthority;
use testkit::conformance::index::{TestIndex, assert_is_fold_of, run_all};
use testkit::servers::{KeyPrefix, PrivateRedis, RedisOptions, ServerTls};
use testkit::wait_until;

use super::{changes, list_all, some_events};

const PREFIX: &str = "activity:";
const PATIENCE: Duration = Duration::from_secs(30);

async fn open_with(url: &str, tls: &TlsFiles, prefix: &str) -> Result<RedisIndex, BackendError> {
    RedisIndex::open(RedisPool::new(&url.parse().unwrap(), tls, 4)?, prefix).await
}

async fn open(url: &str, prefix: &str) -> Result<RedisIndex, BackendError> {
    open_with(url, &TlsFiles::default(), prefix).await
}

async fn open_sharded(url: &str, prefix: &str, shards: u32) -> Result<RedisIndex, BackendError> {
    RedisIndex::open_sharded(RedisPool::new(&url.parse().unwrap(), &TlsFiles::default(), 4)?, prefix, Some(shards))
        .await
}

async fn fresh(shards: u32) -> TestIndex {
    let prefix = KeyPrefix::fresh().await;
    let store = open_sharded(prefix.redis_url(), prefix.as_str(), shards).await.unwrap();
    let other = open(prefix.redis_url(), prefix.as_str()).await.unwrap();
    TestIndex {
        store: Arc::new(store.clone()),
        other: Arc::new(other),
        generations: Arc::new(store),
        keeps: Box::new(prefix),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redis_index_conforms() {
    run_all(|| fresh(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redis_index_conforms_in_several_shards() {
    run_all(|| fresh(5)).await;
}

#[tokio::test]
async fn the_number_of_shards_is_said_once() {
    let prefix = KeyPrefix::fresh().await;
    let open = async |shards| open_sharded(prefix.redis_url(), prefix.as_str(), shards).await;
    open(3).await.unwrap();
    let error = open(4).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused);
    assert!(
        error.to_string().contains("has 3 shards for its life, and 4 are asked for: leave the setting out"),
        "{error}"
    );
    for out_of_bounds in [0, 65] {
        assert_eq!(open(out_of_bounds).await.unwrap_err().trouble, Trouble::Refused);
    }
    let store = self::open(prefix.redis_url(), prefix.as_str()).await.unwrap();
    let events = some_events();
    store.apply(&changes(&events)).await.unwrap();
    assert_is_fold_of(&open(3).await.unwrap(), &events).await;
    let mut raw = raw(&prefix).await;
    for shard in 0..3 {
        let accounts = format!("{prefix}{{s{shard}}}:g1:accounts");
        let kept: usize = redis::cmd("HLEN").arg(&accounts).query_async(&mut raw).await.unwrap();
        assert!(kept > 0, "{accounts}");
    }
}

#[tokio::test]
async fn a_server_that_may_evict_accounts_is_refused() {
    let lines = |policy: &str| vec![format!("maxmemory-policy {policy}")];
    let redis = PrivateRedis::start(RedisOptions { config_lines: lines("allkeys-lru"), ..Default::default() }).await;
    let error = open(&redis.url(), PREFIX).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused);
    assert!(
        error.to_string().contains("allkeys-lru") && error.to_string().ends_with("set it to noeviction"),
        "{error}"
    );
    for policy in ["volatile-lru", "noeviction"] {
        redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", policy]).unwrap();
        open(&redis.url(), PREFIX).await.unwrap();
    }
}

#[tokio::test]
async fn an_index_of_another_format_or_kind_is_refused() {
    let prefix = KeyPrefix::fresh().await;
    let meta = format!("{prefix}meta");
    let mut raw = raw(&prefix).await;
    redis::cmd("HSET").arg(&meta).arg(&["format", "9", "generation", "1"]).exec_async(&mut raw).await.unwrap();
    let error = open(prefix.redis_url(), prefix.as_str()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused);
    assert!(error.to_string().contains("has format 9 and this version reads format 4"), "{error}");

    redis::cmd("SET").arg(&meta).arg("something else").exec_async(&mut raw).await.unwrap();
    let error = open(prefix.redis_url(), prefix.as_str()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Corrupt, "{error}");

    let error = open(prefix.redis_url(), "a{b}:").await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused, "{error}");
}

#[tokio::test]
async fn a_damaged_record_is_an_error_and_never_a_guess() {
    let prefix = KeyPrefix::fresh().await;
    let store = open(prefix.redis_url(), prefix.as_str()).await.unwrap();
    let events = some_events();
    store.apply(&changes(&events)).await.unwrap();
    let accounts = format!("{prefix}{{s0}}:g1:accounts");
    let mut raw = raw(&prefix).await;
    let members: Vec<Vec<u8>> = redis::cmd("HKEYS").arg(&accounts).query_async(&mut raw).await.unwrap();
    let records: Vec<Vec<u8>> = redis::cmd("HVALS").arg(&accounts).query_async(&mut raw).await.unwrap();
    // Garbage at first, then each the record of another account.
    for shift in [0, 1] {
        for (n, member) in members.iter().enumerate() {
            let record = if shift == 0 { &b"garbage"[..] } else { &records[(n + shift) % records.len()] };
            redis::cmd("HSET").arg(&accounts).arg(member).arg(record).exec_async(&mut raw).await.unwrap();
        }
        assert_eq!(store.get(&events[0].subject).await.unwrap_err().trouble, Trouble::Corrupt);
        assert_eq!(store.apply(&changes(&events)).await.unwrap_err().trouble, Trouble::Corrupt);
        assert!(matches!(list_all(&store).await, Err(ListError::Backend(error)) if error.trouble == Trouble::Corrupt));
    }
}

#[tokio::test]
async fn an_account_that_a_list_names_and_is_not_there_is_an_error() {
    let prefix = KeyPrefix::fresh().await;
    let store = open(prefix.redis_url(), prefix.as_str()).await.unwrap();
    store.apply(&changes(&some_events())).await.unwrap();
    assert!(!list_all(&store).await.unwrap().accounts.is_empty());
    let mut raw = raw(&prefix).await;
    redis::cmd("DEL").arg(format!("{prefix}{{s0}}:g1:accounts")).exec_async(&mut raw).await.unwrap();
    let Err(ListError::Backend(error)) = list_all(&store).await else { panic!("an error") };
    assert_eq!(error.trouble, Trouble::Corrupt);
    assert!(error.to_string().ends_with("a list names an account that is not there; rebuild the index"), "{error}");
}

#[tokio::test]
async fn a_list_of_another_type_leaves_no_account_half_written() {
    let prefix = KeyPrefix::fresh().await;
    let store = open(prefix.redis_url(), prefix.as_str()).await.unwrap();
    let active = format!("{prefix}{{s0}}:g1:due");
    let mut raw = raw(&prefix).await;
    redis::cmd("SET").arg(&active).arg("something else").exec_async(&mut raw).await.unwrap();
    let events = some_events();
    assert_eq!(store.apply(&changes(&events)).await.unwrap_err().trouble, Trouble::Corrupt);
    redis::cmd("DEL").arg(&active).exec_async(&mut raw).await.unwrap();
    store.apply(&changes(&events)).await.unwrap();
    assert_is_fold_of(&store, &events).await;
}

#[tokio::test]
async fn what_changes_nothing_is_not_written() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let store = open(&redis.url(), PREFIX).await.unwrap();
    let events = some_events();
    store.apply(&changes(&events)).await.unwrap();
    let writes = || {
        let info: redis::InfoDict = redis.command(&["INFO", "persistence"]).unwrap();
        info.get::<u64>("rdb_changes_since_last_save").unwrap()
    };
    let before = writes();
    assert!(before > 0);
    store.apply(&changes(&events)).await.unwrap();
    store.apply(&changes(&events[..50])).await.unwrap();
    assert_eq!(writes(), before);
}

#[tokio::test]
async fn no_key_expires_and_all_of_a_shard_share_a_slot() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let store = open(&redis.url(), PREFIX).await.unwrap();
    store.apply(&changes(&some_events())).await.unwrap();
    store.store_checkpoint(0, Checkpoint::at(1)).await.unwrap();
    let keys: Vec<String> = redis.command(&["KEYS", "*"]).unwrap();
    for key in &keys {
        assert_eq!(redis.command::<i64>(&["TTL", key]).unwrap(), -1, "{key}");
        assert!(key == "activity:meta" || key.starts_with("activity:{s0}:g1:"), "{key}");
    }
    assert!(keys.len() > 6, "{keys:?}");
}

#[tokio::test]
async fn lists_hold_the_listed_accounts_and_nothing_else() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let store = open(&redis.url(), PREFIX).await.unwrap();
    let events = some_events();
    for event in &events {
        store.apply(&[AccountActivity::of(event)]).await.unwrap();
    }
    let fold = fold(&events);
    let listed: Vec<&AccountActivity> = fold.values().filter(|account| account.is_listed()).collect();
    let named = listed.iter().filter(|account| account.details.as_ref().is_some_and(|d| d.value.username.is_some()));
    let of_tenant = listed.iter().filter(|account| account.tenant_id().is_some());
    let in_state = |state| listed.iter().filter(move |account| account.state() == state);
    let main: String = redis.command(&["HGET", "activity:{s0}:g1:layout", "client"]).unwrap();
    let of_another_app = listed
        .iter()
        .filter(|account| account.details.as_ref().is_some_and(|details| details.value.client_id.as_str() != main));
    let lengths = |pattern: &str| -> usize {
        let keys: Vec<String> = redis.command(&["KEYS", pattern]).unwrap();
        keys.iter().map(|key| redis.command::<usize>(&["ZCARD", key]).unwrap()).sum()
    };
    assert!(listed.len() < fold.len(), "some are removed");
    let of_none = listed.len() - of_tenant.clone().count();
    assert_eq!(lengths("activity:{s0}:g1:active"), of_none, "the few tenants have lists of their own alone");
    for (state, list) in [(AccountState::Parked, "parked"), (AccountState::BackingOff, "backing_off")] {
        assert_eq!(lengths(&format!("activity:{{s0}}:g1:{list}*")), in_state(state).count(), "{list}");
    }
    assert_eq!(lengths("activity:{s0}:g1:client:*"), of_another_app.count());
    assert_eq!(lengths("activity:{s0}:g1:tenant:*"), of_tenant.count());
    assert_eq!(lengths("activity:{s0}:g1:user:*"), named.count());
    let counts: Vec<i64> = redis.command(&["HVALS", "activity:{s0}:g1:counts"]).unwrap();
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[tokio::test]
async fn a_server_that_lost_everything_is_filled_again_by_who_knew_it_before() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let store = open(&redis.url(), PREFIX).await.unwrap();
    let other = open(&redis.url(), PREFIX).await.unwrap();
    let events = some_events();
    for (one, after) in [(&store, &other), (&other, &store)] {
        redis.command::<()>(&["FLUSHALL"]).unwrap();
        one.apply(&changes(&events[150..])).await.unwrap();
        after.apply(&changes(&events)).await.unwrap();
        assert_is_fold_of(one, &events).await;
        assert_is_fold_of(after, &events).await;
    }
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_loaded_again() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let store = open(&redis.url(), PREFIX).await.unwrap();
    let events = some_events();
    for chunk in events.chunks(50) {
        redis.command::<()>(&["SCRIPT", "FLUSH"]).unwrap();
        store.apply(&changes(chunk)).await.unwrap();
    }
    redis.command::<()>(&["SCRIPT", "FLUSH"]).unwrap();
    assert_is_fold_of(&store, &events).await;
}

#[tokio::test]
async fn applying_again_after_the_server_was_killed_gives_the_fold() {
    let mut redis = PrivateRedis::start(RedisOptions { appendonly: true, ..Default::default() }).await;
    let store = open(&redis.url(), PREFIX).await.unwrap();
    let events = some_events();
    for (round, chunk) in events.chunks(40).enumerate() {
        let changes = changes(chunk);
        let applier = tokio::spawn({
            let (store, changes) = (store.clone(), changes.clone());
            async move { store.apply(&changes).await }
        });
        if round % 2 == 0 {
            redis.kill9();
            // The call was overtaken by the kill or not; if it was, it may succeed later.
            if let Err(error) = applier.await.unwrap() {
                assert!(error.is_transient(), "{error:?}");
            }
            let error = store.counts(None).await.unwrap_err();
            assert!(error.is_transient(), "{error:?}");
            redis.start_again().await;
        }
        wait_until(PATIENCE, || async {
            match store.apply(&changes).await {
                Ok(()) => true,
                Err(error) if error.is_transient() => false,
                Err(error) => panic!("{error:?}"),
            }
        })
        .await;
    }
    assert_is_fold_of(&store, &events).await;
}

#[tokio::test]
async fn a_server_that_is_full_is_unavailable_and_loses_nothing() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let store = open(&redis.url(), PREFIX).await.unwrap();
    let events = some_events();
    store.apply(&changes(&events[..50])).await.unwrap();
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    for error in [
        store.apply(&changes(&events)).await.unwrap_err(),
        store.store_checkpoint(0, Checkpoint::at(9)).await.unwrap_err(),
    ] {
        assert_eq!(error.trouble, Trouble::Unavailable, "{error:?}");
        assert!(error.to_string().ends_with("Redis is out of memory; raise maxmemory or free some"), "{error}");
    }
    assert_is_fold_of(&store, &events[..50]).await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    store.apply(&changes(&events)).await.unwrap();
    assert_is_fold_of(&store, &events).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable_within_a_bound() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let store = open(&redis.url(), PREFIX).await.unwrap();
    let events = some_events();
    redis.pause();
    let outcome = tokio::time::timeout(PATIENCE, store.apply(&changes(&events))).await.unwrap();
    redis.resume();
    assert_eq!(outcome.unwrap_err().trouble, Trouble::Unavailable);
    store.apply(&changes(&events)).await.unwrap();
    assert_is_fold_of(&store, &events).await;
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let mut redis = PrivateRedis::start(RedisOptions::default()).await;
    redis.stop().await;
    let error = open(&redis.url(), PREFIX).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Unavailable);
    assert!(error.to_string().ends_with("nothing answers there; is Redis up, and the address right?"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_repeated() {
    let redis = PrivateRedis::start(RedisOptions { password: Some("right".to_owned()), ..Default::default() }).await;
    open(&redis.url(), PREFIX).await.unwrap();
    let error = open(&redis.url().replace("right", "h1dden"), PREFIX).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused, "{error:?}");
    assert!(error.to_string().ends_with("Redis refused the user or password; check the URL"), "{error}");
    assert!(!format!("{error:?}").contains("h1dden"));
}

#[tokio::test]
async fn the_least_privilege_is_enough_and_less_is_refused() {
    let rights = "resetchannels ~activity:* -@all +@connection +@read +@write +@transaction +evalsha +script|load +time \
                  -@dangerous";
    let acl = vec![
        "user default on nopass ~* &* +@all".to_owned(),
        format!("user projector on >s3cret {rights} +info"),
        format!("user stranger on >s3cret {}", rights.replace("activity:", "other:") + " +info"),
    ];
    let redis = PrivateRedis::start(RedisOptions { acl, ..Default::default() }).await;
    let url = |user: &str| redis.url().replace("redis://", &format!("redis://{user}:s3cret@"));
    let store = open(&url("projector"), PREFIX).await.unwrap();
    let events = some_events();
    store.apply(&changes(&events)).await.unwrap();
    store.store_checkpoint(0, Checkpoint::at(3)).await.unwrap();
    assert_is_fold_of(&store, &events).await;
    let error = open(&url("stranger"), PREFIX).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused, "{error:?}");
}

#[tokio::test]
async fn tls_with_a_private_ca_and_a_client_certificate() {
    let authority = CertificateAuthority::new();
    let tls = ServerTls::of(&authority).requiring_client_certificate();
    let redis = PrivateRedis::start(RedisOptions { tls: Some(tls), ..Default::default() }).await;
    let client = authority.client("projector");
    let files = TlsFiles {
        ca: Some(authority.certificate()),
        client_certificate: Some(client.certificate),
        client_key: Some(client.key),
    };
    let store = open_with(&redis.tls_url(), &files, PREFIX).await.unwrap();
    let events = some_events();
    store.apply(&changes(&events)).await.unwrap();
    assert_is_fold_of(&store, &events).await;

    let stranger = CertificateAuthority::new();
    let refusals = [
        ("another CA", TlsFiles { ca: Some(stranger.certificate()), ..files.clone() }),
        ("no CA", TlsFiles { ca: None, ..files.clone() }),
        ("no client certificate", TlsFiles { ca: files.ca.clone(), ..TlsFiles::default() }),
        ("a certificate without its key", TlsFiles { client_key: None, ..files.clone() }),
        ("a file that is not there", TlsFiles { ca: Some("missing.pem".into()), ..files.clone() }),
    ];
    for (what, files) in refusals {
        let error = open_with(&redis.tls_url(), &files, PREFIX).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::Refused, "{what}: {error:?}");
    }
}

#[tokio::test]
async fn what_was_never_heard_of_is_none_and_not_an_error() {
    let prefix = KeyPrefix::fresh().await;
    let store = open(prefix.redis_url(), prefix.as_str()).await.unwrap();
    assert_eq!(store.get(&CacheKey::new("nobody").unwrap()).await.unwrap(), None);
}

async fn raw(prefix: &KeyPrefix) -> redis::aio::MultiplexedConnection {
    redis::Client::open(prefix.redis_url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}
