//! The index as its users see it: whichever generation is live, with no restart when that changes.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    AccountActivity, ActivityStore, Checkpoint, Claim, ClaimError, ClaimRequest, Claims, Completion, Counts, DuePage,
    DuePolicy, DueRequest, Generations, HeldClaim, IndexGenerations, IndexUpkeep, ListError, ListRequest, Page,
    Renewed, Schedule,
};
use crate::account::{CacheKey, TenantId};
use crate::backend::{BackendError, Trouble};

/// How often one call may meet a swap.
const MOST_SWAPS: usize = 5;

/// A server that keeps generations.
pub(crate) trait Generational: Clone + fmt::Debug + Send + Sync + 'static {
    /// One of them.
    type Generation: IndexUpkeep + Claims + Clone + 'static;

    /// The generation with this number.
    fn at(&self, number: u32) -> Self::Generation;

    /// The number of the live one.
    fn live(&self) -> impl Future<Output = Result<u32, BackendError>> + Send;

    /// See [`IndexGenerations::generations`].
    fn read(&self) -> impl Future<Output = Result<Generations, BackendError>> + Send;

    /// See [`IndexGenerations::change`].
    fn change(&self, from: &Generations, to: &Generations) -> impl Future<Output = Result<bool, BackendError>> + Send;

    /// See [`IndexGenerations::due_policy`].
    fn due_policy(
        &self,
        number: u32,
        wanted: &DuePolicy,
    ) -> impl Future<Output = Result<DuePolicy, BackendError>> + Send;

    /// See [`IndexGenerations::delete`].
    fn delete(&self, number: u32) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// The address to show.
    fn address(&self) -> &str;
}

/// An index and its generations. Clones share what they know.
///
/// An answer is given only if the generation it came from was still live after it had answered, so nobody sees one
/// that is half built, or half deleted, however late a swap is noticed.
#[derive(Debug, Clone)]
pub struct LiveIndex<B> {
    pub(super) backend: B,
    /// The generation that was live when it was last asked.
    seen: Arc<AtomicU32>,
}

impl<B> LiveIndex<B> {
    pub(super) fn new(backend: B, live: u32) -> Self {
        Self { backend, seen: Arc::new(AtomicU32::new(live)) }
    }
}

macro_rules! in_live {
    ($self:ident, $generation:ident => $ask:expr) => {
        in_live!($self, $generation => $ask, else |_answer| {})
    };
    ($self:ident, $generation:ident => $ask:expr, else |$stale:ident $(: $kind:ty)?| $undo:block) => {{
        for _ in 0..MOST_SWAPS {
            let number = $self.seen.load(Ordering::Relaxed);
            let $generation = $self.backend.at(number);
            let answer = $ask.await;
            if answer.as_ref().is_err_and(|error| error.is_transient()) {
                return answer;
            }
            let live = $self.backend.live().await?;
            if live == number {
                return answer;
            }
            $self.seen.store(live, Ordering::Relaxed);
            if let Ok(answer) = answer {
                let $stale $(: $kind)? = answer;
                $undo
            }
        }
        let message = "generations of the index are swapped again and again; try later";
        Err(BackendError::plain(Trouble::Unavailable, $self.backend.address(), message).into())
    }};
}

#[async_trait]
impl<B: Generational> ActivityStore for LiveIndex<B> {
    async fn apply(&self, changes: &[AccountActivity]) -> Result<(), BackendError> {
        in_live!(self, generation => generation.apply(changes))
    }

    async fn get(&self, cache_key: &CacheKey) -> Result<Option<AccountActivity>, BackendError> {
        in_live!(self, generation => generation.get(cache_key))
    }

    async fn list(&self, request: &ListRequest) -> Result<Page, ListError> {
        in_live!(self, generation => generation.list(request))
    }

    async fn counts(&self, tenant: Option<&TenantId>) -> Result<Counts, BackendError> {
        in_live!(self, generation => generation.counts(tenant))
    }

    async fn checkpoint(&self, partition: u32) -> Result<Option<Checkpoint>, BackendError> {
        in_live!(self, generation => generation.checkpoint(partition))
    }

    /// Of the generation that is live now. One who applies before should [pin](ActivityStore::pin).
    async fn store_checkpoint(&self, partition: u32, checkpoint: Checkpoint) -> Result<(), BackendError> {
        let live = self.backend.live().await?;
        self.backend.at(live).store_checkpoint(partition, checkpoint).await
    }

    async fn pin(&self) -> Result<Option<Arc<dyn ActivityStore>>, BackendError> {
        let number = self.backend.live().await?;
        self.seen.store(number, Ordering::Relaxed);
        Ok(Some(Arc::new(Pinned { backend: self.backend.clone(), number })))
    }
}

