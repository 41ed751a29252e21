//! The index as its users see it: whichever generation is live, with no restart when that changes.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use super::{
    AccountActivity, ActivityStore, Checkpoint, Counts, DuePolicy, Generations, IndexGenerations, IndexUpkeep,
    ListError, ListRequest, Page,
};
use crate::account::{CacheKey, TenantId};
use crate::backend::{BackendError, Trouble};

/// How often one call may meet a swap.
const MOST_SWAPS: usize = 5;

/// A server that keeps generations.
pub(crate) trait Generational: Clone + fmt::Debug + Send + Sync + 'static {
    /// One of them.
    type Generation: IndexUpkeep + Clone + 'static;

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
    ($self:ident, $generation:ident => $ask:expr) => {{
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
