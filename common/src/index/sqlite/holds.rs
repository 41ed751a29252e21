//! What becomes of a claim in an SQLite file, and what holds accounts back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sqlx::SqliteConnection;

use super::SqliteGeneration;
use super::claims::time;
use crate::account::{CacheKey, TenantId};
use crate::backend::BackendError;
use crate::event::to_microseconds;
use crate::index::claiming::{self, micros};
use crate::index::{Completion, HeldClaim, JobReason, Renewed, Schedule};

/// A hold as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) until: i64,
    pub(super) fence: i64,
    pub(super) attempts: u32,
    /// Empty where nobody has it.
    pub(super) worker: String,
    pub(super) tenant: String,
}

impl Stored {
    pub(super) async fn write(&self, connection: &mut SqliteConnection, key: &CacheKey) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT OR REPLACE INTO activity_index_holds VALUES (?, ?, ?, ?, ?, ?)")
            .bind(key.as_str())
            .bind(self.until)
            .bind(self.fence)
            .bind(self.attempts)
            .bind(&self.worker)
            .bind(&self.tenant)
            .execute(connection)
            .await
            .map(drop)
    }

    async fn read(connection: &mut SqliteConnection, key: &CacheKey) -> Result<Option<Self>, sqlx::Error> {
        let read = "SELECT until_us, fence, attempts, worker, tenant_id FROM activity_index_holds WHERE cache_key = ?";
        let row: Option<(i64, i64, u32, String, String)> =
            sqlx::query_as(read).bind(key.as_str()).fetch_optional(connection).await?;
        Ok(row.map(|(until, fence, attempts, worker, tenant)| Self { until, fence, attempts, worker, tenant }))
    }

    /// The hold of a claim, if it is held at this time.
    async fn of(
        connection: &mut SqliteConnection,
        held: &HeldClaim,
        now: Timestamp,
    ) -> Result<Option<Self>, sqlx::Error> {
        let is_of = |stored: &Self| {
            stored.worker == held.worker.as_str()
                && u64::try_from(stored.fence) == Ok(held.fence.0)
                && stored.until > now.as_microsecond()
        };
        Ok(Self::read(connection, &held.cache_key).await?.filter(is_of))
    }

    /// Lets the account be claimed at once; how often it failed is remembered.
    async fn end(self, connection: &mut SqliteConnection, key: &CacheKey, now: Timestamp) -> Result<(), sqlx::Error> {
        if self.attempts == 0 {
            return forget(connection, key).await;
        }
        Self { until: now.as_microsecond(), worker: String::new(), ..self }.write(connection, key).await
    }
}

async fn forget(connection: &mut SqliteConnection, key: &CacheKey) -> Result<(), sqlx::Error> {
    let forget = "DELETE FROM activity_index_holds WHERE cache_key = ?";
    sqlx::query(forget).bind(key.as_str()).execute(connection).await.map(drop)
}

/// The highest fence there was; a time, unless more were given than microseconds went by, so that even a file that
/// was lost does not bring an old one again.
pub(super) async fn last_fence(connection: &mut SqliteConnection, now: Timestamp) -> Result<i64, sqlx::Error> {
    let stored: Option<i64> =
        sqlx::query_scalar("SELECT fence FROM activity_index_fence").fetch_optional(connection).await?;
    Ok(stored.unwrap_or_default().max(now.as_microsecond()))
}

pub(super) async fn store_fence(connection: &mut SqliteConnection, fence: i64) -> Result<(), sqlx::Error> {
    let store = "INSERT OR REPLACE INTO activity_index_fence VALUES (1, ?)";
    sqlx::query(store).bind(fence).execute(connection).await.map(drop)
}

/// Deletes some of the holds that are over.
pub(super) async fn sweep(connection: &mut SqliteConnection, now: Timestamp, most: i64) -> Result<(), sqlx::Error> {
    let now = now.as_microsecond();
    sqlx::query(
        "DELETE FROM activity_index_holds WHERE cache_key IN (SELECT cache_key FROM activity_index_holds
         WHERE until_us <= ?1 AND (attempts = 0 OR until_us <= ?2) LIMIT ?3)",
    )
    .bind(now)
    .bind(now - micros(Completion::ATTEMPTS_KEPT))
    .bind(most)
    .execute(connection)
    .await
    .map(drop)
}

