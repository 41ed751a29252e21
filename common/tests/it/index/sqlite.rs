//! The index in SQLite files, whole and broken.

use std::path::Path;
use std::sync::Arc;

use common::backend::{BackendError, ServerUrl, Trouble};
use common::index::SqliteIndex;
use common::sqlite::Database;
use tempfile::TempDir;
use testkit::conformance::index::{TestIndex, run_all};

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
    TestIndex { store: Arc::new(store), other: Arc::new(other), keeps: Box::new(folder) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_index_conforms() {
    run_all(fresh).await;
}
