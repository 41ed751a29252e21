//! The port to write back by: whoever acts attaches their own event.

use std::fmt;

use async_trait::async_trait;

use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::token_cache::WriteOutcome;

/// Writes a refreshed blob: the web side with a `user-activity` event, a worker with a `hydrated` event.
#[async_trait]
pub trait CacheWriter: Send + Sync + fmt::Debug {
    /// Writes `blob` while exactly `read` is stored, or nothing where `read` is `None`, and the event with it.
    ///
    /// # Errors
    /// [`BackendError`]; a write that timed out may have happened.
    ///
    /// # Cancel safety
    /// A dropped call may still write.
    async fn write_back(&self, key: &CacheKey, read: Option<&[u8]>, blob: &[u8]) -> Result<WriteOutcome, BackendError>;
}
