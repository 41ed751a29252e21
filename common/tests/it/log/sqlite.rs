//! The embedded log.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::backend::{ServerUrl, Trouble};
use common::event::EncodedEvents;
use common::log::{ActivityLog, Bounds, DeadLetters, LogError, Position, SqliteLog};
use common::sqlite::Database;
use testkit::conformance::log::{self, LogUnderTest, sample_events};

const PATIENCE: Duration = Duration::from_secs(10);

struct OnSqlite(SqliteLog);

#[async_trait]
impl LogUnderTest for OnSqlite {
    fn log(&self) -> Arc<dyn ActivityLog> {
        Arc::new(self.0.clone())
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(self.0.clone())
    }

    async fn append_raw(&self, partition: u32, content_type: &'static str, body: &[u8]) {
        let body = EncodedEvents { content_type, body: body.to_vec(), events: 1 };
        self.0.append_bodies(partition, &[body]).await.unwrap();
    }
}

async fn open(folder: &Path, partitions: u32) -> SqliteLog {
    let url: ServerUrl = format!("sqlite://{}/log.db", folder.display()).parse().unwrap();
    SqliteLog::open(Database::open(&url).await.unwrap(), partitions).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_log_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), log::PARTITIONS).await;
    log::run_all(&OnSqlite(log)).await;
}

#[tokio::test]
async fn two_handles_on_one_file_are_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (open(folder.path(), 1).await, open(folder.path(), 1).await);
    let mut reader = here.read(0, Position::First).await.unwrap();
    let events = sample_events(2);
    for event in &events {
        let began = Instant::now();
        there.append(0, std::slice::from_ref(event)).await.unwrap();
        let messages = reader.next(10, PATIENCE).await.unwrap();
        assert_eq!(messages[0].events, [Ok(event.clone())]);
        assert!(began.elapsed() < Duration::from_secs(2), "another handle's append is seen by polling");
    }
    let (mine, yours) = tokio::join!(here.append(0, &events), there.append(0, &events));
    mine.unwrap();
    yours.unwrap();
    assert_eq!(here.bounds(0).await.unwrap(), Bounds { first: 0, next: 4 });
}

#[tokio::test]
async fn partitions_grow_and_never_shrink() {
    let folder = tempfile::tempdir().unwrap();
    let one = open(folder.path(), 1).await;
    let three = open(folder.path(), 3).await;
    assert_eq!(one.partitions().await.unwrap(), 3, "an open handle sees those another one made");
    three.append(2, &sample_events(1)).await.unwrap();
    assert_eq!(open(folder.path(), 0).await.partitions().await.unwrap(), 3);
}

#[tokio::test]
async fn offsets_go_on_after_a_trim_and_what_was_cut_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 1).await;
    let mut behind = log.read(0, Position::First).await.unwrap();
    for event in sample_events(3) {
        log.append(0, &[event]).await.unwrap();
    }
    assert_eq!(log.trim(Duration::from_secs(60)).await.unwrap(), 0, "nothing is that old");
    assert_eq!(log.trim(Duration::ZERO).await.unwrap(), 3);
    assert_eq!(log.bounds(0).await.unwrap(), Bounds { first: 3, next: 3 });

    let error = behind.next(1, PATIENCE).await.unwrap_err();
    assert!(matches!(error, LogError::Gap { asked: 0, first: 3, next: 3, .. }), "{error}");
    let error = log.read(0, Position::Offset(2)).await.err().unwrap();
    assert!(matches!(error, LogError::Gap { asked: 2, .. }), "{error}");

    let reopened = open(folder.path(), 1).await;
    let mut reader = reopened.read(0, Position::Offset(3)).await.unwrap();
    reopened.append(0, &sample_events(1)).await.unwrap();
    assert_eq!(reader.next(1, PATIENCE).await.unwrap()[0].offset, 3);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    std::fs::write(&path, "this is a letter to my aunt and no database at all\n".repeat(99)).unwrap();
    let url: ServerUrl = format!("sqlite://{}", path.display()).parse().unwrap();
    let error = match Database::open(&url).await {
        Ok(database) => SqliteLog::open(database, 1).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.trouble, Trouble::Corrupt);
}

#[tokio::test]
async fn every_process_that_appends_keeps_to_the_retention_that_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 1).await;
    assert_eq!(log.retention().await.unwrap(), None, "it keeps everything until it is told");
    log.append(0, &sample_events(1)).await.unwrap();
    log.append(0, &sample_events(1)).await.unwrap();
    let url: ServerUrl = format!("sqlite://{}/log.db", folder.path().display()).parse().unwrap();
    let database = Database::open(&url).await.unwrap();
    let age = async |offset: i64| {
        let older = "UPDATE log_message SET arrived_at = arrived_at - 7200000000 WHERE message_offset = ?";
        sqlx::query(older).bind(offset).execute(database.writer()).await.unwrap();
    };
    age(0).await;
    let hour = Duration::from_secs(3_600);
    log.set_retention(hour).await.unwrap();
    assert_eq!(log.bounds(0).await.unwrap(), Bounds { first: 1, next: 2 }, "what is older goes at once");

    let other = open(folder.path(), 1).await;
    assert_eq!(other.retention().await.unwrap(), Some(hour));
    age(1).await;
    other.append(0, &sample_events(1)).await.unwrap();
    assert_eq!(log.bounds(0).await.unwrap(), Bounds { first: 2, next: 3 });
}
