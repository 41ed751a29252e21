//! Claims in Redis: a script for each step, by the server's clock, each on one shard.

mod claim;
mod due;
mod hold;

use std::ops::Deref;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use redis::Script;

use super::RedisGeneration;
use super::keys::{ClaimKeys, Keys, member};
use crate::account::{CacheKey, TenantId};
use crate::backend::{BackendError, Trouble};
use crate::index::due_page::{Candidate, Candidates};
use crate::index::{
    Claim, ClaimError, ClaimRequest, Claims, Completion, Cursor, DuePage, DueRequest, HeldClaim, Renewed, Schedule,
    claiming, due_page,
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
}

impl ClaimScripts {
    pub(super) fn new() -> Self {
        Self {
            claim: Script::new(concat!(
                include_str!("../first.lua"),
                include_str!("shared.lua"),
                include_str!("pick.lua"),
                include_str!("claim.lua")
            )),
            look: Script::new(concat!(
                include_str!("../first.lua"),
                include_str!("shared.lua"),
                include_str!("pick.lua"),
                include_str!("look.lua")
            )),
            named: Script::new(concat!(
                include_str!("../first.lua"),
                include_str!("shared.lua"),
                include_str!("named.lua")
            )),
            correct: Script::new(concat!(include_str!("../first.lua"), include_str!("correct.lua"))),
            renew: Script::new(include_str!("renew.lua")),
            complete: Script::new(concat!(include_str!("../first.lua"), include_str!("complete.lua"))),
            release: Script::new(concat!(include_str!("../first.lua"), include_str!("release.lua"))),
            schedule: Script::new(concat!(include_str!("../first.lua"), include_str!("schedule.lua"))),
            pause: Script::new(include_str!("pause.lua")),
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

/// The claims of one shard.
#[derive(Debug, Clone, Copy)]
struct ClaimShard<'a> {
    index: &'a RedisGeneration,
    keys: &'a Keys,
    claim_keys: &'a ClaimKeys,
}

impl Deref for ClaimShard<'_> {
    type Target = RedisGeneration;

    fn deref(&self) -> &RedisGeneration {
        self.index
    }
}

impl RedisGeneration {
    fn claim_shards(&self) -> impl Iterator<Item = ClaimShard<'_>> + Clone {
        self.shards.all().iter().map(|keys| ClaimShard { index: self, keys, claim_keys: keys.claims() })
    }

    fn claim_shard_of(&self, cache_key: &CacheKey) -> ClaimShard<'_> {
        let keys = self.shards.of(&member(cache_key));
        ClaimShard { index: self, keys, claim_keys: keys.claims() }
    }
}

#[async_trait]
impl Claims for RedisGeneration {
    /// From any shard on, so that no shard has to wait for the others. Each is fair, and spreads its tenants evenly.
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, ClaimError> {
        claiming::check(request)?;
        let shards = self.shards.all().len();
        let mut claims = Vec::new();
        for shard in self.claim_shards().cycle().skip(rand::random_range(0..shards)).take(shards) {
            let rest = ClaimRequest { limit: request.limit - claims.len(), ..request.clone() };
            match shard.claim_in_rounds(&rest).await {
                Ok(more) => claims.extend(more),
                // What was claimed has to reach the worker; the shard that failed is asked by the next call.
                Err(error) if claims.is_empty() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "a shard could not be asked for claims");
                    break;
                }
            }
            if claims.len() == request.limit {
                break;
            }
        }
        if shards > 1 {
            claims.sort_by_key(|claim| claim.due.at);
        }
        Ok(claims)
    }

    async fn renew(&self, held: &HeldClaim, lease: Duration) -> Result<Renewed, ClaimError> {
        claiming::check_lease(lease)?;
        let renewed = self.claim_shard_of(&held.cache_key).renew_one(held, lease).await?;
        renewed.ok_or(ClaimError::Lost { fence: held.fence })
    }

    async fn complete(&self, held: &HeldClaim, outcome: &Completion) -> Result<(), ClaimError> {
        let is_held = self.claim_shard_of(&held.cache_key).complete_one(held, outcome).await?;
        if is_held { Ok(()) } else { Err(ClaimError::Lost { fence: held.fence }) }
    }

    async fn release(&self, held: &[HeldClaim]) -> Result<usize, BackendError> {
        let places = self.shards.places(held.iter().map(|held| &held.cache_key));
        let mut count = 0;
        for (shard, places) in self.claim_shards().zip(places) {
            for some in places.chunks(hold::RELEASED_AT_ONCE) {
                count += shard.release_some(some.iter().map(|(place, _)| &held[*place])).await?;
            }
        }
        Ok(count)
    }

    async fn schedule(&self, cache_key: &CacheKey, schedule: Option<&Schedule>) -> Result<(), BackendError> {
        self.claim_shard_of(cache_key).schedule_one(cache_key, schedule).await
    }

    async fn pause(&self, tenant: &TenantId, until: Timestamp) -> Result<(), BackendError> {
        try_join_all(self.claim_shards().map(|shard| async move { shard.pause_tenant(tenant, until).await })).await?;
        Ok(())
    }

    async fn forget_hold(&self, cache_key: &CacheKey) -> Result<(), BackendError> {
        self.claim_shard_of(cache_key).forget_one(cache_key).await
    }

    async fn forget(&self, cache_key: &CacheKey) -> Result<(), BackendError> {
        self.claim_shard_of(cache_key).forget_all_of(cache_key).await
    }

    async fn due(&self, request: &DueRequest) -> Result<DuePage, ClaimError> {
        due_page::page(self, &self.due_policy().await?, request).await
    }
}

impl Candidates for RedisGeneration {
    async fn candidates(
        &self,
        request: &DueRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Vec<Candidate>, ClaimError> {
        let shards = self.claim_shards().map(|shard| async move { shard.candidates(request, after, count).await });
        let mut all: Vec<Candidate> = try_join_all(shards).await?.into_iter().flatten().collect();
        all.sort_by(|one, other| (one.place.micros, &one.place.member).cmp(&(other.place.micros, &other.place.member)));
        all.truncate(count);
        Ok(all)
    }
}
