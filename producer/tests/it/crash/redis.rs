//! The web side dies over Redis, and Redis dies under the web side.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::backend::TlsFiles;
use common::event::EventSource;
use common::redis_pool::RedisPool;
use common::token_cache::{Expiry, RedisTokenCache, RedisTokenCacheOptions};
use producer::adapter::{AdapterSettings, TokenCacheAdapter};
use producer::simulate::Population;
use testkit::servers::{PrivateRedis, RedisOptions};
use testkit::wait_until;

use super::{Held, KILLS, WebSide};
use crate::rig::PATIENCE;

const OUTBOX: &str = "tokencache:outbox";

/// The id of an outbox entry, and its fields.
type Entry = (String, Vec<(String, Vec<u8>)>);

fn ask<T: redis::FromRedisValue>(redis: &PrivateRedis, words: &[&str]) -> T {
    redis.command(words).unwrap()
}

fn held(redis: &PrivateRedis) -> Held {
    let keys: Vec<String> = ask(redis, &["KEYS", "tokencache:*"]);
    let blobs = keys.iter().filter(|key| *key != OUTBOX).map(|key| key.replacen("tokencache:", "", 1)).collect();
    let entries: Vec<Entry> = ask(redis, &["XRANGE", OUTBOX, "-", "+"]);
    let events = entries.iter().map(|(_, fields)| Held::subject(&fields[0].1)).collect();
    Held { blobs, events }
}

fn events(redis: &PrivateRedis) -> u64 {
    ask(redis, &["XLEN", OUTBOX])
}

/// The connections of the web side: all but the one that asks.
fn connections(redis: &PrivateRedis) -> Vec<String> {
    let list: String = ask(redis, &["CLIENT", "LIST", "TYPE", "normal"]);
    list.lines().filter(|line| !line.contains("cmd=client")).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_web_side_dies_at_moments_of_chance() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    for seed in 0..KILLS {
        let before = events(&redis);
        let web = WebSide::start(&redis.url(), seed, 4);
        wait_until(PATIENCE, async || events(&redis) > before + seed * 3).await;
        web.kill9();
        wait_until(PATIENCE, async || connections(&redis).is_empty()).await;
        held(&redis).assert_whole(&format!("after kill {seed}"));
    }
    assert!(events(&redis) >= KILLS);
}

#[tokio::test]
async fn the_web_side_dies_between_sending_and_being_answered() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    for seed in 0..8 {
        let before = events(&redis);
        let web = WebSide::start(&redis.url(), seed, 4);
        wait_until(PATIENCE, async || events(&redis) > before).await;
        ask::<()>(&redis, &["CLIENT", "PAUSE", "600000", "WRITE"]);
        // The scripts are sent, and Redis has put them off.
        let is_put_off = |line: &String| line.contains("cmd=evalsha") && line.contains(" flags=b ");
        wait_until(PATIENCE, async || connections(&redis).iter().filter(|line| is_put_off(line)).count() == 4).await;
        web.kill9();
        ask::<()>(&redis, &["CLIENT", "UNPAUSE"]);
        wait_until(PATIENCE, async || connections(&redis).is_empty()).await;
        held(&redis).assert_whole(&format!("after kill {seed}"));
    }
}

#[tokio::test]
async fn the_web_side_dies_while_redis_stands_still() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    for seed in 0..8 {
        let before = events(&redis);
        let web = WebSide::start(&redis.url(), seed, 16);
        wait_until(PATIENCE, async || events(&redis) > before).await;
        redis.pause();
        web.kill9();
        redis.resume();
        wait_until(PATIENCE, async || connections(&redis).is_empty()).await;
        held(&redis).assert_whole(&format!("after kill {seed}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_dies_and_what_it_acknowledged_is_there_with_its_event() {
    let options =
        RedisOptions { appendonly: true, config_lines: vec!["appendfsync always".to_owned()], ..Default::default() };
    let mut redis = PrivateRedis::start(options).await;
    let pool = RedisPool::new(&redis.url().parse().unwrap(), &TlsFiles::default(), 8).unwrap();
    let store = RedisTokenCache::open(pool, RedisTokenCacheOptions::default()).await.unwrap();
    let settings = AdapterSettings::new(EventSource::new("/apps/test").unwrap());
    let adapter = TokenCacheAdapter::new(Arc::new(store), settings);
    let mut acknowledged = BTreeSet::new();
    for round in 0..5 {
        let before = events(&redis);
        let writers: Vec<_> =
            (0..4).map(|writer| tokio::spawn(write_until_it_fails(adapter.clone(), round * 4 + writer))).collect();
        wait_until(PATIENCE, async || events(&redis) > before + 20).await;
        redis.kill9();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        redis.start_again().await;
        let held = held(&redis);
        held.assert_whole(&format!("after crash {round}"));
        let lost: Vec<&String> = acknowledged.difference(&held.events).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
    assert!(acknowledged.len() > 50);
}

/// Says which keys were acknowledged.
async fn write_until_it_fails(adapter: TokenCacheAdapter, seed: u64) -> Vec<String> {
    let population = Population { seed, tenants: 3, access_token_lifetime: Duration::from_secs(3600) };
    let mut written = Vec::new();
    for number in 0.. {
        let user = population.user(number);
        let key = user.cache_key();
        let blob = population.blob(&user, 1_795_300_000);
        match adapter.write(&key, &blob, Expiry::default()).await {
            Ok(()) => written.push(key.as_str().to_owned()),
            // The first writes of a round may still meet the connections of the server that died.
            Err(_) if written.is_empty() => {}
            Err(_) => break,
        }
    }
    written
}
