//! The index in an SQLite file.
//!
//! | table | rows |
//! |---|---|
//! | `activity_index` | one: the format, the generation in use, when it was made |
//! | `activity_index_accounts` | per generation and cache key the record; of listed accounts also what lists are ordered and narrowed by |
//! | `activity_index_counts` | per generation, tenant (`''`: all accounts) and state the number of accounts |
//! | `activity_index_checkpoints` | per generation and partition the next offset to read |

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::entry::{self, IndexEntry};
use super::paging::{self, Examine};
use super::{
    AccountActivity, AccountState, ActivityStore, Counts, Cursor, InvalidCursor, ListError, ListRequest, Order, Page,
    Query, record,
};
use crate::account::{CacheKey, TenantId};
use crate::backend::{BackendError, Trouble};
use crate::event::to_microseconds;
use crate::sqlite::Database;

const FORMAT: i64 = 1;
/// How many accounts are read and written by one statement.
const CHUNK: usize = 500;
/// The tenant that stands for all accounts in the counts; no tenant's id is empty.
const ALL_TENANTS: &str = "";

const META: &str = "
    CREATE TABLE IF NOT EXISTS activity_index (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        format INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        created_at TEXT NOT NULL
    );
    INSERT OR IGNORE INTO activity_index VALUES (1, 1, 1, strftime('%Y-%m-%dT%H:%M:%fZ'));";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS activity_index_accounts (
        generation INTEGER NOT NULL,
        cache_key TEXT NOT NULL,
        record BLOB NOT NULL,
        last_activity INTEGER,
        tenant_id TEXT,
        username TEXT,
        PRIMARY KEY (generation, cache_key)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS activity_index_by_activity
        ON activity_index_accounts (generation, last_activity, cache_key) WHERE last_activity IS NOT NULL;
    CREATE INDEX IF NOT EXISTS activity_index_by_tenant
        ON activity_index_accounts (generation, tenant_id, last_activity, cache_key) WHERE last_activity IS NOT NULL;
    CREATE INDEX IF NOT EXISTS activity_index_by_username
        ON activity_index_accounts (generation, username, last_activity, cache_key)
        WHERE last_activity IS NOT NULL AND username IS NOT NULL;
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
        PRIMARY KEY (generation, partition)
    ) WITHOUT ROWID;";

/// The activity index in an SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteIndex {
    database: Database,
    generation: i64,
}

impl SqliteIndex {
    /// Opens the index of `database`, making its tables where there are none.
    ///
    /// # Errors
    /// [`BackendError`]: [`Trouble::Refused`] where a version with another format made the index.
    pub async fn open(database: Database) -> Result<Self, BackendError> {
        let generation = open(&database).await?;
        Ok(Self { database, generation })
    }

    fn error(&self, error: sqlx::Error) -> BackendError {
        self.database.error(error)
    }

    fn decode(&self, bytes: &[u8]) -> Result<AccountActivity, BackendError> {
        record::decode(bytes).map_err(|error| {
            BackendError::new(Trouble::Corrupt, self.database.address(), "an account cannot be read", error)
        })
    }

    /// What is stored of the chunk's accounts.
    async fn read(
        &self,
        connection: &mut SqliteConnection,
        chunk: &[&AccountActivity],
    ) -> Result<HashMap<CacheKey, AccountActivity>, BackendError> {
        let mut query: QueryBuilder<'_, Sqlite> =
            QueryBuilder::new("SELECT record FROM activity_index_accounts WHERE generation = ");
        query.push_bind(self.generation).push(" AND cache_key IN (");
        let mut keys = query.separated(", ");
        for said in chunk {
            keys.push_bind(said.cache_key.as_str());
        }
        query.push(")");
        let rows = query.build().fetch_all(connection).await.map_err(|e| self.error(e))?;
        let decoded = rows.iter().map(|row| {
            let account = self.decode(row.try_get("record").map_err(|e| self.error(e))?)?;
            Ok((account.cache_key.clone(), account))
        });
        decoded.collect()
    }