pub(super) async fn unschedule(connection: &mut SqliteConnection, cache_key: &str) -> Result<(), sqlx::Error> {
    let forget = "DELETE FROM activity_index_schedules WHERE cache_key = ?";
    sqlx::query(forget).bind(cache_key).execute(connection).await.map(drop)
}

/// The time, as it can be stored.
pub(super) fn now() -> Timestamp {
    to_microseconds(Timestamp::now())
}

/// The end of a while that begins now.
pub(super) fn after(now: Timestamp, duration: Duration) -> Timestamp {
    now.checked_add(SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

impl SqliteGeneration {
    /// `None` where it is not held.
    pub(super) async fn renew_one(&self, held: &HeldClaim, lease: Duration) -> Result<Option<Renewed>, BackendError> {
        let error = |e| self.error(e);
        let mut transaction = self.database.begin().await?;
        let now = now();
        let Some(stored) = Stored::of(&mut transaction, held, now).await.map_err(error)? else { return Ok(None) };
        let lease_until = after(now, lease);
        let paused: Option<i64> =
            sqlx::query_scalar("SELECT until_us FROM activity_index_pauses WHERE tenant_id = ? AND until_us > ?")
                .bind(&stored.tenant)
                .bind(now.as_microsecond())
                .fetch_optional(&mut *transaction)
                .await
                .map_err(error)?;
        let renewed = Stored { until: lease_until.as_microsecond(), ..stored };
        renewed.write(&mut transaction, &held.cache_key).await.map_err(error)?;
        transaction.commit().await.map_err(error)?;
        let paused_until = paused.map(time).transpose().map_err(error)?;
        Ok(Some(Renewed { lease_until, paused_until }))
    }

    /// Says whether it was held.
    pub(super) async fn complete_one(&self, held: &HeldClaim, outcome: &Completion) -> Result<bool, BackendError> {
        let error = |e| self.error(e);
        let mut transaction = self.database.begin().await?;
        let now = now();
        let Some(stored) = Stored::of(&mut transaction, held, now).await.map_err(error)? else { return Ok(false) };
        let key = &held.cache_key;
        match outcome {
            Completion::Gone => {
                forget(&mut transaction, key).await.map_err(error)?;
                unschedule(&mut transaction, key.as_str()).await.map_err(error)?;
                self.not_due(&mut transaction, key).await.map_err(error)?;
            }
            Completion::Settled { next } => {
                let until = after(now, Completion::SETTLING).as_microsecond();
                let hold = Stored { until, attempts: 0, worker: String::new(), ..stored };
                hold.write(&mut transaction, key).await.map_err(error)?;
                let kept = "DELETE FROM activity_index_schedules WHERE cache_key = ? AND at_us <= ?";
                let done = sqlx::query(kept).bind(key.as_str()).bind(now.as_microsecond());
                done.execute(&mut *transaction).await.map_err(error)?;
                if let Some(next) = next {
                    self.due_from(&mut transaction, key, *next).await.map_err(error)?;
                }
            }
            Completion::Failed { not_before } => {
                let pause = claiming::back_off(stored.attempts, rand::random());
                let until = not_before.unwrap_or(now).max(after(now, pause));
                let until = to_microseconds(until).as_microsecond();
                let attempts = stored.attempts.saturating_add(1);
                let hold = Stored { until, attempts, worker: String::new(), ..stored };
                hold.write(&mut transaction, key).await.map_err(error)?;
            }
        }
        transaction.commit().await.map_err(error)?;
        Ok(true)
    }

    /// Moves the time at which an account is due to `next`, if it is later.
    async fn due_from(
        &self,
        connection: &mut SqliteConnection,
        key: &CacheKey,
        next: Timestamp,
    ) -> Result<(), sqlx::Error> {
        let later =
            "UPDATE activity_index_accounts SET due_at = ?1 WHERE generation = ?2 AND cache_key = ?3 AND due_at < ?1";
        let later = sqlx::query(later).bind(to_microseconds(next).as_microsecond()).bind(self.generation);
        later.bind(key.as_str()).execute(connection).await.map(drop)
    }

    async fn not_due(&self, connection: &mut SqliteConnection, key: &CacheKey) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE activity_index_accounts SET due_at = NULL WHERE generation = ? AND cache_key = ?")
            .bind(self.generation)
            .bind(key.as_str())
            .execute(connection)
            .await
            .map(drop)
    }

    /// Says how many of them were held.
    pub(super) async fn release_all(&self, held: &[HeldClaim]) -> Result<usize, BackendError> {
        let error = |e| self.error(e);
        let mut transaction = self.database.begin().await?;
        let now = now();
        let mut count = 0;
        for held in held {
            if let Some(stored) = Stored::of(&mut transaction, held, now).await.map_err(error)? {
                stored.end(&mut transaction, &held.cache_key, now).await.map_err(error)?;
                count += 1;
            }
        }
        transaction.commit().await.map_err(error)?;
        Ok(count)
    }

    pub(super) async fn forget_one(&self, cache_key: &CacheKey) -> Result<(), BackendError> {
        let error = |e| self.error(e);
        let mut transaction = self.database.begin().await?;
        let stored = Stored::read(&mut transaction, cache_key).await.map_err(error)?;
        if let Some(stored) = stored.filter(|stored| stored.worker.is_empty()) {
            stored.end(&mut transaction, cache_key, now()).await.map_err(error)?;
        }
        transaction.commit().await.map_err(error)
    }

    pub(super) async fn forget_all_of(&self, cache_key: &CacheKey) -> Result<(), BackendError> {
        let error = |e| self.error(e);
        let mut transaction = self.database.begin().await?;
        forget(&mut transaction, cache_key).await.map_err(error)?;
        unschedule(&mut transaction, cache_key.as_str()).await.map_err(error)?;
        transaction.commit().await.map_err(error)
    }

    pub(super) async fn schedule_one(
        &self,
        cache_key: &CacheKey,
        schedule: Option<&Schedule>,
    ) -> Result<(), BackendError> {
        let key = cache_key.as_str();
        let writer = self.database.writer();
        let done = match schedule {
            None => {
                sqlx::query("DELETE FROM activity_index_schedules WHERE cache_key = ?").bind(key).execute(writer).await
            }
            Some(Schedule { at, reason }) => {
                let set =
                    "INSERT INTO activity_index_schedules (cache_key, at_us, look_us, reason) VALUES (?1, ?2, ?2, ?3)
                    ON CONFLICT (cache_key) DO UPDATE SET at_us = ?2, look_us = ?2, reason = COALESCE(?3, reason)";
                let at = to_microseconds(*at).as_microsecond().max(0);
                sqlx::query(set).bind(key).bind(at).bind(reason.as_ref().map(JobReason::as_str)).execute(writer).await
            }
        };
        done.map(drop).map_err(|e| self.error(e))
    }

    pub(super) async fn pause_tenant(&self, tenant: &TenantId, until: Timestamp) -> Result<(), BackendError> {
        let error = |e| self.error(e);
        let mut transaction = self.database.begin().await?;
        let now = now().as_microsecond();
        let forget = "DELETE FROM activity_index_pauses WHERE until_us <= ?";
        sqlx::query(forget).bind(now).execute(&mut *transaction).await.map_err(error)?;
        sqlx::query(
            "INSERT INTO activity_index_pauses SELECT ?1, ?2 WHERE ?2 > ?3
             ON CONFLICT (tenant_id) DO UPDATE SET until_us = MAX(until_us, excluded.until_us)",
        )
        .bind(tenant.as_str())
        .bind(to_microseconds(until).as_microsecond())
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(error)?;
        transaction.commit().await.map_err(error)
    }
}
