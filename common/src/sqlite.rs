//! The embedded default: one SQLite file that any of the three ports may live in, alone or together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use crate::backend::{BackendError, ServerUrl, Trouble};

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

/// An open file: one writing connection, so that writers queue here and not in SQLite's busy loop, and a few readers.
#[derive(Debug, Clone)]
pub struct Database {
    address: String,
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Database {
    /// Opens the file of `url` (`sqlite://path`), making it where there is none. Each port then makes its own tables.
    ///
    /// # Errors
    /// [`BackendError`]: the path cannot be written, or the file is something else.
    pub async fn open(url: &ServerUrl) -> Result<Self, BackendError> {
        let path = path_of(url);
        let address = url.to_string();
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was acknowledged survives a power cut: an append confirms only what is on the disk.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let pool =
            |connections: u32| SqlitePoolOptions::new().max_connections(connections).acquire_timeout(BUSY_TIMEOUT * 3);
        let connect = || pool(1).connect_with(options.clone());
        let connected = connect.retry(pauses_at_opening()).when(is_busy).await;
        let writer = connected.map_err(|e| sqlite_error(&address, e))?;
        let readers = pool(READERS).connect_lazy_with(options);
        Ok(Self { address, writer, readers })
    }

    /// The address to show.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The connections for reading.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The one connection for writing, for statements that are a transaction by themselves.
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Begins a transaction that holds the write lock from the start.
    ///
    /// # Errors
    /// [`BackendError`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn begin(&self) -> Result<Transaction<'static, Sqlite>, BackendError> {
        let writer = self.writer.clone();
        // A begin that is dropped half way would leave the one writing connection inside a transaction that nobody
        // ends. As a task of its own it goes on, and the transaction it brings is rolled back by being dropped.
        let begun = tokio::spawn(async move { writer.begin_with("BEGIN IMMEDIATE").await });
        match begun.await {
            Ok(begun) => begun.map_err(|e| self.error(e)),
            Err(stopped) => {
                Err(BackendError::new(Trouble::Unavailable, &self.address, "the program is stopping", stopped))
            }
        }
    }

    /// Tells what an error of SQLite means for the caller.
    pub fn error(&self, error: sqlx::Error) -> BackendError {
        sqlite_error(&self.address, error)
    }
}

/// Who opens the file while somebody else makes or closes it is told that it is busy, and SQLite does not wait there,
/// since the two could wait for each other. Together these are about [`BUSY_TIMEOUT`].
fn pauses_at_opening() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(500))
        .with_max_times(25)
        .with_jitter()
}

fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(5)
}

fn path_of(url: &ServerUrl) -> PathBuf {
    let text = url.expose();
    let path = text.strip_prefix("sqlite://").unwrap_or(text);
    Path::new(path.split('?').next().unwrap_or(path)).to_path_buf()
}

fn sqlite_error(address: &str, error: sqlx::Error) -> BackendError {
    let (trouble, message) = meaning(&error);
    BackendError::new(trouble, address, message, error)
}

fn meaning(error: &sqlx::Error) -> (Trouble, &'static str) {
    use Trouble::{Corrupt, Refused, Unavailable};
    match primary_code(error) {
        Some(5 | 6) => (Unavailable, "another process holds the file; try again, or stop that process"),
        Some(13) => (Unavailable, "the disk is full; free some space, nothing is lost"),
        Some(10) => (Unavailable, "the disk failed to read or write; look at the machine's disk"),
        Some(14) => (Refused, "the file cannot be opened; check that its folder exists and may be written"),
        Some(8 | 3) => (Refused, "the file may not be written; check its permissions"),
        Some(11 | 26) => {
            (Corrupt, "the file is not an SQLite database, or is damaged; restore it or name another file")
        }
        Some(1) => (Corrupt, "the file holds tables of another kind; name another file"),
        _ if matches!(error, sqlx::Error::PoolTimedOut) => (Unavailable, "the file is busy; try again"),
        _ => (Unavailable, "SQLite failed"),
    }
}

/// The result code without its extension, see <https://www.sqlite.org/rescode.html>.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_others_make_and_close_at_the_same_time_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        for file in 0..20 {
            let url: ServerUrl = format!("sqlite://{}/{file}.sqlite", folder.path().display()).parse().unwrap();
            let mut opening = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let url = url.clone();
                opening.spawn(async move { Database::open(&url).await.map(drop) });
            }
            for opened in opening.join_all().await {
                opened.unwrap();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_begin_that_is_dropped_half_way_leaves_the_writer_free() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("all.sqlite").display());
        let database = Database::open(&url.parse().unwrap()).await.unwrap();
        for round in 0..400 {
            let patience = Duration::from_micros(round % 100 * 5);
            drop(timeout(patience, database.begin()).await);
        }
        database.begin().await.unwrap().commit().await.unwrap();
    }
}
