//! What becomes of a claim, and what holds accounts back.

use std::time::Duration;

use jiff::Timestamp;
use redis::{AsyncCommands as _, FromRedisValue, ScriptInvocation};

use super::super::keys::member;
use super::ClaimShard;
use super::claim::member_of;
use crate::account::{CacheKey, TenantId};
use crate::backend::BackendError;
use crate::event::to_microseconds;
use crate::index::claiming::micros;
use crate::index::{Completion, HeldClaim, JobReason, Renewed, Schedule};

/// How many claims one script gives back.
pub(super) const RELEASED_AT_ONCE: usize = 1_000;

/// What the script that gives back takes for every worker; no worker's name has a control character.
const ANYBODY: &str = "\n";

impl ClaimShard<'_> {
    pub(super) async fn claims_call<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, BackendError> {
        let mut connection = self.pool.get().await?;
        call.invoke_async(&mut *connection).await.map_err(|e| self.pool.error(e))
    }

    /// `None` where it is not held.
    pub(super) async fn renew_one(&self, held: &HeldClaim, lease: Duration) -> Result<Option<Renewed>, BackendError> {
        let mut call = self.scripts.claims.renew.prepare_invoke();
        call.key(&self.claim_keys.holds).key(&self.claim_keys.paused);
        call.arg(&member_of(held)[..]).arg(held.worker.as_str()).arg(held.fence.0).arg(micros(lease));
        let renewed: Option<(i64, String)> = self.claims_call(&call).await?;
        let Some((until, paused)) = renewed else { return Ok(None) };
        let paused = if paused.is_empty() { None } else { Some(self.micros_of(&paused)?) };
        let paused_until = paused.map(|micros| self.time(micros)).transpose()?;
        Ok(Some(Renewed { lease_until: self.time(until)?, paused_until }))
    }

    /// A score as Redis writes it.
    pub(super) fn micros_of(&self, score: &str) -> Result<i64, BackendError> {
        let number: Option<f64> = score.parse().ok();
        Ok(number.ok_or_else(|| self.corrupt("a time of a claim is no number"))? as i64)
    }

    /// The keys of the lists an account is in, and of what is held.
    fn lists_call(&self, call: &mut ScriptInvocation<'_>) {
        let claims = &self.claim_keys;
        call.key(self.keys.due_tenants()).key(&claims.scheduled).key(&claims.schedules);
        call.key(&claims.holds).key(&claims.aside);
    }

    /// Says whether it was held.
    pub(super) async fn complete_one(&self, held: &HeldClaim, outcome: &Completion) -> Result<bool, BackendError> {
        let mut call = self.scripts.claims.complete.prepare_invoke();
        self.lists_call(&mut call);
        let (word, not_before) = match outcome {
            Completion::Settled { next } => ("settled", *next),
            Completion::Failed { not_before } => ("failed", *not_before),
            Completion::Gone => ("gone", None),
        };
        call.arg(&member_of(held)[..]).arg(held.worker.as_str()).arg(held.fence.0);
        call.arg(word).arg(micros(Completion::SETTLING));
        call.arg(not_before.map_or(0, |at| to_microseconds(at).as_microsecond()));
        call.arg(micros(Completion::FIRST_BACK_OFF)).arg(micros(Completion::LONGEST_BACK_OFF));
        call.arg(rand::random::<f64>());
        self.claims_call(&call).await
    }

    /// Says how many of them were held.
    pub(super) async fn release_some<'h>(
        &self,
        held: impl Iterator<Item = &'h HeldClaim>,
    ) -> Result<usize, BackendError> {
        let mut call = self.scripts.claims.release.prepare_invoke();
        self.lists_call(&mut call);
        for held in held {
            call.arg(&member_of(held)[..]).arg(held.worker.as_str()).arg(held.fence.0);
        }
        self.claims_call(&call).await
    }

    pub(super) async fn forget_one(&self, cache_key: &CacheKey) -> Result<(), BackendError> {
        let mut call = self.scripts.claims.release.prepare_invoke();
        self.lists_call(&mut call);
        call.arg(&member(cache_key)[..]).arg("").arg("");
        self.claims_call::<usize>(&call).await.map(drop)
    }

    /// Whoever has it gets it back to its place first, so that it is due as its record says.
    pub(super) async fn forget_all_of(&self, cache_key: &CacheKey) -> Result<(), BackendError> {
        self.schedule_one(cache_key, None).await?;
        let member = member(cache_key);
        let mut call = self.scripts.claims.release.prepare_invoke();
        self.lists_call(&mut call);
        call.arg(&member[..]).arg(ANYBODY).arg("");
        let _: usize = self.claims_call(&call).await?;
        let mut connection = self.pool.get().await?;
        redis::pipe()
            .hdel(&self.claim_keys.holds, &member[..])
            .zrem(&self.claim_keys.aside, &member[..])
            .exec_async(&mut *connection)
            .await
            .map_err(|e| self.pool.error(e))
    }

    pub(super) async fn schedule_one(
        &self,
        cache_key: &CacheKey,
        schedule: Option<&Schedule>,
    ) -> Result<(), BackendError> {
        let member = member(cache_key);
        let mut connection = self.pool.get().await?;
        let record: Option<Vec<u8>> =
            connection.hget(self.keys.accounts(), &member[..]).await.map_err(|e| self.pool.error(e))?;
        let account = record.map(|record| self.decode(&member, &record)).transpose()?;
        let tenant = account.as_ref().and_then(|account| account.tenant_id()).map_or("", TenantId::as_str);
        let mut call = self.scripts.claims.schedule.prepare_invoke();
        call.key(&self.claim_keys.scheduled).key(&self.claim_keys.schedules);
        call.arg(&member[..]).arg(tenant);
        let at = |schedule: &Schedule| to_microseconds(schedule.at).as_microsecond().max(0).to_string();
        let reason = schedule.and_then(|schedule| schedule.reason.as_ref());
        call.arg(schedule.map(at).unwrap_or_default()).arg(reason.map_or("", JobReason::as_str));
        call.invoke_async(&mut *connection).await.map_err(|e| self.pool.error(e))
    }

    pub(super) async fn pause_tenant(&self, tenant: &TenantId, until: Timestamp) -> Result<(), BackendError> {
        let mut call = self.scripts.claims.pause.prepare_invoke();
        call.key(&self.claim_keys.paused).arg(tenant.as_str()).arg(to_microseconds(until).as_microsecond());
        self.claims_call(&call).await
    }
}
