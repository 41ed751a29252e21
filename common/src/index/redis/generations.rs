//! The generations of the index in Redis: which there are, and how one is deleted.

use std::sync::Arc;

use redis::AsyncCommands as _;

use super::keys::{self, Keys};
use super::layout::Layouts;
use super::policies::DuePolicies;
use super::shards::Shards;
use super::{RedisGeneration, Scripts, check};
use crate::backend::{BackendError, Trouble};
use crate::index::live::Generational;
use crate::index::{DuePolicy, Generations};
use crate::redis_pool::RedisPool;

/// How many keys are looked at, and unlinked, at once.
const STEP: usize = 1_000;

/// All generations under one prefix.
#[derive(Debug, Clone)]
pub struct RedisGenerations {
    pool: RedisPool,
    prefix: Arc<str>,
    shards: u32,
    scripts: Arc<Scripts>,
    policies: DuePolicies,
    layouts: Layouts,
}

impl RedisGenerations {
    pub(super) fn new(pool: RedisPool, prefix: &str, shards: u32, scripts: Scripts) -> Self {
        let policies = DuePolicies::new(pool.clone(), prefix);
        Self { pool, prefix: prefix.into(), shards, scripts: Arc::new(scripts), policies, layouts: Layouts::default() }
    }

    /// The generations, and the text they are kept as, which may not be there yet.
    async fn stored(&self) -> Result<(Generations, String), BackendError> {
        let mut connection = self.pool.get().await?;
        let fields = ["generations", "generation"];
        let (text, live): (Option<String>, Option<u32>) =
            connection.hmget(keys::meta(&self.prefix), &fields).await.map_err(|e| self.pool.error(e))?;
        let Some(live) = live else {
            return Ok((Generations::only(self.begin_again().await?), String::new()));
        };
        let Some(text) = text else { return Ok((Generations::only(live), String::new())) };
        let unreadable = "the generations of the index cannot be read";
        let generations = serde_json::from_str(&text)
            .map_err(|e| BackendError::new(Trouble::Corrupt, self.pool.address(), unreadable, e))?;
        Ok((generations, text))
    }

    /// Redis has lost everything: the log fills an empty index again.
    async fn begin_again(&self) -> Result<u32, BackendError> {
        Ok(check::open(&self.pool, &self.prefix, Some(self.shards)).await?.live)
    }

    fn shards(&self, number: u32) -> Shards {
        Shards::new(&self.prefix, number, self.shards)
    }

    /// Deletes what a shard holds but for the mark that says so.
    async fn delete_shard(&self, keys: &Keys) -> Result<(), BackendError> {
        let mut connection = self.pool.get().await?;
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(keys.pattern()).arg("COUNT").arg(STEP);
            let (next, mut found): (String, Vec<Vec<u8>>) = self.pool.at_slot_of(keys.dropped(), scan).await?;
            found.retain(|key| key != keys.dropped().as_bytes());
            if !found.is_empty() {
                let _: () = connection.unlink(&found).await.map_err(|e| self.pool.error(e))?;
            }
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

impl Generational for RedisGenerations {
    type Generation = RedisGeneration;

    fn at(&self, number: u32) -> RedisGeneration {
        RedisGeneration {
            pool: self.pool.clone(),
            shards: self.shards(number),
            scripts: Arc::clone(&self.scripts),
            policies: self.policies.clone(),
            layouts: self.layouts.clone(),
            number,
        }
    }

    async fn live(&self) -> Result<u32, BackendError> {
        let mut connection = self.pool.get().await?;
        let live: Option<u32> =
            connection.hget(keys::meta(&self.prefix), "generation").await.map_err(|e| self.pool.error(e))?;
        match live {
            Some(live) => Ok(live),
            None => self.begin_again().await,
        }
    }

    async fn read(&self) -> Result<Generations, BackendError> {
        Ok(self.stored().await?.0)
    }

    async fn change(&self, from: &Generations, to: &Generations) -> Result<bool, BackendError> {
        let (stored, text) = self.stored().await?;
        if stored != *from {
            return Ok(false);
        }
        let unwritable = |e| BackendError::new(Trouble::Refused, self.pool.address(), "cannot be written", e);
        let new = serde_json::to_string(to).map_err(unwritable)?;
        let mut call = self.scripts.change.prepare_invoke();
        call.key(keys::meta(&self.prefix)).arg(text).arg(new).arg(to.live);
        let mut connection = self.pool.get().await?;
        call.invoke_async(&mut *connection).await.map_err(|e| self.pool.error(e))
    }

    async fn due_policy(&self, number: u32, wanted: &DuePolicy) -> Result<DuePolicy, BackendError> {
        self.policies.of(number, wanted).await
    }

    /// First every shard is marked, so that nothing is written to it any more. The marks stay.
    async fn delete(&self, number: u32) -> Result<(), BackendError> {
        let shards = self.shards(number);
        let mut connection = self.pool.get().await?;
        for keys in shards.all() {
            let _: () = connection.set(keys.dropped(), 1).await.map_err(|e| self.pool.error(e))?;
        }
        drop(connection);
        for keys in shards.all() {
            self.delete_shard(keys).await?;
            self.layouts.forget(keys);
        }
        self.policies.forget(number).await
    }

    fn address(&self) -> &str {
        self.pool.address()
    }
}
