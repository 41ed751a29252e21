//! The worker's write: the refreshed blob and its `hydrated` event, in one atomic operation.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use common::account::CacheKey;
use common::backend::BackendError;
use common::event::{AccountDetails, Activity, EventDraft, EventSource};
use common::identity::{CacheWriter, Clock, Denied};
use common::token_cache::msal::TokenCacheBlob;
use common::token_cache::{CacheWrite, ExpiryChange, Precondition, TokenCacheStore, WriteOutcome};

use super::due::ClaimGuard;

/// Writes back the blob of one account.
pub(super) struct HydrationWriter {
    pub(super) store: Arc<dyn TokenCacheStore>,
    pub(super) source: EventSource,
    pub(super) clock: Clock,
    /// What the index says of the account. What only the web app can know stays as it is said there: the properties,
    /// and the username in the form the web app chose.
    pub(super) known: AccountDetails,
    pub(super) has_written: AtomicBool,
    /// The claim under which it writes.
    pub(super) claim: Option<Arc<ClaimGuard>>,
}

impl HydrationWriter {
    /// What the event says: what is known, with the tokens as they are in the new blob.
    fn details(&self, blob: &[u8]) -> AccountDetails {
        let mut details = self.known.clone();
        // The life of a new refresh token is in no blob.
        details.refresh_token_expires_on = None;
        if let Ok(blob) = TokenCacheBlob::parse(blob) {
            let summary = blob.summary(self.known.home_account_id.as_str(), self.clock.unix_seconds());
            details.access_token_expires_on = summary.access_token_expires_on;
            details.has_refresh_token = summary.has_refresh_token;
        }
        details
    }
}

#[async_trait]
impl CacheWriter for HydrationWriter {
    async fn may_refresh(&self, _key: &CacheKey) -> Result<(), Denied> {
        match &self.claim {
            Some(claim) => claim.may_refresh().await,
            None => Ok(()),
        }
    }

    async fn write_back(&self, key: &CacheKey, read: Option<&[u8]>, blob: &[u8]) -> Result<WriteOutcome, BackendError> {
        // A worker has read a blob, or it has nothing to refresh: it never makes one.
        let Some(read) = read else {
            return Ok(WriteOutcome::Conflict);
        };
        let event = EventDraft::new(self.source.clone(), key.clone(), Activity::Hydrated(self.details(blob)));
        let precondition = Precondition::Unchanged(read);
        let fence = self.claim.as_ref().map(|claim| claim.fence());
        let write = CacheWrite { key, blob, expiry: ExpiryChange::Kept, precondition, event: Some(&event), fence };
        let outcome = self.store.write(write).await?;
        self.has_written.fetch_or(outcome == WriteOutcome::Written, Ordering::SeqCst);
        Ok(outcome)
    }
}

impl fmt::Debug for HydrationWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HydrationWriter").field("source", &self.source).finish_non_exhaustive()
    }
}
