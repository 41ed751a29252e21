//! The index in SQLite files, whole and broken.

use std::path::Path;
use std::sync::Arc;

use common::backend::{BackendError, ServerUrl, Trouble};
use common::index::{ActivityStore as _, Checkpoint, Claims as _, ListError, Schedule, SqliteIndex};
use common::sqlite::Database;
use tempfile::TempDir;
use testkit::conformance::index::{TestIndex, assert_is_fold_of, run_all};

use super::{changes, list_all, some_events};

fn url(path: &Path) -> ServerUrl {
    format!("sqlite://{}", path.display()).parse().unwrap()
}

async fn open(path: &Path) -> Result<SqliteIndex, BackendError> {
    SqliteIndex::open(Database::open(&url(path)).await?).await
}

async fn fresh() -> TestIndex {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index.sqlite");
    let (store, other) = (open(&path).await.unwrap(), open(&path).await.unwrap());
    TestIndex {
        store: Arc::new(store.clone()),
        other: Arc::new(other),
        generations: Arc::new(store),
        keeps: Box::new(folder),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_index_conforms() {
    run_all(fresh).await;
}

#[tokio::test]
async fn a_file_that_is_something_else_is_said_so() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("garbage");
    std::fs::write(&path, "garbage ".repeat(1000)).unwrap();
    let error = open(&path).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Corrupt);
    assert!(error.to_string().contains("garbage: the file is not an SQLite database"), "{error}");
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_said_so() {
    let folder = TempDir::new().unwrap();
    let error = open(&folder.path().join("missing/index.sqlite")).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused);
    assert!(error.to_string().ends_with("check that its folder exists and may be written"), "{error}");
}

#[tokio::test]
async fn a_file_that_may_not_be_written_is_said_so() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index.sqlite");
    run_sql(&path, "CREATE TABLE t (x)").await;
    // The file format's write version: one that is not known makes the file read-only, for root too.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[18] = 9;
    std::fs::write(&path, bytes).unwrap();
    let error = open(&path).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused, "{error:?}");
    assert!(error.to_string().ends_with("the file may not be written; check its permissions"), "{error}");
}

#[tokio::test]
async fn an_index_of_another_format_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index.sqlite");
    open(&path).await.unwrap();
    run_sql(&path, "UPDATE activity_index SET format = 9").await;
    let error = open(&path).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused);
    assert!(error.to_string().contains("has format 9 and this version reads format 3"), "{error}");
}

#[tokio::test]
async fn a_file_of_before_schedules_had_reasons_goes_on() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index.sqlite");
    open(&path).await.unwrap();
    run_sql(&path, "ALTER TABLE activity_index_schedules DROP COLUMN reason").await;
    let store = open(&path).await.unwrap();
    let schedule = Schedule { at: "2026-11-22T10:00:00Z".parse().unwrap(), reason: "export".parse().ok() };
    store.schedule(&"uid.utid".parse().unwrap(), Some(&schedule)).await.unwrap();
}

#[tokio::test]
async fn tables_of_another_kind_are_said_so() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index.sqlite");
    run_sql(&path, "CREATE TABLE activity_index_accounts (x)").await;
    let error = open(&path).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Corrupt);
    assert!(error.to_string().contains("tables of another kind"), "{error}");
}

#[tokio::test]
async fn a_damaged_record_is_an_error_and_never_a_guess() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index.sqlite");
    let store = open(&path).await.unwrap();
    let events = some_events();
    store.apply(&changes(&events)).await.unwrap();
    run_sql(&path, "UPDATE activity_index_accounts SET record = x'09ff'").await;
    let error = store.get(&events[0].subject).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Corrupt);
    assert_eq!(error.source.unwrap().to_string(), "the record has format 9; this version reads format 1");
    assert_eq!(store.apply(&changes(&events)).await.unwrap_err().trouble, Trouble::Corrupt);
    assert!(matches!(list_all(&store).await, Err(ListError::Backend(error)) if error.trouble == Trouble::Corrupt));
}

#[tokio::test]
async fn what_was_applied_is_there_when_the_file_is_opened_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index.sqlite");
    let events = some_events();
    let store = open(&path).await.unwrap();
    store.apply(&changes(&events)).await.unwrap();
    store.store_checkpoint(0, Checkpoint::at(7)).await.unwrap();
    drop(store);
    let store = open(&path).await.unwrap();
    assert_is_fold_of(&store, &events).await;
    assert_eq!(store.checkpoint(0).await.unwrap(), Some(Checkpoint::at(7)));
}

/// As another program would.
async fn run_sql(path: &Path, sql: &'static str) {
    let database = Database::open(&url(path)).await.unwrap();
    sqlx::raw_sql(sql).execute(database.writer()).await.unwrap();
    database.writer().close().await;
}
