//! The port that keeps two processes from refreshing one blob at the same time.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::account::CacheKey;
use crate::backend::BackendError;

/// Exclusive rights to refresh, beside the blobs.
///
/// Compare-and-set alone keeps a blob whole; but a provider that takes each refresh token once ends the whole sign-in
/// when two processes send it the same one. Programs that do not know the lock (other MSAL libraries) are not kept out.
#[async_trait]
pub trait RefreshLock: Send + Sync + fmt::Debug {
    /// Takes the right to refresh the blob under `key`, for at most `hold`; `None` where somebody else has it.
    ///
    /// # Errors
    /// [`BackendError`].
    ///
    /// # Cancel safety
    /// A dropped call may have taken the right; it ends after `hold`.
    async fn try_acquire(&self, key: &CacheKey, hold: Duration) -> Result<Option<RefreshPermit>, BackendError>;

    /// Gives the right back before its time. A permit whose time is over gives nobody else's back.
    ///
    /// # Errors
    /// [`BackendError`]; the right then ends with its time.
    async fn release(&self, key: &CacheKey, permit: &RefreshPermit) -> Result<(), BackendError>;
}

/// Proves that the right to refresh was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshPermit(String);

impl RefreshPermit {
    /// A permit unlike any other.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The text to store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
