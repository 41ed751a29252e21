//! Silent acquisition from an encrypted cache.

use std::sync::Arc;

use async_trait::async_trait;
use common::account::CacheKey;
use common::backend::BackendError;
use common::event::FailureReason;
use common::identity::{AcquireError, CacheWriter, TokenAcquirer, TokenSource};
use common::token_cache::encryption::EncryptedTokenCache;
use common::token_cache::{CacheWrite, ExpiryChange, Precondition, TokenCacheStore, WriteOutcome};
use testkit::identity_provider::{Options, Rotation};

use super::rig::{Interference, Rig, blob_of};
use super::{HOME, client, provider};
use crate::token_cache::encryption::cipher;

#[derive(Debug)]
struct Writer(Arc<EncryptedTokenCache>);

#[async_trait]
impl CacheWriter for Writer {
    async fn write_back(&self, key: &CacheKey, read: Option<&[u8]>, blob: &[u8]) -> Result<WriteOutcome, BackendError> {
        let precondition = read.map_or(Precondition::Absent, Precondition::Unchanged);
        self.0.write(CacheWrite { key, blob, expiry: ExpiryChange::Kept, precondition, event: None, fence: None }).await
    }
}

#[tokio::test]
async fn an_encrypted_cache_is_refreshed_and_one_that_does_not_open_is_undecryptable() {
    let provider = provider(Options { rotation: Rotation::Strict, ..Options::default() }).await;
    let client = client(&provider, HOME).await;
    let rig = Rig::new(&provider, client.clone()).await;
    let keys = cipher(&[("one", 1)], "tokencache:", "app");
    let cache = Arc::new(EncryptedTokenCache::new(rig.store.clone(), keys, "test"));
    let key = &rig.request.cache_key;
    let (expiry, precondition) = (ExpiryChange::default(), Precondition::None);
    let plain = blob_of(&rig.signed_in).serialize().into_owned();
    cache.write(CacheWrite { key, blob: &plain, expiry, precondition, event: None, fence: None }).await.unwrap();
    let acquirer = TokenAcquirer::new(client, cache.clone(), Arc::new(Writer(cache)), None);

    rig.expire();
    let refreshed = acquirer.acquire_token_silent(&rig.request).await.unwrap();
    assert_eq!(refreshed.source, TokenSource::Refreshed);
    assert_eq!(acquirer.acquire_token_silent(&rig.request).await.unwrap().source, TokenSource::Cache);

    let mut damaged = rig.store.cache.read(key).await.unwrap().unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    for stored in [damaged, plain, b"\x09\xF0\xC9\xF0".to_vec()] {
        rig.store.put(key, &stored).await;
        let error = acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
        assert!(matches!(error, AcquireError::Undecryptable(_)), "{error}");
        assert_eq!((error.reason(), error.is_transient()), (FailureReason::Undecryptable, false));
    }
    rig.store.at_reads([Interference::Down]);
    let error = acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), (FailureReason::StoreUnavailable, true));
}