    async fn write(&self, connection: &mut SqliteConnection, changed: &[AccountActivity]) -> Result<(), BackendError> {
        if changed.is_empty() {
            return Ok(());
        }
        let mut query: QueryBuilder<'_, Sqlite> = QueryBuilder::new(
            "INSERT INTO activity_index_accounts
             (generation, cache_key, record, last_activity, tenant_id, username) ",
        );
        query.push_values(changed, |mut row, account| {
            let entry = IndexEntry::of(account);
            row.push_bind(self.generation)
                .push_bind(account.cache_key.as_str())
                .push_bind(record::encode(account))
                .push_bind(entry.listed_at)
                .push_bind(entry.tenant.map(TenantId::as_str))
                .push_bind(entry.username);
        });
        query.push(
            " ON CONFLICT (generation, cache_key) DO UPDATE SET record = excluded.record,
             last_activity = excluded.last_activity, tenant_id = excluded.tenant_id, username = excluded.username",
        );
        query.build().execute(connection).await.map_err(|e| self.error(e))?;
        Ok(())
    }

    async fn count(&self, connection: &mut SqliteConnection, changes: CountChanges) -> Result<(), BackendError> {
        for ((tenant, state), by) in changes.0.into_iter().filter(|(_, by)| *by != 0) {
            sqlx::query(
                "INSERT INTO activity_index_counts VALUES (?, ?, ?, ?)
                 ON CONFLICT (generation, tenant_id, state) DO UPDATE SET accounts = accounts + excluded.accounts",
            )
            .bind(self.generation)
            .bind(tenant)
            .bind(state.number())
            .bind(by)
            .execute(&mut *connection)
            .await
            .map_err(|e| self.error(e))?;
        }
        Ok(())
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
    transaction.commit().await.map_err(error)?;
    Ok(generation)
}

/// By how much each count changes.
#[derive(Default)]
struct CountChanges(HashMap<(String, AccountState), i64>);

impl CountChanges {
    fn moved(&mut self, before: Option<&AccountActivity>, after: &AccountActivity) {
        if let Some(before) = before {
            self.add(before, -1);
        }
        self.add(after, 1);
    }

    fn add(&mut self, account: &AccountActivity, by: i64) {
        let state = account.state();
        let tenants = [Some(ALL_TENANTS), account.tenant_id().map(TenantId::as_str)];
        for tenant in tenants.into_iter().flatten() {
            *self.0.entry((tenant.to_owned(), state)).or_default() += by;
        }
    }
}

#[async_trait]
impl ActivityStore for SqliteIndex {
    /// In one transaction that holds the write lock from before it reads.
    async fn apply(&self, changes: &[AccountActivity]) -> Result<(), BackendError> {
        if changes.is_empty() {
            return Ok(());
        }
        let accounts = entry::by_key(changes);
        let accounts: Vec<&AccountActivity> = accounts.values().map(AsRef::as_ref).collect();
        let mut transaction = self.database.begin().await?;
        let mut counts = CountChanges::default();
        for chunk in accounts.chunks(CHUNK) {
            let stored = self.read(&mut transaction, chunk).await?;
            let mut changed = Vec::new();
            for said in chunk {
                let before = stored.get(&said.cache_key);
                let after = entry::joined(before, said);
                if before != Some(&after) {
                    counts.moved(before, &after);
                    changed.push(after);
                }
            }
            self.write(&mut transaction, &changed).await?;
        }
        self.count(&mut transaction, counts).await?;
        transaction.commit().await.map_err(|e| self.error(e))
    }

    async fn get(&self, cache_key: &CacheKey) -> Result<Option<AccountActivity>, BackendError> {
        let record: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT record FROM activity_index_accounts WHERE generation = ? AND cache_key = ?")
                .bind(self.generation)
                .bind(cache_key.as_str())
                .fetch_optional(self.database.readers())
                .await
                .map_err(|e| self.error(e))?;
        record.map(|record| self.decode(&record)).transpose()
    }

    async fn list(&self, request: &ListRequest) -> Result<Page, ListError> {
        paging::page(self, request).await
    }

    async fn counts(&self, tenant: Option<&TenantId>) -> Result<Counts, BackendError> {
        let rows: Vec<(u8, i64)> =
            sqlx::query_as("SELECT state, accounts FROM activity_index_counts WHERE generation = ? AND tenant_id = ?")
                .bind(self.generation)
                .bind(tenant.map_or(ALL_TENANTS, TenantId::as_str))
                .fetch_all(self.database.readers())
                .await
                .map_err(|e| self.error(e))?;
        let mut counts = Counts::default();
        for (number, accounts) in rows {
            let state = AccountState::ALL.into_iter().find(|state| state.number() == number);
            let state = state.ok_or_else(|| self.corrupt("a count is of no state this version knows"))?;
            let accounts = u64::try_from(accounts).map_err(|_| self.corrupt("a count is below zero"))?;
            counts.add(state, accounts);
        }
        Ok(counts)
    }

    async fn checkpoint(&self, partition: u32) -> Result<Option<u64>, BackendError> {
        let offset: Option<i64> = sqlx::query_scalar(
            "SELECT next_offset FROM activity_index_checkpoints WHERE generation = ? AND partition = ?",
        )
        .bind(self.generation)
        .bind(partition)
        .fetch_optional(self.database.readers())
        .await
        .map_err(|e| self.error(e))?;
        offset.map(|offset| u64::try_from(offset).map_err(|_| self.corrupt("a checkpoint is below zero"))).transpose()
    }

