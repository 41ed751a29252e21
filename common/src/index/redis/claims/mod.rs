//! Claims in Redis: a script for each step, by the server's clock, each on one shard.

mod claim;
mod due;
mod hold;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::Script;

use super::RedisGeneration;
use crate::account::{CacheKey, TenantId};
use crate::backend::{BackendError, Trouble};
use crate::index::{
    Claim, ClaimError, ClaimRequest, Claims, Completion, DuePage, DueRequest, HeldClaim, Renewed, claiming, due_page,
};

#[derive(Debug)]
pub(super) struct ClaimScripts {
    claim: Script,
    look: Script,
    named: Script,
    correct: Script,
    renew: Script,
    complete: Script,
    release: Script,
    schedule: Script,
    pause: Script,
    heads: Script,
}

impl ClaimScripts {
    pub(super) fn new() -> Self {
        Self {
            claim: Script::new(concat!(
                include_str!("shared.lua"),
                include_str!("pick.lua"),
                include_str!("claim.lua")
            )),
            look: Script::new(concat!(include_str!("shared.lua"), include_str!("pick.lua"), include_str!("look.lua"))),
            named: Script::new(concat!(include_str!("shared.lua"), include_str!("named.lua"))),
            correct: Script::new(include_str!("correct.lua")),
            renew: Script::new(include_str!("renew.lua")),
            complete: Script::new(include_str!("complete.lua")),
            release: Script::new(include_str!("release.lua")),
            schedule: Script::new(include_str!("schedule.lua")),
            pause: Script::new(include_str!("pause.lua")),
            heads: Script::new(include_str!("heads.lua")),
        }
    }
}

impl RedisGeneration {
    /// A time as a script gives it.
    fn time(&self, micros: i64) -> Result<Timestamp, BackendError> {
        Timestamp::from_microsecond(micros).map_err(|e| {
            BackendError::new(Trouble::Corrupt, self.pool.address(), "a time of a claim cannot be read", e)
        })
    }
}

#[async_trait]
impl Claims for RedisGeneration {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, ClaimError> {
        claiming::check(request)?;
        Ok(self.claim_in_rounds(request).await?)
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
        let mut count = 0;
        for some in held.chunks(hold::RELEASED_AT_ONCE) {
            count += self.release_some(some).await?;
        }
        Ok(count)
    }

    async fn schedule(&self, cache_key: &CacheKey, at: Option<Timestamp>) -> Result<(), BackendError> {
        self.schedule_one(cache_key, at).await
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
        due_page::page(self, &self.due_policy().await?, request).await
    }
}
