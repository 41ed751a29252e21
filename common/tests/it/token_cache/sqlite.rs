//! The embedded token cache.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::account::CacheKey;
use common::backend::Trouble;
use common::event::{AccountHint, Activity, EventDraft, EventSource};
use common::sqlite::Database;
use common::token_cache::{
    CacheWrite, EntryId, Expiry, Outbox, Precondition, SqliteTokenCache, SqliteTokenCacheOptions, TokenCacheStore,
};
use jiff::Timestamp;
use tempfile::TempDir;
use testkit::conformance::token_cache::{Cache, TokenCacheUnderTest, run_all};

pub(super) struct OnSqlite(pub(super) TempDir);

#[async_trait]
impl TokenCacheUnderTest for OnSqlite {
    async fn open(&self, name: &str) -> Arc<dyn Cache> {
        Arc::new(open(self.0.path(), name).await)
    }
}

async fn database(folder: &Path, name: &str) -> Database {
    let url = format!("sqlite://{}/{name}.db", folder.display()).parse().unwrap();
    Database::open(&url).await.unwrap()
}

async fn open(folder: &Path, name: &str) -> SqliteTokenCache {
    SqliteTokenCache::open(database(folder, name).await, SqliteTokenCacheOptions::default()).await.unwrap()
}

fn draft() -> EventDraft {
    let source = EventSource::new("/apps/test").unwrap();
    EventDraft::new(source, CacheKey::new("key").unwrap(), Activity::Removed(AccountHint::default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_token_cache_conforms() {
    run_all(&OnSqlite(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn the_time_goes_on_from_the_last_event_also_when_that_was_forgotten_and_the_clock_was_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), "clock").await;
    let ahead = Timestamp::now().as_microsecond() + 3_600_000_000;
    let database = database(folder.path(), "clock").await;
    let set_ahead = format!("INSERT INTO token_outbox_clock (only_row, last_us) VALUES (1, {ahead})");
    sqlx::query(&set_ahead).execute(database.writer()).await.unwrap();
    for next in 1..=3 {
        cache.append(&draft()).await.unwrap();
        let taken = cache.take(1, Duration::from_secs(60), Duration::ZERO).await.unwrap();
        assert_eq!(taken[0].event.time().as_microsecond(), ahead + next);
        cache.confirm(&[taken[0].id.clone()]).await.unwrap();
        sqlx::query("DELETE FROM token_outbox").execute(database.writer()).await.unwrap();
    }
}

#[tokio::test]
async fn an_entry_that_is_no_event_is_set_aside_and_the_rest_flows_on() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), "refused").await;
    let database = database(folder.path(), "refused").await;
    for time in 1..=3 {
        let garbage = "INSERT INTO token_outbox (time_us, draft) VALUES (?1, x'00ff')";
        sqlx::query(garbage).bind(time).execute(database.writer()).await.unwrap();
    }
    cache.append(&draft()).await.unwrap();
    let taken = cache.take(2, Duration::from_secs(60), Duration::ZERO).await.unwrap();
    assert_eq!(taken.len(), 1, "a batch of nothing but garbage is followed by the next");
    let backlog = cache.backlog().await.unwrap();
    assert_eq!((backlog.refused, backlog.unconfirmed, backlog.kept), (3, 1, 1));
    let kept: Vec<u8> = sqlx::query_scalar("SELECT draft FROM token_outbox_refused WHERE time_us = 2")
        .fetch_one(database.readers())
        .await
        .unwrap();
    assert_eq!(kept, [0x00, 0xff], "it is kept as it was");
}

#[tokio::test]
async fn expired_blobs_are_deleted_when_the_outbox_is_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), "purge").await;
    let key = CacheKey::new("key").unwrap();
    let expiry = Expiry { absolute: Some(Timestamp::now()), sliding: None };
    let write = CacheWrite {
        key: &key,
        blob: b"x",
        expiry: expiry.into(),
        precondition: Precondition::None,
        event: None,
        fence: None,
    };
    cache.write(write).await.unwrap();
    cache.trim(Duration::ZERO).await.unwrap();
    let database = database(folder.path(), "purge").await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM token_cache").fetch_one(database.readers()).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn an_id_of_another_outbox_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), "ids").await;
    let error = cache.confirm(&[EntryId::new("1795400000000000-0")]).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Corrupt);
}