    async fn store_checkpoint(&self, partition: u32, next_offset: u64) -> Result<(), BackendError> {
        let next_offset = i64::try_from(next_offset)
            .map_err(|e| BackendError::new(Trouble::Refused, self.database.address(), "no log has that offset", e))?;
        sqlx::query(
            "INSERT INTO activity_index_checkpoints VALUES (?, ?, ?)
             ON CONFLICT (generation, partition) DO UPDATE SET next_offset = MAX(next_offset, excluded.next_offset)",
        )
        .bind(self.generation)
        .bind(partition)
        .bind(next_offset)
        .execute(self.database.writer())
        .await
        .map_err(|e| self.error(e))?;
        Ok(())
    }
}

impl SqliteIndex {
    fn corrupt(&self, message: &str) -> BackendError {
        BackendError::plain(Trouble::Corrupt, self.database.address(), message)
    }
}

impl Examine for SqliteIndex {
    async fn examine(
        &self,
        request: &ListRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Vec<(Cursor, AccountActivity)>, ListError> {
        let mut query = range(self.generation, request, after)?;
        query.push(" LIMIT ").push_bind(i64::try_from(count).unwrap_or(i64::MAX));
        let rows = query.build_query_as::<(i64, Vec<u8>)>().fetch_all(self.database.readers()).await;
        let rows = rows.map_err(|e| self.error(e))?;
        let places = rows.into_iter().map(|(micros, record)| {
            let account = self.decode(&record)?;
            let member = account.cache_key.as_str().as_bytes().to_vec();
            Ok((Cursor { micros, member }, account))
        });
        places.collect()
    }
}

/// The statement for the accounts of the request's range after `after`, in order.
fn range<'a>(
    generation: i64,
    request: &'a ListRequest,
    after: Option<&'a Cursor>,
) -> Result<QueryBuilder<'a, Sqlite>, InvalidCursor> {
    let mut query = QueryBuilder::new("SELECT last_activity, record FROM activity_index_accounts INDEXED BY ");
    query.push(shortest_index(request));
    query.push(" WHERE last_activity IS NOT NULL AND generation = ").push_bind(generation);
    match &request.query {
        Query::ActiveSince(time) => {
            query.push(" AND last_activity >= ").push_bind(to_microseconds(*time).as_microsecond());
        }
        Query::IdleSince(time) => {
            query.push(" AND last_activity <= ").push_bind(to_microseconds(*time).as_microsecond());
        }
        Query::User(username) => {
            query.push(" AND username IS NOT NULL AND username = ").push_bind(username.lower_cased());
        }
    }
    if let Some(tenant) = &request.filter.tenant {
        query.push(" AND tenant_id = ").push_bind(tenant.as_str());
    }
    let (beyond, direction) = match request.query.order() {
        Order::NewestFirst => (" < (", "DESC"),
        Order::OldestFirst => (" > (", "ASC"),
    };
    if let Some(Cursor { micros, member }) = after {
        let cache_key = std::str::from_utf8(member).map_err(|_| InvalidCursor)?;
        query.push(" AND (last_activity, cache_key)").push(beyond).push_bind(*micros);
        query.push(", ").push_bind(cache_key).push(")");
    }
    query.push(" ORDER BY last_activity ").push(direction).push(", cache_key ").push(direction);
    Ok(query)
}

/// The index with the fewest accounts beside those asked for; SQLite, which knows no numbers, would guess wrong.
fn shortest_index(request: &ListRequest) -> &'static str {
    match (&request.query, &request.filter.tenant) {
        (Query::User(_), _) => "activity_index_by_username",
        (_, Some(_)) => "activity_index_by_tenant",
        (_, None) => "activity_index_by_activity",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::account::Username;
    use crate::index::Filter;

    #[tokio::test]
    async fn a_page_is_read_off_one_index_and_never_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/index.sqlite", folder.path().display()).parse().unwrap();
        let index = SqliteIndex::open(Database::open(&url).await.unwrap()).await.unwrap();
        let queries = [
            Query::ActiveSince(Timestamp::MIN),
            Query::IdleSince(Timestamp::MAX),
            Query::User(Username::new("u").unwrap()),
        ];
        let cursor = Cursor { micros: 1, member: b"k".to_vec() };
        for query in queries {
            for tenant in [None, TenantId::new("t").ok()] {
                let filter = Filter { tenant, ..Filter::default() };
                let request = ListRequest { query: query.clone(), filter, limit: 1, cursor: None };
                let sql = range(1, &request, Some(&cursor)).unwrap().into_sql();
                let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(&format!("EXPLAIN QUERY PLAN {sql}"))
                    .fetch_all(index.database.readers())
                    .await
                    .unwrap();
                assert!(plan.len() == 1 && plan[0].3.contains("SEARCH"), "{request:?}: {plan:?}");
            }
        }
    }
}
