//! Leases of partitions in an SQLite file, by the clock of the machine that all who share the file are on.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use crate::backend::BackendError;
use crate::index::{LeaseView, MemberId, PartitionLeases};
use crate::sqlite::Database;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS activity_index_members (
        member TEXT PRIMARY KEY,
        until_us INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS activity_index_leases (
        partition INTEGER PRIMARY KEY,
        holder TEXT NOT NULL,
        until_us INTEGER NOT NULL
    );";

const ACQUIRE: &str = "
    INSERT INTO activity_index_leases VALUES (?1, ?2, ?3)
    ON CONFLICT (partition) DO UPDATE SET holder = excluded.holder, until_us = excluded.until_us
    WHERE activity_index_leases.until_us <= ?4";

/// The leases beside the index of one file.
#[derive(Debug, Clone)]
pub struct SqlitePartitionLeases {
    database: Database,
}

impl SqlitePartitionLeases {
    /// The leases of `database`, making the tables where there are none.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn open(database: Database) -> Result<Self, BackendError> {
        let mut transaction = database.begin().await?;
        sqlx::raw_sql(TABLES).execute(&mut *transaction).await.map_err(|e| database.error(e))?;
        transaction.commit().await.map_err(|e| database.error(e))?;
        Ok(Self { database })
    }

    async fn commit(&self, transaction: Transaction<'static, Sqlite>) -> Result<(), BackendError> {
        transaction.commit().await.map_err(|e| self.database.error(e))
    }
}

#[async_trait]
impl PartitionLeases for SqlitePartitionLeases {
    async fn announce(&self, member: &MemberId, hold: Duration) -> Result<LeaseView, BackendError> {
        let mut transaction = self.database.begin().await?;
        let view = announce(&mut transaction, member, hold).await.map_err(|e| self.database.error(e))?;
        self.commit(transaction).await?;
        Ok(view)
    }

    async fn acquire(
        &self,
        member: &MemberId,
        partitions: &[u32],
        most: usize,
        hold: Duration,
    ) -> Result<BTreeSet<u32>, BackendError> {
        let mut transaction = self.database.begin().await?;
        let (now, until) = from_now(hold);
        let mut taken = BTreeSet::new();
        for partition in partitions {
            if taken.len() == most {
                break;
            }
            let asked = sqlx::query(ACQUIRE).bind(partition).bind(member.as_str()).bind(until).bind(now);
            let done = asked.execute(&mut *transaction).await.map_err(|e| self.database.error(e))?;
            if done.rows_affected() > 0 {
                taken.insert(*partition);
            }
        }
        self.commit(transaction).await?;
        Ok(taken)
    }

    async fn release(&self, member: &MemberId, partitions: &BTreeSet<u32>) -> Result<(), BackendError> {
        let mut transaction = self.database.begin().await?;
        for partition in partitions {
            sqlx::query("DELETE FROM activity_index_leases WHERE partition = ? AND holder = ?")
                .bind(partition)
                .bind(member.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(|e| self.database.error(e))?;
        }
        self.commit(transaction).await
    }

    async fn leave(&self, member: &MemberId) -> Result<(), BackendError> {
        let mut transaction = self.database.begin().await?;
        for delete in [
            "DELETE FROM activity_index_leases WHERE holder = ?",
            "DELETE FROM activity_index_members WHERE member = ?",
        ] {
            let done = sqlx::query(delete).bind(member.as_str()).execute(&mut *transaction).await;
            done.map_err(|e| self.database.error(e))?;
        }
        self.commit(transaction).await
    }
}

async fn announce(
    connection: &mut SqliteConnection,
    member: &MemberId,
    hold: Duration,
) -> Result<LeaseView, sqlx::Error> {
    let (now, until) = from_now(hold);
    let forget = "DELETE FROM activity_index_members WHERE until_us <= ?";
    sqlx::query(forget).bind(now).execute(&mut *connection).await?;
    let note = "INSERT OR REPLACE INTO activity_index_members VALUES (?, ?)";
    sqlx::query(note).bind(member.as_str()).bind(until).execute(&mut *connection).await?;
    let renew = "UPDATE activity_index_leases SET until_us = ? WHERE holder = ?";
    sqlx::query(renew).bind(until).bind(member.as_str()).execute(&mut *connection).await?;
    let members: Vec<String> =
        sqlx::query_scalar("SELECT member FROM activity_index_members").fetch_all(&mut *connection).await?;
    let holders: Vec<(u32, String)> =
        sqlx::query_as("SELECT partition, holder FROM activity_index_leases WHERE until_us > ?")
            .bind(now)
            .fetch_all(connection)
            .await?;
    Ok(LeaseView {
        members: members.into_iter().map(MemberId::stored).collect(),
        holders: holders.into_iter().map(|(partition, holder)| (partition, MemberId::stored(holder))).collect(),
    })
}

/// Now, and the end of `hold`, in microseconds since the Unix epoch.
fn from_now(hold: Duration) -> (i64, i64) {
    let now = Timestamp::now().as_microsecond();
    (now, now.saturating_add(i64::try_from(hold.as_micros()).unwrap_or(i64::MAX)))
}
