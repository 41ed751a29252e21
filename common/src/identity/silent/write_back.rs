//! Writing a refreshed token back: compare-and-set, merge on a conflict, never over a removal.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};

use super::error::AcquireError;
use super::writer::{CacheWriter, Denied};
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::token_cache::msal::{TokenCacheBlob, merge};
use crate::token_cache::{TokenCacheStore, WriteOutcome};

/// How often a conflict is merged before it is given up.
const MOST_CONFLICTS: u32 = 5;
/// How often a store that does not answer is tried again. A provider that rotates refresh tokens has spent the old
/// one by now: about 6 s of patience may save the user a sign-in.
const MOST_SETBACKS: usize = 8;

/// A blob as it was read.
#[derive(Clone)]
pub(super) struct ReadBlob {
    pub(super) bytes: Vec<u8>,
    pub(super) blob: TokenCacheBlob,
}

impl ReadBlob {
    pub(super) async fn read(store: &dyn TokenCacheStore, key: &CacheKey) -> Result<Option<Self>, AcquireError> {
        match store.read(key).await? {
            None => Ok(None),
            Some(bytes) => Ok(Some(Self { blob: TokenCacheBlob::parse(&bytes)?, bytes })),
        }
    }
}

/// One write back.
pub(super) struct WriteBack<'a> {
    pub(super) store: &'a dyn TokenCacheStore,
    pub(super) writer: &'a dyn CacheWriter,
    pub(super) key: &'a CacheKey,
    pub(super) home_account_id: &'a str,
}

impl WriteBack<'_> {
    /// Writes `ours`, which was made of `base`; where `base` is `None` there was nothing, and there may be something
    /// by now.
    pub(super) async fn run(&self, base: Option<&ReadBlob>, ours: &TokenCacheBlob) -> Result<(), AcquireError> {
        let mut patience = Patience::new();
        let mut read = base.cloned();
        let mut next = ours.clone();
        loop {
            let bytes = next.serialize();
            match self.writer.write_back(self.key, read.as_ref().map(|read| &*read.bytes), &bytes).await {
                Ok(WriteOutcome::Written) => return Ok(()),
                Ok(WriteOutcome::Conflict) => patience.count_conflict()?,
                Ok(WriteOutcome::Fenced) => return Err(Denied::ClaimLost.into()),
                Err(error) => patience.wait_after(error).await?,
            }
            read = self.read_again(&mut patience).await?;
            let Some(theirs) = &read else {
                if base.is_none() {
                    next = ours.clone();
                    continue;
                }
                return Err(AcquireError::Removed);
            };
            // A write that was not answered in time may have happened all the same.
            if theirs.bytes == *bytes {
                return Ok(());
            }
            let merged = merge(base.map_or(&TokenCacheBlob::empty(), |base| &base.blob), ours, &theirs.blob);
            if merged.signed_out.iter().any(|user| user == self.home_account_id) {
                return Err(AcquireError::Removed);
            }
            if !merged.is_write_needed {
                return Ok(());
            }
            next = merged.blob;
        }
    }

    async fn read_again(&self, patience: &mut Patience) -> Result<Option<ReadBlob>, AcquireError> {
        loop {
            match ReadBlob::read(self.store, self.key).await {
                Err(AcquireError::Store(error)) => patience.wait_after_shared(error).await?,
                read => return read,
            }
        }
    }
}

/// How long a write back goes on trying.
struct Patience {
    conflicts: u32,
    waits: backon::ExponentialBackoff,
}

impl Patience {
    fn new() -> Self {
        let waits = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(MOST_SETBACKS)
            .with_jitter();
        Self { conflicts: 0, waits: waits.build() }
    }

    fn count_conflict(&mut self) -> Result<(), AcquireError> {
        self.conflicts += 1;
        if self.conflicts >= MOST_CONFLICTS {
            return Err(AcquireError::Contended(self.conflicts));
        }
        Ok(())
    }

    async fn wait_after(&mut self, error: BackendError) -> Result<(), AcquireError> {
        self.wait_after_shared(Arc::new(error)).await
    }

    async fn wait_after_shared(&mut self, error: Arc<BackendError>) -> Result<(), AcquireError> {
        let wait = if error.is_transient() { self.waits.next() } else { None };
        match wait {
            Some(wait) => {
                tracing::warn!(%error, "the refreshed token is not written yet");
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(error.into()),
        }
    }
}
