//! The embedded token cache: blobs and outbox as tables of one SQLite file.
//!
//! | table | holds |
//! |---|---|
//! | `token_cache` | a blob per cache key, with its expiry |
//! | `token_outbox` | the events not yet forgotten, by their time in microseconds |
//! | `token_outbox_clock` | the time of the newest event, also when the event is forgotten |
//! | `token_outbox_refused` | what stood in the outbox and is no event |
//! | `token_refresh_lock` | who refreshes a blob just now, and until when |
//! | `token_cache_fences` | the highest fence that has written a blob lately, and until when it is remembered |
//!
//! All times are microseconds since the Unix epoch. A blob and its event are written in one transaction that holds
//! SQLite's write lock from the start, so events get their times in the order of the commits.

mod blobs;
mod clock;
mod erasure;
mod fence;
mod outbox;
mod refresh_lock;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Sqlite, Transaction};
use tokio::sync::Notify;

use crate::backend::BackendError;
use crate::sqlite::Database;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS token_cache (
    cache_key TEXT PRIMARY KEY,
    blob BLOB NOT NULL,
    absolute_us INTEGER,
    sliding_us INTEGER,
    expires_us INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS token_cache_expiry ON token_cache (expires_us) WHERE expires_us IS NOT NULL;
CREATE TABLE IF NOT EXISTS token_outbox (
    time_us INTEGER PRIMARY KEY,
    draft BLOB NOT NULL,
    taken_until_us INTEGER NOT NULL DEFAULT 0,
    is_confirmed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS token_outbox_unconfirmed ON token_outbox (time_us) WHERE is_confirmed = 0;
CREATE TABLE IF NOT EXISTS token_outbox_clock (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    last_us INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS token_outbox_refused (
    time_us INTEGER PRIMARY KEY,
    draft BLOB NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS token_refresh_lock (
    cache_key TEXT PRIMARY KEY,
    permit TEXT NOT NULL,
    until_us INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS token_cache_fences (
    cache_key TEXT PRIMARY KEY,
    fence INTEGER NOT NULL,
    until_us INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS token_cache_fences_expiry ON token_cache_fences (until_us);
";

/// How a [`SqliteTokenCache`] behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteTokenCacheOptions {
    /// How often a waiting [`take`](super::Outbox::take) looks for events that another process wrote. Those of this
    /// process wake it at once.
    pub poll_interval: Duration,
}

impl Default for SqliteTokenCacheOptions {
    /// 50 ms.
    fn default() -> Self {
        Self { poll_interval: Duration::from_millis(50) }
    }
}

/// A [`TokenCacheStore`](super::TokenCacheStore) with its [`Outbox`](super::Outbox) in an SQLite file. Clones share
/// the file, and wake each other.
#[derive(Debug, Clone)]
pub struct SqliteTokenCache {
    database: Database,
    options: SqliteTokenCacheOptions,
    appended: Arc<Notify>,
}

impl SqliteTokenCache {
    /// Makes the tables in `database` where they are missing.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn open(database: Database, options: SqliteTokenCacheOptions) -> Result<Self, BackendError> {
        sqlx::raw_sql(SCHEMA).execute(database.writer()).await.map_err(|e| database.error(e))?;
        Ok(Self { database, options, appended: Arc::new(Notify::new()) })
    }

    fn error(&self, error: sqlx::Error) -> BackendError {
        self.database.error(error)
    }

    /// Commits, and wakes those who wait for an event where one was appended.
    async fn commit(&self, transaction: Transaction<'static, Sqlite>, has_event: bool) -> Result<(), BackendError> {
        transaction.commit().await.map_err(|e| self.error(e))?;
        if has_event {
            self.appended.notify_waiters();
        }
        Ok(())
    }
}
