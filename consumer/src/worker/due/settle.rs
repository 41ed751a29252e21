//! What a settlement does to the claim and its tenant.

use common::account::TenantId;
use common::index::{ClaimError, Claims, Completion, HeldClaim, Schedule};
use jiff::{SignedDuration, Timestamp};

use super::outcome::{PAUSE_UNSAID, Settlement};

impl Settlement {
    /// Does it, once. Doing it again after an error is right.
    pub(crate) async fn apply(
        self,
        claims: &dyn Claims,
        held: &HeldClaim,
        tenant: Option<&TenantId>,
    ) -> Result<(), ClaimError> {
        match self {
            Self::Complete(completion) => claims.complete(held, &completion).await,
            Self::Throttled { until } => {
                pause(claims, tenant, until).await?;
                claims.complete(held, &Completion::Failed { not_before: until }).await
            }
            Self::JobAgain => {
                // Why it was scheduled before, if it was, stays.
                claims.schedule(&held.cache_key, Some(&Schedule::at(Timestamp::now()))).await?;
                claims.complete(held, &Completion::Failed { not_before: None }).await
            }
            Self::Release => Ok(claims.release(std::slice::from_ref(held)).await.map(drop)?),
            Self::Nothing => Ok(()),
        }
    }
}

/// Leaves a tenant alone, for all workers, because the provider asked for it.
pub(crate) async fn pause(
    claims: &dyn Claims,
    tenant: Option<&TenantId>,
    until: Option<Timestamp>,
) -> Result<(), ClaimError> {
    let Some(tenant) = tenant else { return Ok(()) };
    let unsaid = || Timestamp::now().checked_add(SignedDuration::from_secs(PAUSE_UNSAID.as_secs() as i64));
    let until = until.unwrap_or_else(|| unsaid().unwrap_or(Timestamp::MAX));
    tracing::warn!(%tenant, %until, "the identity provider asked to be left alone");
    Ok(claims.pause(tenant, until).await?)
}
