//! One generation of the index in an SQLite file.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, Transaction};

use crate::account::{CacheKey, ClientId, TenantId};
use crate::backend::{BackendError, Trouble};
use crate::event::to_microseconds;
use crate::index::entry::{self, IndexEntry};
use crate::index::paging::{self, Examine, Examined};
use crate::index::{
    AccountActivity, AccountState, ActivityStore, Checkpoint, Counts, Cursor, DuePolicy, Filter, IndexUpkeep,
    InvalidCursor, ListError, ListRequest, Order, Page, Query, ScanCursor, ScanPage, record,
};
use crate::sqlite::Database;

/// How many accounts are read and written by one statement.
const CHUNK: usize = 500;
/// Up to how many accounts of an app are rather gone through than those of a tenant.
const RARE: i64 = 2_000;
/// The tenant that stands for all accounts in the counts; no tenant's id is empty.
const ALL_TENANTS: &str = "";

/// One generation of the index in an SQLite file.
#[derive(Debug, Clone)]
pub(crate) struct SqliteGeneration {
    pub(super) database: Database,
    pub(super) generation: i64,
}

impl SqliteGeneration {
    pub(super) fn error(&self, error: sqlx::Error) -> BackendError {
        self.database.error(error)
    }

    pub(super) fn decode(&self, bytes: &[u8]) -> Result<AccountActivity, BackendError> {
        record::decode(bytes).map_err(|error| {
            BackendError::new(Trouble::Corrupt, self.database.address(), "an account cannot be read", error)
        })
    }

