//! The index in an SQLite file.
//!
//! | table | rows |
//! |---|---|
//! | `activity_index` | one: the format, the live generation, when it was made |
//! | `activity_index_generations` | one, once there was another generation: JSON of [`super::Generations`] |
//! | `activity_index_accounts` | per generation and cache key the record; of listed accounts also what lists are ordered and narrowed by, and when they will be due |
//! | `activity_index_counts` | per generation, tenant (`''`: all accounts) and state the number of accounts |
//! | `activity_index_checkpoints` | per generation and partition the next offset to read, the newest event and the digest of the message before it |
//! | `activity_index_due_policies` | per generation the JSON of its [`super::DuePolicy`] |
//! | `activity_index_dropped` | the generations that were deleted: nothing is written to them any more |
//! | `activity_index_holds` | per cache key that is claimed, backs off or settles: until when, the fence, the failures in a row, the worker (`''`: none), the tenant |
//! | `activity_index_schedules` | per cache key when a job wants it, and when to look at that |
//! | `activity_index_pauses`, `activity_index_turns` | per tenant until when it is left alone, and when accounts of it were claimed |
//! | `activity_index_rates` | per tenant (after `:`), and for all (`''`), from when on the next claim counts |
//! | `activity_index_fence` | one, once something was claimed: the highest fencing token that was given |
//! | `activity_index_members` | the projectors that are here, and until when |
//! | `activity_index_leases` | per partition the projector that follows it, and until when |

mod claims;
mod due;
mod generation;
mod generations;
mod holds;
mod leases;

use self::generation::SqliteGeneration;
use self::generations::SqliteGenerations;
pub use self::leases::SqlitePartitionLeases;
use super::live::LiveIndex;
use crate::backend::{BackendError, Trouble};
use crate::sqlite::Database;

const FORMAT: i64 = 3;

const META: &str = "
    CREATE TABLE IF NOT EXISTS activity_index (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        format INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        created_at TEXT NOT NULL
    );
    INSERT OR IGNORE INTO activity_index VALUES (1, 3, 1, strftime('%Y-%m-%dT%H:%M:%fZ'));";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS activity_index_accounts (
        generation INTEGER NOT NULL,
        cache_key TEXT NOT NULL,
        record BLOB NOT NULL,
        last_activity INTEGER,
        tenant_id TEXT,
        client_id TEXT,
        state INTEGER NOT NULL,
        username TEXT,
        due_at INTEGER,
        PRIMARY KEY (generation, cache_key)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS activity_index_by_activity
        ON activity_index_accounts (generation, last_activity, cache_key) WHERE last_activity IS NOT NULL;
    CREATE INDEX IF NOT EXISTS activity_index_by_tenant
        ON activity_index_accounts (generation, tenant_id, last_activity, cache_key) WHERE last_activity IS NOT NULL;
    CREATE INDEX IF NOT EXISTS activity_index_by_client
        ON activity_index_accounts (generation, client_id, last_activity, cache_key)
        WHERE last_activity IS NOT NULL AND client_id IS NOT NULL;
    CREATE INDEX IF NOT EXISTS activity_index_by_state
        ON activity_index_accounts (generation, state, last_activity, cache_key)
        WHERE last_activity IS NOT NULL AND state <> 0;
    CREATE INDEX IF NOT EXISTS activity_index_by_tenant_state
        ON activity_index_accounts (generation, tenant_id, state, last_activity, cache_key)
        WHERE last_activity IS NOT NULL AND state <> 0;
    CREATE INDEX IF NOT EXISTS activity_index_by_username
        ON activity_index_accounts (generation, username, last_activity, cache_key)
        WHERE last_activity IS NOT NULL AND username IS NOT NULL;
    CREATE INDEX IF NOT EXISTS activity_index_by_due
        ON activity_index_accounts (generation, due_at, cache_key) WHERE due_at IS NOT NULL;
    CREATE INDEX IF NOT EXISTS activity_index_by_tenant_due
        ON activity_index_accounts (generation, tenant_id, due_at, cache_key) WHERE due_at IS NOT NULL;
    CREATE TABLE IF NOT EXISTS activity_index_due_policies (generation INTEGER PRIMARY KEY, policy TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS activity_index_counts (
        generation INTEGER NOT NULL,
        tenant_id TEXT NOT NULL,
        state INTEGER NOT NULL,
        accounts INTEGER NOT NULL,
        PRIMARY KEY (generation, tenant_id, state)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS activity_index_checkpoints (
        generation INTEGER NOT NULL,
        partition INTEGER NOT NULL,
        next_offset INTEGER NOT NULL,
        newest_event INTEGER,
        last_message TEXT,
        PRIMARY KEY (generation, partition)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS activity_index_generations (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        generations TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS activity_index_dropped (generation INTEGER PRIMARY KEY);";

/// The activity index in an SQLite file.
pub type SqliteIndex = LiveIndex<SqliteGenerations>;

impl SqliteIndex {
    /// Opens the index of `database`, making its tables where there are none.
    ///
    /// # Errors
    /// [`BackendError`]: [`Trouble::Refused`] where a version with another format made the index.
    pub async fn open(database: Database) -> Result<Self, BackendError> {
        let live = open(&database).await?;
        Ok(Self::new(SqliteGenerations::new(database), generations::number(live)))
    }
}

async fn open(database: &Database) -> Result<i64, BackendError> {
    let mut transaction = database.begin().await?;
    let error = |e| database.error(e);
    sqlx::raw_sql(META).execute(&mut *transaction).await.map_err(error)?;
    let (format, generation): (i64, i64) = sqlx::query_as("SELECT format, generation FROM activity_index")
        .fetch_one(&mut *transaction)
        .await
        .map_err(error)?;
    if format != FORMAT {
        let message = format!(
            "the index has format {format} and this version reads format {FORMAT}; name another file, or rebuild the index there"
        );
        return Err(BackendError::plain(Trouble::Refused, database.address(), message));
    }
    sqlx::raw_sql(TABLES).execute(&mut *transaction).await.map_err(error)?;
    sqlx::raw_sql(claims::TABLES).execute(&mut *transaction).await.map_err(error)?;
    claims::add_reasons(&mut transaction).await.map_err(error)?;
    transaction.commit().await.map_err(error)?;
    Ok(generation)
}