#[async_trait]
impl<B: Generational> IndexGenerations for LiveIndex<B> {
    async fn generations(&self) -> Result<Generations, BackendError> {
        self.backend.read().await
    }

    async fn change(&self, from: &Generations, to: &Generations) -> Result<bool, BackendError> {
        let is_changed = self.backend.change(from, to).await?;
        if is_changed {
            self.seen.store(to.live, Ordering::Relaxed);
        }
        Ok(is_changed)
    }

    async fn due_policy(&self, number: u32, wanted: &DuePolicy) -> Result<DuePolicy, BackendError> {
        self.backend.due_policy(number, wanted).await
    }

    fn generation(&self, number: u32) -> Arc<dyn IndexUpkeep> {
        Arc::new(self.backend.at(number))
    }

    async fn delete(&self, number: u32) -> Result<(), BackendError> {
        self.backend.delete(number).await
    }
}

/// The holds are of no generation. What is done to one is done once, and what is asked of the lists of a generation is
/// asked of the live one.
#[async_trait]
impl<B: Generational> Claims for LiveIndex<B> {
    /// What was claimed by the lists of a generation that was swapped out meanwhile is given back first.
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, ClaimError> {
        in_live!(self, generation => generation.claim(request), else |claims: Vec<Claim>| {
            let held: Vec<HeldClaim> = claims.into_iter().map(|claim| claim.held).collect();
            generation.release(&held).await?;
        })
    }

    async fn renew(&self, held: &HeldClaim, lease: Duration) -> Result<Renewed, ClaimError> {
        in_last_seen(self).renew(held, lease).await
    }

    async fn complete(&self, held: &HeldClaim, outcome: &Completion) -> Result<(), ClaimError> {
        in_newest(self).await?.complete(held, outcome).await
    }

    async fn release(&self, held: &[HeldClaim]) -> Result<usize, BackendError> {
        in_newest(self).await?.release(held).await
    }

    async fn schedule(&self, cache_key: &CacheKey, schedule: Option<&Schedule>) -> Result<(), BackendError> {
        in_live!(self, generation => generation.schedule(cache_key, schedule))
    }

    async fn pause(&self, tenant: &TenantId, until: Timestamp) -> Result<(), BackendError> {
        in_last_seen(self).pause(tenant, until).await
    }

    async fn forget_hold(&self, cache_key: &CacheKey) -> Result<(), BackendError> {
        in_live!(self, generation => generation.forget_hold(cache_key))
    }

    async fn forget(&self, cache_key: &CacheKey) -> Result<(), BackendError> {
        in_live!(self, generation => generation.forget(cache_key))
    }

    async fn due(&self, request: &DueRequest) -> Result<DuePage, ClaimError> {
        in_live!(self, generation => generation.due(request))
    }
}

/// For what touches no generation.
fn in_last_seen<B: Generational>(index: &LiveIndex<B>) -> B::Generation {
    index.backend.at(index.seen.load(Ordering::Relaxed))
}

/// For what must not be done twice. Should another generation become live in this very moment, its lists are as the
/// index says: whoever claims by them meets the hold.
async fn in_newest<B: Generational>(index: &LiveIndex<B>) -> Result<B::Generation, BackendError> {
    let live = index.backend.live().await?;
    index.seen.store(live, Ordering::Relaxed);
    Ok(index.backend.at(live))
}

/// One generation, for somebody who wants to know when it is no longer the live one.
#[derive(Debug)]
struct Pinned<B> {
    backend: B,
    number: u32,
}

impl<B: Generational> Pinned<B> {
    fn here(&self) -> B::Generation {
        self.backend.at(self.number)
    }
}

#[async_trait]
impl<B: Generational> ActivityStore for Pinned<B> {
    async fn apply(&self, changes: &[AccountActivity]) -> Result<(), BackendError> {
        self.here().apply(changes).await
    }

    async fn get(&self, cache_key: &CacheKey) -> Result<Option<AccountActivity>, BackendError> {
        self.here().get(cache_key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Page, ListError> {
        self.here().list(request).await
    }

    async fn counts(&self, tenant: Option<&TenantId>) -> Result<Counts, BackendError> {
        self.here().counts(tenant).await
    }

    async fn checkpoint(&self, partition: u32) -> Result<Option<Checkpoint>, BackendError> {
        self.here().checkpoint(partition).await
    }

    async fn store_checkpoint(&self, partition: u32, checkpoint: Checkpoint) -> Result<(), BackendError> {
        self.here().store_checkpoint(partition, checkpoint).await
    }

    async fn is_live(&self) -> Result<bool, BackendError> {
        Ok(self.backend.live().await? == self.number)
    }
}