    /// Begins to write, unless the generation was deleted.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, BackendError> {
        let mut transaction = self.database.begin().await?;
        let dropped: Option<i64> =
            sqlx::query_scalar("SELECT generation FROM activity_index_dropped WHERE generation = ?")
                .bind(self.generation)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(|e| self.error(e))?;
        if dropped.is_some() {
            let message = "this generation of the index was deleted; another one is live";
            return Err(BackendError::plain(Trouble::Refused, self.database.address(), message));
        }
        Ok(transaction)
    }

    /// What is stored of the chunk's accounts.
    async fn read(
        &self,
        connection: &mut SqliteConnection,
        chunk: impl Iterator<Item = &CacheKey> + Send,
    ) -> Result<HashMap<CacheKey, AccountActivity>, BackendError> {
        let mut query: QueryBuilder<'_, Sqlite> =
            QueryBuilder::new("SELECT record FROM activity_index_accounts WHERE generation = ");
        query.push_bind(self.generation).push(" AND cache_key IN (");
        let mut keys = query.separated(", ");
        for key in chunk {
            keys.push_bind(key.as_str());
        }
        query.push(")");
        let rows = query.build().fetch_all(connection).await.map_err(|e| self.error(e))?;
        let decoded = rows.iter().map(|row| {
            let account = self.decode(row.try_get("record").map_err(|e| self.error(e))?)?;
            Ok((account.cache_key.clone(), account))
        });
        decoded.collect()
    }

    /// What makes its accounts due: `wanted`, where it has no policy yet.
    pub(super) async fn policy(&self, wanted: &DuePolicy) -> Result<DuePolicy, BackendError> {
        let text = serde_json::to_string(wanted).map_err(|e| self.odd_policy(e))?;
        let read = "SELECT policy FROM activity_index_due_policies WHERE generation = ?";
        let read = || sqlx::query_scalar::<_, String>(read).bind(self.generation);
        let found = read().fetch_optional(self.database.readers()).await.map_err(|e| self.error(e))?;
        let stored = match found {
            Some(stored) => stored,
            None => {
                sqlx::query("INSERT OR IGNORE INTO activity_index_due_policies VALUES (?, ?)")
                    .bind(self.generation)
                    .bind(text)
                    .execute(self.database.writer())
                    .await
                    .map_err(|e| self.error(e))?;
                read().fetch_one(self.database.readers()).await.map_err(|e| self.error(e))?
            }
        };
        serde_json::from_str(&stored).map_err(|e| self.odd_policy(e))
    }

    fn odd_policy(&self, error: serde_json::Error) -> BackendError {
        let message = "the due policy of the index cannot be read";
        BackendError::new(Trouble::Corrupt, self.database.address(), message, error)
    }

    async fn write(
        &self,
        connection: &mut SqliteConnection,
        policy: &DuePolicy,
        changed: &[AccountActivity],
    ) -> Result<(), BackendError> {
        if changed.is_empty() {
            return Ok(());
        }
        let mut query: QueryBuilder<'_, Sqlite> = QueryBuilder::new(
            "INSERT INTO activity_index_accounts
             (generation, cache_key, record, last_activity, tenant_id, client_id, state, username, due_at) ",
        );
        query.push_values(changed, |mut row, account| {
            let entry = IndexEntry::of(account, policy);
            row.push_bind(self.generation)
                .push_bind(account.cache_key.as_str())
                .push_bind(record::encode(account))
                .push_bind(entry.listed_at)
                .push_bind(entry.tenant.map(TenantId::as_str))
                .push_bind(entry.client.map(ClientId::as_str))
                .push_bind(entry.state.number())
                .push_bind(entry.username)
                .push_bind(entry.due_at);
        });
        query.push(
            " ON CONFLICT (generation, cache_key) DO UPDATE SET record = excluded.record,
             last_activity = excluded.last_activity, tenant_id = excluded.tenant_id, client_id = excluded.client_id,
             state = excluded.state, username = excluded.username, due_at = excluded.due_at",
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

/// By how much each count changes.
#[derive(Default)]
struct CountChanges(HashMap<(String, AccountState), i64>);

impl CountChanges {
    fn moved(&mut self, before: Option<&AccountActivity>, after: Option<&AccountActivity>) {
        if let Some(before) = before {
            self.add(before, -1);
        }
        if let Some(after) = after {
            self.add(after, 1);
        }
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
impl ActivityStore for SqliteGeneration {
    /// In one transaction that holds the write lock from before it reads.
    async fn apply(&self, changes: &[AccountActivity]) -> Result<(), BackendError> {
        if changes.is_empty() {
            return Ok(());
        }
        let accounts = entry::by_key(changes);
        let accounts: Vec<&AccountActivity> = accounts.values().map(AsRef::as_ref).collect();
        let policy = self.policy(&DuePolicy::default()).await?;
        let mut transaction = self.begin().await?;
        let mut counts = CountChanges::default();
        for chunk in accounts.chunks(CHUNK) {
            let stored = self.read(&mut transaction, chunk.iter().map(|said| &said.cache_key)).await?;
            let mut changed = Vec::new();
            for said in chunk {
                let before = stored.get(&said.cache_key);
                let after = entry::joined(before, said);
                if before != Some(&after) {
                    counts.moved(before, Some(&after));
                    changed.push(after);
                }
            }
            self.write(&mut transaction, &policy, &changed).await?;
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

    async fn checkpoint(&self, partition: u32) -> Result<Option<Checkpoint>, BackendError> {
        let row: Option<(i64, Option<i64>, Option<String>)> = sqlx::query_as(
            "SELECT next_offset, newest_event, last_message FROM activity_index_checkpoints
             WHERE generation = ? AND partition = ?",
        )
        .bind(self.generation)
        .bind(partition)
        .fetch_optional(self.database.readers())
        .await
        .map_err(|e| self.error(e))?;
        let Some((offset, micros, digest)) = row else { return Ok(None) };
        let next_offset = u64::try_from(offset).map_err(|_| self.corrupt("a checkpoint is below zero"))?;
        let newest_event = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok());
        let last_message = digest.and_then(|digest| digest.parse().ok());
        Ok(Some(Checkpoint { next_offset, newest_event, last_message }))
    }

    async fn store_checkpoint(&self, partition: u32, checkpoint: Checkpoint) -> Result<(), BackendError> {
        let next_offset = i64::try_from(checkpoint.next_offset)
            .map_err(|e| BackendError::new(Trouble::Refused, self.database.address(), "no log has that offset", e))?;
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO activity_index_checkpoints (generation, partition, next_offset, newest_event, last_message)
             VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (generation, partition) DO UPDATE SET next_offset = excluded.next_offset,
             newest_event = COALESCE(excluded.newest_event, newest_event), last_message = excluded.last_message
             WHERE next_offset < excluded.next_offset",
        )
        .bind(self.generation)
        .bind(partition)
        .bind(next_offset)
        .bind(checkpoint.newest_event.map(Timestamp::as_microsecond))
        .bind(checkpoint.last_message.map(String::from))
        .execute(&mut *transaction)
        .await
        .map_err(|e| self.error(e))?;
        transaction.commit().await.map_err(|e| self.error(e))
    }
}

#[async_trait]
impl IndexUpkeep for SqliteGeneration {
    /// By cache key.
    async fn scan(&self, after: Option<&ScanCursor>, count: usize) -> Result<ScanPage, BackendError> {
        let count = count.max(1);
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT record FROM activity_index_accounts WHERE generation = ? AND cache_key > ?
             ORDER BY cache_key LIMIT ?",
        )
        .bind(self.generation)
        .bind(after.map_or("", |after| after.0.as_str()))
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .fetch_all(self.database.readers())
        .await
        .map_err(|e| self.error(e))?;
        let accounts: Vec<AccountActivity> = rows.iter().map(|row| self.decode(row)).collect::<Result<_, _>>()?;
        let last = accounts.last().filter(|_| accounts.len() == count);
        let next = last.map(|account| ScanCursor(account.cache_key.to_string()));
        Ok(ScanPage { accounts, next })
    }

    async fn get_many(&self, cache_keys: &[CacheKey]) -> Result<Vec<Option<AccountActivity>>, BackendError> {
        let mut accounts = Vec::with_capacity(cache_keys.len());
        let mut connection = self.database.readers().acquire().await.map_err(|e| self.error(e))?;
        for keys in cache_keys.chunks(CHUNK) {
            let found = self.read(&mut connection, keys.iter()).await?;
            accounts.extend(keys.iter().map(|key| found.get(key).cloned()));
        }
        Ok(accounts)
    }

    async fn replace(
        &self,
        expected: Option<&AccountActivity>,
        with: Option<&AccountActivity>,
    ) -> Result<bool, BackendError> {
        let Some(account) = with.or(expected) else { return Ok(true) };
        let policy = self.policy(&DuePolicy::default()).await?;
        let mut transaction = self.begin().await?;
        let stored = self.read(&mut transaction, std::iter::once(&account.cache_key)).await?;
        if stored.get(&account.cache_key) != expected {
            return Ok(false);
        }
        let mut counts = CountChanges::default();
        counts.moved(expected, with);
        match with {
            Some(with) => self.write(&mut transaction, &policy, std::slice::from_ref(with)).await?,
            None => self.take_away(&mut transaction, &account.cache_key).await?,
        }
        self.count(&mut transaction, counts).await?;
        transaction.commit().await.map_err(|e| self.error(e))?;
        Ok(true)
    }

    async fn forget_checkpoint(&self, partition: u32) -> Result<(), BackendError> {
        sqlx::query("DELETE FROM activity_index_checkpoints WHERE generation = ? AND partition = ?")
            .bind(self.generation)
            .bind(partition)
            .execute(self.database.writer())
            .await
            .map_err(|e| self.error(e))?;
        Ok(())
    }
}

impl SqliteGeneration {
    async fn take_away(&self, connection: &mut SqliteConnection, cache_key: &CacheKey) -> Result<(), BackendError> {
        sqlx::query("DELETE FROM activity_index_accounts WHERE generation = ? AND cache_key = ?")
            .bind(self.generation)
            .bind(cache_key.as_str())
            .execute(connection)
            .await
            .map_err(|e| self.error(e))?;
        Ok(())
    }

    fn corrupt(&self, message: &str) -> BackendError {
        BackendError::plain(Trouble::Corrupt, self.database.address(), message)
    }
}

impl Examine for SqliteGeneration {
    async fn examine(
        &self,
        request: &ListRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Examined, ListError> {
        let mut query = range(self.generation, request, self.shortest(request).await?, after)?;
        query.push(" LIMIT ").push_bind(i64::try_from(count).unwrap_or(i64::MAX));
        let rows = query.build_query_as::<(i64, Vec<u8>)>().fetch_all(self.database.readers()).await;
        let rows = rows.map_err(|e| self.error(e))?;
        let places = rows.into_iter().map(|(micros, record)| {
            let account = self.decode(&record)?;
            let member = account.cache_key.as_str().as_bytes().to_vec();
            Ok((Cursor { micros, member }, account))
        });
        let rows = places.collect::<Result<Vec<_>, ListError>>()?;
        let is_last = rows.len() < count;
        Ok(Examined { rows, is_last })
    }
}

impl SqliteGeneration {
    /// The index that has all of what is asked for, and few accounts beside it. SQLite, which knows no numbers, would
    /// guess wrong.
    async fn shortest(&self, request: &ListRequest) -> Result<ListIndex, BackendError> {
        let Filter { tenant, client, state } = &request.filter;
        let is_state_listed = state.is_some_and(|state| state != AccountState::Ready);
        Ok(match (&request.query, tenant) {
            (Query::User(_), _) => ListIndex::Username,
            (_, Some(_)) if is_state_listed => ListIndex::TenantState,
            (_, None) if is_state_listed => ListIndex::State,
            (_, tenant) => match (tenant, client) {
                (None, None) => ListIndex::Activity,
                (None, Some(_)) => ListIndex::Client,
                (Some(_), None) => ListIndex::Tenant,
                (Some(_), Some(client)) if self.is_rare(client).await? => ListIndex::Client,
                (Some(_), Some(_)) => ListIndex::Tenant,
            },
        })
    }

    /// Whether a page or two can examine all accounts of `client`.
    async fn is_rare(&self, client: &ClientId) -> Result<bool, BackendError> {
        let counted: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM (SELECT 1 FROM activity_index_accounts INDEXED BY activity_index_by_client
             WHERE last_activity IS NOT NULL AND generation = ? AND client_id IS NOT NULL AND client_id = ? LIMIT ?)",
        )
        .bind(self.generation)
        .bind(client.as_str())
        .bind(RARE)
        .fetch_one(self.database.readers())
        .await
        .map_err(|e| self.error(e))?;
        Ok(counted < RARE)
    }
}

/// The indexes that lists are read off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListIndex {
    Activity,
    Tenant,
    Client,
    State,
    TenantState,
    Username,
}

impl ListIndex {
    fn name(self) -> &'static str {
        match self {
            Self::Activity => "activity_index_by_activity",
            Self::Tenant => "activity_index_by_tenant",
            Self::Client => "activity_index_by_client",
            Self::State => "activity_index_by_state",
            Self::TenantState => "activity_index_by_tenant_state",
            Self::Username => "activity_index_by_username",
        }
    }

    /// Takes the part of the index that the request is about.
    fn narrow<'a>(self, query: &mut QueryBuilder<'a, Sqlite>, request: &'a ListRequest) {
        let Filter { tenant, client, state } = &request.filter;
        if let Some(tenant) = tenant.as_ref().filter(|_| matches!(self, Self::Tenant | Self::TenantState)) {
            query.push(" AND tenant_id = ").push_bind(tenant.as_str());
        }
        if let Some(client) = client.as_ref().filter(|_| self == Self::Client) {
            query.push(" AND client_id IS NOT NULL AND client_id = ").push_bind(client.as_str());
        }
        if let Some(state) = state.filter(|_| matches!(self, Self::State | Self::TenantState)) {
            query.push(" AND state <> 0 AND state = ").push_bind(state.number());
        }
    }
}

