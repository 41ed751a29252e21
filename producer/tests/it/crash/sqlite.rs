//! The web side dies over the embedded store.

use std::path::PathBuf;
use std::time::Duration;

use common::sqlite::Database;
use common::token_cache::{SqliteTokenCache, SqliteTokenCacheOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;
use testkit::wait_until;

use super::{Held, KILLS, WebSide};
use crate::rig::PATIENCE;

struct File {
    path: PathBuf,
    url: String,
    database: Database,
    _folder: TempDir,
}

impl File {
    async fn fresh() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("cache.db");
        let url = format!("sqlite://{}", path.display());
        let database = Database::open(&url.parse().unwrap()).await.unwrap();
        SqliteTokenCache::open(database.clone(), SqliteTokenCacheOptions::default()).await.unwrap();
        Self { path, url, database, _folder: folder }
    }

    async fn held(&self) -> Held {
        let mut transaction = self.database.readers().begin().await.unwrap();
        let blobs = sqlx::query_scalar("SELECT cache_key FROM token_cache").fetch_all(&mut *transaction).await.unwrap();
        let drafts: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT draft FROM token_outbox").fetch_all(&mut *transaction).await.unwrap();
        let events = drafts.iter().map(|draft| Held::subject(draft)).collect();
        Held { blobs: blobs.into_iter().collect(), events }
    }

    async fn events(&self) -> u64 {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM token_outbox").fetch_one(self.database.readers()).await.unwrap();
        count.unsigned_abs()
    }

    async fn execute(&self, statement: &str) {
        sqlx::query(statement).execute(self.database.writer()).await.unwrap();
    }

    /// Whether somebody else is in the middle of a transaction that writes.
    async fn is_being_written(&self) -> bool {
        let options = SqliteConnectOptions::new().filename(&self.path).busy_timeout(Duration::ZERO);
        let mut connection: SqliteConnection = options.connect().await.unwrap();
        let begun = sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await;
        connection.close().await.unwrap();
        begun.is_err()
    }
}

#[tokio::test]
async fn the_web_side_dies_at_moments_of_chance() {
    let file = File::fresh().await;
    for seed in 0..KILLS {
        let before = file.events().await;
        let web = WebSide::start(&file.url, seed, 4);
        wait_until(PATIENCE, async || file.events().await > before + seed % 8).await;
        web.kill9();
        file.held().await.assert_whole(&format!("after kill {seed}"));
    }
    assert!(file.events().await >= KILLS);
}

#[tokio::test]
async fn the_web_side_dies_between_any_two_steps_of_the_transaction() {
    let file = File::fresh().await;
    // Counting this far takes longer than the test waits, so the transaction stands still at the trigger.
    let count = "CREATE VIEW standstill AS
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000000000) SELECT max(i) FROM n";
    file.execute(count).await;
    let steps = [
        "BEFORE INSERT ON token_cache",
        "AFTER INSERT ON token_cache",
        "BEFORE INSERT ON token_outbox_clock",
        "BEFORE INSERT ON token_outbox",
        "AFTER INSERT ON token_outbox",
    ];
    for (seed, step) in (100..).zip(steps) {
        file.execute(&format!("CREATE TRIGGER stop {step} BEGIN SELECT * FROM standstill; END")).await;
        let web = WebSide::start(&file.url, seed, 1);
        wait_until(PATIENCE, async || file.is_being_written().await).await;
        web.kill9();
        file.execute("DROP TRIGGER stop").await;
        assert_eq!(file.held().await, Held::default(), "nothing of a write that died {step}");
    }
    let web = WebSide::start(&file.url, 200, 1);
    wait_until(PATIENCE, async || file.events().await > 3).await;
    web.kill9();
    file.held().await.assert_whole("and the file is as good as before");
}
