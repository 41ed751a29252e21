//! The generations of the index in an SQLite file: which there are, and how one is deleted.

use sqlx::SqliteConnection;

use super::SqliteGeneration;
use crate::backend::{BackendError, Trouble};
use crate::index::live::Generational;
use crate::index::{DuePolicy, Generations};
use crate::sqlite::Database;

/// Rows that are deleted before other writers are let in.
const STEP: i64 = 500;
const TABLES: [&str; 4] =
    ["activity_index_accounts", "activity_index_counts", "activity_index_checkpoints", "activity_index_due_policies"];
const KEYS: [&str; 4] = ["cache_key", "tenant_id, state", "partition", "generation"];

/// All generations of one file.
#[derive(Debug, Clone)]
pub struct SqliteGenerations {
    database: Database,
}

/// A generation's number, which SQLite gives wider than it is.
pub(super) fn number(stored: i64) -> u32 {
    u32::try_from(stored).unwrap_or_default()
}

impl SqliteGenerations {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    async fn stored(&self, connection: &mut SqliteConnection) -> Result<Generations, BackendError> {
        let row: (i64, Option<String>) = sqlx::query_as(
            "SELECT generation, (SELECT generations FROM activity_index_generations) FROM activity_index",
        )
        .fetch_one(connection)
        .await
        .map_err(|e| self.database.error(e))?;
        let (live, Some(text)) = row else { return Ok(Generations::only(number(row.0))) };
        let unreadable = "the generations of the index cannot be read";
        let generations: Generations = serde_json::from_str(&text)
            .map_err(|e| BackendError::new(Trouble::Corrupt, self.database.address(), unreadable, e))?;
        Ok(Generations { live: number(live), ..generations })
    }

    async fn write(&self, connection: &mut SqliteConnection, to: &Generations) -> Result<(), BackendError> {
        let unwritable = |e| BackendError::new(Trouble::Refused, self.database.address(), "cannot be written", e);
        let text = serde_json::to_string(to).map_err(unwritable)?;
        let error = |e| self.database.error(e);
        sqlx::query("INSERT OR REPLACE INTO activity_index_generations VALUES (1, ?)")
            .bind(text)
            .execute(&mut *connection)
            .await
            .map_err(error)?;
        let live = "UPDATE activity_index SET generation = ?";
        sqlx::query(live).bind(to.live).execute(connection).await.map_err(error)?;
        Ok(())
    }
}

impl Generational for SqliteGenerations {
    type Generation = SqliteGeneration;

    fn at(&self, number: u32) -> SqliteGeneration {
        SqliteGeneration { database: self.database.clone(), generation: i64::from(number) }
    }

    async fn live(&self) -> Result<u32, BackendError> {
        let live = sqlx::query_scalar("SELECT generation FROM activity_index").fetch_one(self.database.readers()).await;
        live.map(number).map_err(|e| self.database.error(e))
    }

    async fn read(&self) -> Result<Generations, BackendError> {
        let mut connection = self.database.readers().acquire().await.map_err(|e| self.database.error(e))?;
        self.stored(&mut connection).await
    }

    async fn change(&self, from: &Generations, to: &Generations) -> Result<bool, BackendError> {
        let mut transaction = self.database.begin().await?;
        if self.stored(&mut transaction).await? != *from {
            return Ok(false);
        }
        self.write(&mut transaction, to).await?;
        transaction.commit().await.map_err(|e| self.database.error(e))?;
        Ok(true)
    }

    async fn due_policy(&self, number: u32, wanted: &DuePolicy) -> Result<DuePolicy, BackendError> {
        self.at(number).policy(wanted).await
    }

    /// First it is marked, so that nothing is written to it any more. The mark stays.
    async fn delete(&self, number: u32) -> Result<(), BackendError> {
        let error = |e| self.database.error(e);
        let writer = self.database.writer();
        let mark = "INSERT OR IGNORE INTO activity_index_dropped VALUES (?)";
        sqlx::query(mark).bind(number).execute(writer).await.map_err(error)?;
        for (table, key) in TABLES.into_iter().zip(KEYS) {
            let delete = format!(
                "DELETE FROM {table} WHERE generation = ?1 AND ({key}) IN \
                 (SELECT {key} FROM {table} WHERE generation = ?1 LIMIT {STEP})"
            );
            while sqlx::query(&delete).bind(number).execute(writer).await.map_err(error)?.rows_affected() > 0 {}
        }
        Ok(())
    }

    fn address(&self) -> &str {
        self.database.address()
    }
}