/// The statement for the accounts of the request's range after `after`, in order.
fn range<'a>(
    generation: i64,
    request: &'a ListRequest,
    index: ListIndex,
    after: Option<&'a Cursor>,
) -> Result<QueryBuilder<'a, Sqlite>, InvalidCursor> {
    let mut query = QueryBuilder::new("SELECT last_activity, record FROM activity_index_accounts INDEXED BY ");
    query.push(index.name());
    query.push(" WHERE last_activity IS NOT NULL AND generation = ").push_bind(generation);
    index.narrow(&mut query, request);
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::account::Username;
    use crate::index::SqliteIndex;

    #[tokio::test]
    async fn a_page_is_read_off_one_index_and_never_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/index.sqlite", folder.path().display()).parse().unwrap();
        let database = Database::open(&url).await.unwrap();
        SqliteIndex::open(database.clone()).await.unwrap();
        let queries = [
            Query::ActiveSince(Timestamp::MIN),
            Query::IdleSince(Timestamp::MAX),
            Query::User(Username::new("u").unwrap()),
        ];
        let cursor = Cursor { micros: 1, member: b"k".to_vec() };
        let client: ClientId = "c".parse().unwrap();
        let index = SqliteGeneration { database: database.clone(), generation: 1 };
        let mut read_off = std::collections::HashSet::new();
        for query in queries {
            for tenant in [None, TenantId::new("t").ok()] {
                for client in [None, Some(client.clone())] {
                    for state in [None, Some(AccountState::Ready), Some(AccountState::Parked)] {
                        let filter = Filter { tenant: tenant.clone(), client: client.clone(), state };
                        let request = ListRequest { query: query.clone(), filter, limit: 1, cursor: None };
                        let shortest = index.shortest(&request).await.unwrap();
                        read_off.insert(shortest.name());
                        assert_is_read_off(&database, shortest, &request, &cursor).await;
                    }
                }
            }
        }
        assert_eq!(read_off.len(), 6, "{read_off:?}");
    }

    async fn assert_is_read_off(database: &Database, index: ListIndex, request: &ListRequest, cursor: &Cursor) {
        let sql = range(1, request, index, Some(cursor)).unwrap().into_sql();
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(&format!("EXPLAIN QUERY PLAN {sql}")).fetch_all(database.readers()).await.unwrap();
        let is_search = plan.len() == 1 && plan[0].3.contains("SEARCH") && plan[0].3.contains(index.name());
        // Of the index all columns up to the time are given, so that nothing beside the range is gone through.
        assert!(is_search && plan[0].3.contains("last_activity"), "{request:?}: {plan:?}");
    }
}
