//! By which policy each generation was built: beside the pointer to the live one, and remembered here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use redis::AsyncCommands as _;

use super::keys;
use crate::backend::{BackendError, Trouble};
use crate::index::DuePolicy;
use crate::redis_pool::RedisPool;

/// The policies under one prefix. A generation has one for its life, so none is asked for twice.
#[derive(Debug, Clone)]
pub(super) struct DuePolicies {
    pool: RedisPool,
    meta: String,
    known: Arc<Mutex<HashMap<u32, DuePolicy>>>,
}

impl DuePolicies {
    pub(super) fn new(pool: RedisPool, prefix: &str) -> Self {
        Self { pool, meta: keys::meta(prefix), known: Arc::default() }
    }

    /// The policy of a generation; `wanted`, where it has none yet.
    pub(super) async fn of(&self, generation: u32, wanted: &DuePolicy) -> Result<DuePolicy, BackendError> {
        if let Some(policy) = self.remembered(generation) {
            return Ok(policy);
        }
        let policy = self.agreed(generation, wanted).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(generation, policy);
        Ok(policy)
    }

    fn remembered(&self, generation: u32) -> Option<DuePolicy> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&generation).copied()
    }

    async fn agreed(&self, generation: u32, wanted: &DuePolicy) -> Result<DuePolicy, BackendError> {
        let address = self.pool.address();
        let text = serde_json::to_string(wanted)
            .map_err(|e| BackendError::new(Trouble::Refused, address, "the due policy cannot be written", e))?;
        let field = keys::due_policy_field(generation);
        let mut connection = self.pool.get().await?;
        let (_, stored): (u8, String) = redis::pipe()
            .hset_nx(&self.meta, &field, text)
            .hget(&self.meta, &field)
            .query_async(&mut *connection)
            .await
            .map_err(|e| self.pool.error(e))?;
        serde_json::from_str(&stored)
            .map_err(|e| BackendError::new(Trouble::Corrupt, address, "the due policy of the index cannot be read", e))
    }

    /// Forgets the policy of a deleted generation.
    pub(super) async fn forget(&self, generation: u32) -> Result<(), BackendError> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&generation);
        let mut connection = self.pool.get().await?;
        let field = keys::due_policy_field(generation);
        connection.hdel(&self.meta, field).await.map_err(|e| self.pool.error(e))
    }
}
