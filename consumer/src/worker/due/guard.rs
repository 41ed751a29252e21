//! The claim on one account, as what is done under it sees it: renewed, asked before a refresh, and lost at most once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::identity::Denied;
use common::index::{ClaimError, Claims, Fence, HeldClaim, Renewed};
use tokio::time::{Instant, sleep};

/// How much of a lease must be left for a refresh to begin while the claim cannot be renewed: a refresh takes about as
/// long as that, and what it writes is fenced if it takes longer.
const LEFT_TO_BEGIN: Duration = Duration::from_secs(5);

/// A claim that is worked under.
pub(in crate::worker) struct ClaimGuard {
    claims: Arc<dyn Claims>,
    held: HeldClaim,
    lease: Duration,
    /// Until when the claim is held for sure, by this process's clock.
    held_until: Mutex<Instant>,
}

impl ClaimGuard {
    /// Under a claim that was asked for at `asked_at`.
    pub(in crate::worker) fn new(claims: Arc<dyn Claims>, held: HeldClaim, lease: Duration, asked_at: Instant) -> Self {
        Self { claims, held, lease, held_until: Mutex::new(asked_at + lease) }
    }

    pub(in crate::worker) fn fence(&self) -> Fence {
        self.held.fence
    }

    pub(super) fn held(&self) -> &HeldClaim {
        &self.held
    }

    /// Whether a refresh token may be redeemed now: the claim is held, and the tenant is not left alone.
    pub(in crate::worker) async fn may_refresh(&self) -> Result<(), Denied> {
        match self.renew().await {
            Ok(Renewed { paused_until: Some(until), .. }) => Err(Denied::Paused { until }),
            Ok(_) => Ok(()),
            Err(error) if !error.is_lost() && self.left() >= LEFT_TO_BEGIN.min(self.lease / 2) => {
                tracing::warn!(%error, cache_key = %self.held.cache_key, "a claim was not renewed yet");
                Ok(())
            }
            Err(_) => Err(Denied::ClaimLost),
        }
    }

    /// Whether the claim is another worker's by now, or may be.
    pub(in crate::worker) async fn is_lost(&self) -> bool {
        match self.renew().await {
            Ok(_) => false,
            Err(error) => error.is_lost() || self.left().is_zero(),
        }
    }

    /// Keeps the claim; returns when it is lost.
    pub(super) async fn keep(&self) {
        loop {
            sleep(self.lease / 3).await;
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, cache_key = %self.held.cache_key, "a claim was not renewed");
                if error.is_lost() {
                    return;
                }
            }
        }
    }

    async fn renew(&self) -> Result<Renewed, ClaimError> {
        let asked_at = Instant::now();
        let renewed = self.claims.renew(&self.held, self.lease).await?;
        let mut held_until = self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        *held_until = (asked_at + self.lease).max(*held_until);
        Ok(renewed)
    }

    fn left(&self) -> Duration {
        let held_until = *self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        held_until.saturating_duration_since(Instant::now())
    }
}

impl fmt::Debug for ClaimGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimGuard").field("held", &self.held).finish_non_exhaustive()
    }
}
