//! One refresh of a blob at a time, in this process and among those that share the lock.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Inner;
use super::error::AcquireError;
use crate::account::CacheKey;
use crate::token_cache::RefreshPermit;

/// How long a refresh may take beside its two calls to the provider: the patience of a write back.
const BESIDE_CALLS: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

impl Inner {
    /// Does `work` when nobody else refreshes the blob under `key`. `work` reads the blob anew.
    pub(super) async fn exclusively<T>(
        &self,
        key: &CacheKey,
        work: impl Future<Output = Result<T, AcquireError>>,
    ) -> Result<T, AcquireError> {
        let _turn = self.turns.wait(key).await;
        let permit = self.acquire_lock(key).await?;
        let outcome = work.await;
        self.release_lock(key, permit).await;
        outcome
    }

    /// Waits while another process refreshes: as long as it may, and no longer.
    async fn acquire_lock(&self, key: &CacheKey) -> Result<Option<RefreshPermit>, AcquireError> {
        let Some(lock) = &self.lock else {
            return Ok(None);
        };
        let hold = self.client.timeout() * 2 + BESIDE_CALLS;
        let deadline = Instant::now() + hold;
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(permit) = lock.try_acquire(key, hold).await? {
                return Ok(Some(permit));
            }
            if Instant::now() >= deadline {
                return Err(AcquireError::Busy);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn release_lock(&self, key: &CacheKey, permit: Option<RefreshPermit>) {
        if let (Some(lock), Some(permit)) = (&self.lock, permit)
            && let Err(error) = lock.release(key, &permit).await
        {
            tracing::warn!(%error, "the refresh lock ends with its time");
        }
    }
}
