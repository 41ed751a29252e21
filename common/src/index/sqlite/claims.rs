//! Claims in an SQLite file, by the clock of the machine that all who share the file are on.
//!
//! Each step is one transaction that holds the write lock, so nothing is a hint here: who is held is left out by a join.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::SqliteGeneration;
use super::holds;
use crate::account::{CacheKey, TenantId};
use crate::backend::BackendError;
use crate::event::to_microseconds;
use crate::index::claiming::{self, Correction, Rate, Replan, Verdict, judge};
use crate::index::{
    AccountActivity, Claim, ClaimError, ClaimRequest, Claims, Completion, DuePage, DuePolicy, DueRequest, Fence,
    HeldClaim, JobReason, Renewed, Schedule, due_page,
};

/// How many accounts of a tenant are read at once.
const CHUNK: usize = 100;
/// How many accounts one claim reads for each it may take, and at least.
const EXAMINED_PER_CLAIM: usize = 20;
const EXAMINED_AT_LEAST: usize = 2_000;
/// How many accounts of one tenant are looked at before it is the next one's turn.
const LOOKED_AT_IN_TURN: usize = 50;
/// Ends of holds that are swept with each claim.
const SWEPT: i64 = 500;
/// How long it is known when a tenant was served.
const TURN_KEPT: i64 = 3_600 * 1_000_000;

pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS activity_index_holds (
        cache_key TEXT PRIMARY KEY,
        until_us INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        worker TEXT NOT NULL,
        tenant_id TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS activity_index_holds_by_end ON activity_index_holds (until_us);
    CREATE TABLE IF NOT EXISTS activity_index_schedules (
        cache_key TEXT PRIMARY KEY,
        at_us INTEGER NOT NULL,
        look_us INTEGER NOT NULL,
        reason TEXT
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS activity_index_schedules_by_look ON activity_index_schedules (look_us, cache_key);
    CREATE INDEX IF NOT EXISTS activity_index_schedules_by_time ON activity_index_schedules (at_us, cache_key);
    CREATE TABLE IF NOT EXISTS activity_index_pauses (tenant_id TEXT PRIMARY KEY, until_us INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS activity_index_turns (tenant_id TEXT PRIMARY KEY, served_us INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS activity_index_rates (rate TEXT PRIMARY KEY, from_us INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS activity_index_fence (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), fence INTEGER NOT NULL);";

/// Adds the column that files of before have not.
pub(super) async fn add_reasons(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let look = "SELECT 1 FROM pragma_table_info('activity_index_schedules') WHERE name = 'reason'";
    if sqlx::query(look).fetch_optional(&mut *connection).await?.is_none() {
        let add = "ALTER TABLE activity_index_schedules ADD COLUMN reason TEXT";
        sqlx::query(add).execute(connection).await?;
    }
    Ok(())
}

/// The tenants, an empty id for those of none, that have something due and are not paused; the one served longest ago
/// first. The index is searched once for each tenant.
const TENANTS: &str = "
    WITH RECURSIVE known(id) AS (
        SELECT (SELECT tenant_id FROM activity_index_accounts INDEXED BY activity_index_by_tenant_due
                WHERE generation = ?1 AND due_at IS NOT NULL AND tenant_id > '' ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT tenant_id FROM activity_index_accounts INDEXED BY activity_index_by_tenant_due
                WHERE generation = ?1 AND due_at IS NOT NULL AND tenant_id > known.id ORDER BY tenant_id LIMIT 1)
        FROM known WHERE known.id IS NOT NULL
    ), waiting(id) AS (
        SELECT id FROM known WHERE id IS NOT NULL AND EXISTS (
            SELECT 1 FROM activity_index_accounts INDEXED BY activity_index_by_tenant_due
            WHERE generation = ?1 AND tenant_id = known.id AND due_at <= ?2)
        UNION
        SELECT '' WHERE EXISTS (
            SELECT 1 FROM activity_index_accounts INDEXED BY activity_index_by_tenant_due
            WHERE generation = ?1 AND tenant_id IS NULL AND due_at <= ?2)
        UNION
        SELECT COALESCE(a.tenant_id, '') FROM activity_index_schedules s
        LEFT JOIN activity_index_accounts a ON a.generation = ?1 AND a.cache_key = s.cache_key
        WHERE s.look_us <= ?2
    )
    SELECT w.id FROM waiting w
    LEFT JOIN activity_index_pauses p ON p.tenant_id = w.id
    LEFT JOIN activity_index_turns t ON t.tenant_id = w.id
    WHERE (?3 IS NULL OR w.id = ?3) AND (p.until_us IS NULL OR p.until_us <= ?2)
    ORDER BY COALESCE(t.served_us, 0), w.id";

const DUE: &str = "
    SELECT a.due_at, a.cache_key, a.record, s.at_us, s.reason, h.attempts
    FROM activity_index_accounts a INDEXED BY activity_index_by_tenant_due
    LEFT JOIN activity_index_holds h ON h.cache_key = a.cache_key
    LEFT JOIN activity_index_schedules s ON s.cache_key = a.cache_key
    WHERE a.generation = ?1 AND a.tenant_id IS NULLIF(?2, '') AND a.due_at <= ?3
    AND (h.until_us IS NULL OR h.until_us <= ?3) AND (a.due_at, a.cache_key) > (?4, ?5)
    ORDER BY a.due_at, a.cache_key LIMIT ?6 OFFSET ?7";

const SCHEDULED: &str = "
    SELECT s.look_us, s.cache_key, a.record, s.at_us, s.reason, h.attempts
    FROM activity_index_schedules s INDEXED BY activity_index_schedules_by_look
    LEFT JOIN activity_index_accounts a ON a.generation = ?1 AND a.cache_key = s.cache_key
    LEFT JOIN activity_index_holds h ON h.cache_key = s.cache_key
    WHERE COALESCE(a.tenant_id, '') = ?2 AND s.look_us <= ?3
    AND (h.until_us IS NULL OR h.until_us <= ?3) AND (s.look_us, s.cache_key) > (?4, ?5)
    ORDER BY s.look_us, s.cache_key LIMIT ?6 OFFSET ?7";

/// How many accounts are in a tenant's first list.
const COUNT: &str = "
    SELECT COUNT(*) FROM activity_index_accounts INDEXED BY activity_index_by_tenant_due
    WHERE generation = ?1 AND tenant_id IS NULLIF(?2, '') AND due_at <= ?3";

/// An account that may be due.
struct Candidate {
    place: (i64, String),
    record: Option<Vec<u8>>,
    schedule: Option<Schedule>,
    attempts: u32,
}

/// One tenant's accounts, of one list.
struct List {
    query: &'static str,
    /// How many are passed over first.
    skipped: i64,
    after: (i64, String),
    ready: VecDeque<Candidate>,
    is_done: bool,
}

impl List {
    fn of(query: &'static str) -> Self {
        Self { query, skipped: 0, after: (i64::MIN, String::new()), ready: VecDeque::new(), is_done: false }
    }
}

/// One tenant in turn.
struct Tenant {
    id: String,
    lists: [List; 2],
    bucket: Bucket,
}

/// What is left of a rate.
struct Bucket {
    name: String,
    rate: Rate,
    from: i64,
    left: i64,
    spent: i64,
}

impl Bucket {
    async fn read(connection: &mut SqliteConnection, name: String, rate: Rate, now: i64) -> Result<Self, sqlx::Error> {
        if rate.interval == 0 {
            return Ok(Self { name, rate, from: now, left: i64::MAX, spent: 0 });
        }
        let read = "SELECT from_us FROM activity_index_rates WHERE rate = ?";
        let stored: Option<i64> = sqlx::query_scalar(read).bind(&name).fetch_optional(connection).await?;
        let from = stored.unwrap_or(now).max(now);
        let left = (now + rate.interval * rate.burst - from).max(0) / rate.interval;
        Ok(Self { name, rate, from, left, spent: 0 })
    }

    fn spend(&mut self) {
        self.left -= 1;
        self.spent += 1;
    }

    async fn write(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if self.rate.interval == 0 || self.spent == 0 {
            return Ok(());
        }
        let until = self.from + self.rate.interval * self.spent;
        let write = "INSERT OR REPLACE INTO activity_index_rates VALUES (?, ?)";
        sqlx::query(write).bind(&self.name).bind(until).execute(connection).await.map(drop)
    }
}

/// One call that claims.
struct Claiming<'a> {
    index: &'a SqliteGeneration,
    request: &'a ClaimRequest,
    policy: DuePolicy,
    now: Timestamp,
    budget: usize,
    overall: Bucket,
    seen: HashSet<String>,
    fence: i64,
    claims: Vec<Claim>,
}

impl SqliteGeneration {
    async fn claim_all(&self, request: &ClaimRequest) -> Result<Vec<Claim>, BackendError> {
        let policy = self.policy(&DuePolicy::default()).await?;
        let mut transaction = self.begin().await?;
        let now = holds::now();
        let (_, overall) = Rate::of(&request.rates);
        let overall = Bucket::read(&mut transaction, String::new(), overall, now.as_microsecond());
        let mut claiming = Claiming {
            index: self,
            request,
            policy,
            now,
            budget: (request.limit * EXAMINED_PER_CLAIM).max(EXAMINED_AT_LEAST),
            overall: overall.await.map_err(|e| self.error(e))?,
            seen: HashSet::new(),
            fence: holds::last_fence(&mut transaction, now).await.map_err(|e| self.error(e))?,
            claims: Vec::new(),
        };
        claiming.run(&mut transaction).await?;
        transaction.commit().await.map_err(|e| self.error(e))?;
        Ok(claiming.claims)
    }
}

impl Claiming<'_> {
    fn error(&self, error: sqlx::Error) -> BackendError {
        self.index.error(error)
    }

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), BackendError> {
        holds::sweep(connection, self.now, SWEPT).await.map_err(|e| self.error(e))?;
        let budget = self.budget;
        let mut tenants = self.tenants(connection).await?;
        self.claim_in_turn(connection, &mut tenants).await?;
        if self.request.client.is_some() && self.budget == 0 && !self.is_full() {
            // Nothing tells how many accounts of other apps come before those of this one: from any place on.
            self.budget = budget;
            self.skip_some(connection, &mut tenants).await.map_err(|e| self.error(e))?;
            self.claim_in_turn(connection, &mut tenants).await?;
        }
        self.note(connection, &tenants).await.map_err(|e| self.error(e))
    }

    async fn claim_in_turn(
        &mut self,
        connection: &mut SqliteConnection,
        tenants: &mut [Tenant],
    ) -> Result<(), BackendError> {
        let mut waiting: Vec<usize> = (0..tenants.len()).collect();
        while !waiting.is_empty() && !self.is_full() {
            let mut still = Vec::new();
            for place in waiting {
                let tenant = &mut tenants[place];
                if !self.is_full() && tenant.bucket.left > 0 && self.claim_one(connection, tenant).await? {
                    still.push(place);
                }
            }
            waiting = still;
        }
        Ok(())
    }

    async fn skip_some(&self, connection: &mut SqliteConnection, tenants: &mut [Tenant]) -> Result<(), sqlx::Error> {
        let chance: f64 = rand::random();
        for tenant in tenants {
            let count: i64 = sqlx::query_scalar(COUNT)
                .bind(self.index.generation)
                .bind(&tenant.id)
                .bind(self.now.as_microsecond())
                .fetch_one(&mut *connection)
                .await?;
            let skipped = (count as f64 * chance) as i64;
            let [_, scheduled] = std::mem::replace(&mut tenant.lists, [List::of(DUE), List::of(SCHEDULED)]);
            tenant.lists = [List { skipped, ..List::of(DUE) }, scheduled];
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.claims.len() == self.request.limit || self.overall.left == 0
    }

    async fn tenants(&self, connection: &mut SqliteConnection) -> Result<Vec<Tenant>, BackendError> {
        let now = self.now.as_microsecond();
        let ids: Vec<String> = sqlx::query_scalar(TENANTS)
            .bind(self.index.generation)
            .bind(now)
            .bind(self.request.tenant.as_ref().map(TenantId::as_str))
            .fetch_all(&mut *connection)
            .await
            .map_err(|e| self.error(e))?;
        let (rate, _) = Rate::of(&self.request.rates);
        let mut tenants = Vec::with_capacity(ids.len());
        for id in ids {
            let bucket = Bucket::read(connection, format!(":{id}"), rate, now).await.map_err(|e| self.error(e))?;
            tenants.push(Tenant { id, lists: [List::of(DUE), List::of(SCHEDULED)], bucket });
        }
        Ok(tenants)
    }

    /// Claims the next account of a tenant, or looks at a few in vain; says whether there may be more.
    async fn claim_one(
        &mut self,
        connection: &mut SqliteConnection,
        tenant: &mut Tenant,
    ) -> Result<bool, BackendError> {
        for _ in 0..LOOKED_AT_IN_TURN {
            let Some(candidate) = self.next(connection, tenant).await? else { return Ok(false) };
            let (_, cache_key) = &candidate.place;
            if !self.seen.insert(cache_key.clone()) {
                continue;
            }
            let account = candidate.record.as_deref().map(|record| self.index.decode(record)).transpose()?;
            match (judge(&self.policy, account.as_ref(), candidate.schedule.as_ref(), self.now), account) {
                (Verdict::Due(due), Some(account)) => {
                    if self.passes(&account) {
                        self.take(connection, tenant, due, candidate.attempts, account)
                            .await
                            .map_err(|e| self.error(e))?;
                        return Ok(true);
                    }
                }
                (Verdict::Not(correction), _) => {
                    self.correct(connection, cache_key, correction).await.map_err(|e| self.error(e))?;
                }
                (Verdict::Due(_), None) => {}
            }
        }
        Ok(true)
    }

    fn passes(&self, account: &AccountActivity) -> bool {
        let client = account.details.as_ref().map(|details| &details.value.client_id);
        self.request.client.as_ref().is_none_or(|asked| client == Some(asked))
    }

    /// The most overdue of both lists.
    async fn next(
        &mut self,
        connection: &mut SqliteConnection,
        tenant: &mut Tenant,
    ) -> Result<Option<Candidate>, BackendError> {
        for list in &mut tenant.lists {
            if list.ready.is_empty() && !list.is_done {
                self.fill(connection, &tenant.id, list).await.map_err(|e| self.error(e))?;
            }
        }
        let [due, scheduled] = &mut tenant.lists;
        let first = |list: &List| list.ready.front().map(|candidate| candidate.place.clone());
        let list = match (first(due), first(scheduled)) {
            (Some(due_at), Some(scheduled_at)) if scheduled_at < due_at => scheduled,
            (None, Some(_)) => scheduled,
            _ => due,
        };
        Ok(list.ready.pop_front())
    }

    async fn fill(
        &mut self,
        connection: &mut SqliteConnection,
        tenant: &str,
        list: &mut List,
    ) -> Result<(), sqlx::Error> {
        let count = CHUNK.min(self.request.limit).min(self.budget);
        let rows = sqlx::query(list.query)
            .bind(self.index.generation)
            .bind(tenant)
            .bind(self.now.as_microsecond())
            .bind(list.after.0)
            .bind(&list.after.1)
            .bind(i64::try_from(count).unwrap_or(i64::MAX))
            .bind(std::mem::take(&mut list.skipped))
            .fetch_all(connection)
            .await?;
        self.budget -= rows.len();
        list.is_done = rows.len() < count || count == 0;
        for row in rows {
            let place: (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            list.after = place.clone();
            let attempts: Option<u32> = row.try_get(5)?;
            list.ready.push_back(Candidate {
                place,
                record: row.try_get(2)?,
                schedule: schedule(&row)?,
                attempts: attempts.unwrap_or_default(),
            });
        }
        Ok(())
    }

    async fn take(
        &mut self,
        connection: &mut SqliteConnection,
        tenant: &mut Tenant,
        due: crate::index::Due,
        attempts: u32,
        account: AccountActivity,
    ) -> Result<(), sqlx::Error> {
        self.fence += 1;
        let lease_until = holds::after(self.now, self.request.lease);
        let hold = holds::Stored {
            until: lease_until.as_microsecond(),
            fence: self.fence,
            attempts,
            worker: self.request.worker.as_str().to_owned(),
            tenant: tenant.id.clone(),
        };
        hold.write(connection, &account.cache_key).await?;
        tenant.bucket.spend();
        self.overall.spend();
        let fence = Fence(u64::try_from(self.fence).unwrap_or_default());
        let held = HeldClaim { cache_key: account.cache_key.clone(), worker: self.request.worker.clone(), fence };
        self.claims.push(Claim { held, lease_until, due, attempts, account });
        Ok(())
    }

    async fn correct(
        &self,
        connection: &mut SqliteConnection,
        cache_key: &str,
        right: Correction,
    ) -> Result<(), sqlx::Error> {
        let due_at = right.due_at.map(|at| to_microseconds(at).as_microsecond());
        sqlx::query("UPDATE activity_index_accounts SET due_at = ? WHERE generation = ? AND cache_key = ? AND due_at IS NOT NULL")
            .bind(due_at)
            .bind(self.index.generation)
            .bind(cache_key)
            .execute(&mut *connection)
            .await?;
        match right.schedule {
            None => Ok(()),
            Some(Replan::At(at)) => {
                let postpone = "UPDATE activity_index_schedules SET look_us = ? WHERE cache_key = ?";
                let look = to_microseconds(at).as_microsecond();
                sqlx::query(postpone).bind(look).bind(cache_key).execute(connection).await.map(drop)
            }
            Some(Replan::Drop) => {
                tracing::info!(cache_key, "the schedule of an account that is gone was dropped");
                holds::unschedule(connection, cache_key).await
            }
        }
    }

    /// Remembers whose turn it was, and what was spent.
    async fn note(&self, connection: &mut SqliteConnection, tenants: &[Tenant]) -> Result<(), sqlx::Error> {
        let now = self.now.as_microsecond();
        let forget = "DELETE FROM activity_index_turns WHERE served_us <= ?";
        sqlx::query(forget).bind(now - TURN_KEPT).execute(&mut *connection).await?;
        for tenant in tenants.iter().filter(|tenant| tenant.bucket.spent > 0) {
            let note = "INSERT OR REPLACE INTO activity_index_turns VALUES (?, ?)";
            sqlx::query(note).bind(&tenant.id).bind(now).execute(&mut *connection).await?;
            tenant.bucket.write(connection).await?;
        }
        let forget = "DELETE FROM activity_index_rates WHERE from_us <= ?";
        sqlx::query(forget).bind(now).execute(&mut *connection).await?;
        self.overall.write(connection).await?;
        holds::store_fence(connection, self.fence).await
    }
}

/// A schedule as it is stored: time and reason are the fourth and fifth column of `row`.
pub(super) fn schedule(row: &SqliteRow) -> Result<Option<Schedule>, sqlx::Error> {
    let Some(at) = row.try_get::<Option<i64>, _>(3)? else { return Ok(None) };
    let reason: Option<String> = row.try_get(4)?;
    Ok(Some(Schedule { at: time(at)?, reason: reason.and_then(|reason| JobReason::new(reason).ok()) }))
}

/// A stored time.
pub(super) fn time(micros: i64) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(micros).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}

#[async_trait]
impl Claims for SqliteGeneration {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, ClaimError> {
        claiming::check(request)?;
        Ok(self.claim_all(request).await?)
    }

    async fn renew(&self, held: &HeldClaim, lease: Duration) -> Result<Renewed, ClaimError> {
        claiming::check_lease(lease)?;
        let renewed = self.renew_one(held, lease).await?;
        renewed.ok_or(ClaimError::Lost { fence: held.fence })
    }

    async fn complete(&self, held: &HeldClaim, outcome: &Completion) -> Result<(), ClaimError> {
        let is_held = self.complete_one(held, outcome).await?;
        if is_held { Ok(()) } else { Err(ClaimError::Lost { fence: held.fence }) }
    }

    async fn release(&self, held: &[HeldClaim]) -> Result<usize, BackendError> {
        self.release_all(held).await
    }

    async fn schedule(&self, cache_key: &CacheKey, schedule: Option<&Schedule>) -> Result<(), BackendError> {
        self.schedule_one(cache_key, schedule).await
    }

    async fn pause(&self, tenant: &TenantId, until: Timestamp) -> Result<(), BackendError> {
        self.pause_tenant(tenant, until).await
    }

    async fn forget_hold(&self, cache_key: &CacheKey) -> Result<(), BackendError> {
        self.forget_one(cache_key).await
    }

    async fn forget(&self, cache_key: &CacheKey) -> Result<(), BackendError> {
        self.forget_all_of(cache_key).await
    }

    async fn due(&self, request: &DueRequest) -> Result<DuePage, ClaimError> {
        due_page::page(self, &self.policy(&DuePolicy::default()).await?, request).await
    }
}
