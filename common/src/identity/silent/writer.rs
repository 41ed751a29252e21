//! The port to write back by: whoever acts attaches their own event.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::token_cache::WriteOutcome;

/// Writes a refreshed blob: the web side with a `user-activity` event, a worker with a `hydrated` event.
#[async_trait]
pub trait CacheWriter: Send + Sync + fmt::Debug {
    /// Asked right before a refresh token is redeemed, when it is this caller's turn.
    ///
    /// # Errors
    /// [`Denied`]: the token is not redeemed then.
    async fn may_refresh(&self, _key: &CacheKey) -> Result<(), Denied> {
        Ok(())
    }

    /// Writes `blob` while exactly `read` is stored, or nothing where `read` is `None`, and the event with it.
    ///
    /// # Errors
    /// [`BackendError`]; a write that timed out may have happened.
    ///
    /// # Cancel safety
    /// A dropped call may still write.
    async fn write_back(&self, key: &CacheKey, read: Option<&[u8]>, blob: &[u8]) -> Result<WriteOutcome, BackendError>;
}

/// A refresh is not to happen, or its answer not to be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The account is another worker's by now.
    #[error("the claim on the account is not held any more; another worker has it")]
    ClaimLost,
    /// The identity provider asked to be left alone.
    #[error("the account's tenant is left alone until {until}")]
    Paused {
        /// Until when.
        until: Timestamp,
    },
}
