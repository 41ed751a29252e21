//! A token cache in a fresh SQLite file, watched: it counts, fails and lets others interfere at a chosen call.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use common::account::CacheKey;
use common::backend::{BackendError, Trouble};
use common::event::EventDraft;
use common::identity::{CacheWriter, IdentityClient, SilentRequest, TokenAcquirer, TokenResponse};
use common::sqlite::Database;
use common::token_cache::msal::TokenCacheBlob;
use common::token_cache::{
    CacheWrite, ExpiryChange, Precondition, RefreshLock, SqliteTokenCache, SqliteTokenCacheOptions, TokenCacheStore,
    WriteOutcome,
};
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use testkit::identity_provider::IdentityProvider;

use super::{ADA, scopes, sign_in};

/// What happens at a call of the store.
pub(crate) enum Interference {
    /// Nothing.
    None,
    /// The store does not answer.
    Down,
    /// The call is done and its answer is lost.
    AnswerLost,
    /// Somebody else does something before it.
    Before(BoxFuture<'static, ()>),
}

/// A store whose calls are counted and interfered with.
pub(crate) struct Watched {
    pub(crate) cache: SqliteTokenCache,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    on_read: Mutex<VecDeque<Interference>>,
    on_write: Mutex<VecDeque<Interference>>,
    _folder: TempDir,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl Watched {
    pub(crate) async fn open() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("cache.db").display()).parse().unwrap();
        let database = Database::open(&url).await.unwrap();
        let cache = SqliteTokenCache::open(database, SqliteTokenCacheOptions::default()).await.unwrap();
        Arc::new(Self {
            cache,
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            on_read: Mutex::default(),
            on_write: Mutex::default(),
            _folder: folder,
        })
    }

    /// What happens at the next reads, one after the other.
    pub(crate) fn at_reads(&self, all: impl IntoIterator<Item = Interference>) {
        self.on_read.lock().unwrap().extend(all);
    }

    /// What happens at the next writes, one after the other.
    pub(crate) fn at_writes(&self, all: impl IntoIterator<Item = Interference>) {
        self.on_write.lock().unwrap().extend(all);
    }

    pub(crate) async fn blob(&self, key: &CacheKey) -> Option<TokenCacheBlob> {
        self.cache.read(key).await.unwrap().map(|bytes| TokenCacheBlob::parse(&bytes).unwrap())
    }

    pub(crate) async fn put(&self, key: &CacheKey, blob: &[u8]) {
        let precondition = Precondition::None;
        let write = CacheWrite { key, blob, expiry: ExpiryChange::default(), precondition, event: None, fence: None };
        self.cache.write(write).await.unwrap();
    }

    fn next(queue: &Mutex<VecDeque<Interference>>) -> Interference {
        queue.lock().unwrap().pop_front().unwrap_or(Interference::None)
    }
}

fn down() -> BackendError {
    BackendError::plain(Trouble::Unavailable, "test://store", "the store does not answer")
}

#[async_trait]
impl TokenCacheStore for Watched {
    async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        match Self::next(&self.on_read) {
            Interference::None => {}
            Interference::Down | Interference::AnswerLost => return Err(down()),
            Interference::Before(other) => other.await,
        }
        self.cache.read(key).await
    }

    async fn write(&self, write: CacheWrite<'_>) -> Result<WriteOutcome, BackendError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        match Self::next(&self.on_write) {
            Interference::None => {}
            Interference::Down => return Err(down()),
            Interference::AnswerLost => {
                self.cache.write(write).await?;
                return Err(down());
            }
            Interference::Before(other) => other.await,
        }
        self.cache.write(write).await
    }

    async fn remove(&self, key: &CacheKey, event: Option<&EventDraft>) -> Result<bool, BackendError> {
        self.cache.remove(key, event).await
    }
}

/// Writes back without an event.
#[derive(Debug)]
pub(crate) struct Writer(pub(crate) Arc<Watched>);

#[async_trait]
impl CacheWriter for Writer {
    async fn write_back(&self, key: &CacheKey, read: Option<&[u8]>, blob: &[u8]) -> Result<WriteOutcome, BackendError> {
        let precondition = read.map_or(Precondition::Absent, Precondition::Unchanged);
        self.0.write(CacheWrite { key, blob, expiry: ExpiryChange::Kept, precondition, event: None, fence: None }).await
    }
}

/// Ada's blob in a store, and who acquires tokens from it.
pub(crate) struct Rig {
    pub(crate) provider: Arc<IdentityProvider>,
    pub(crate) store: Arc<Watched>,
    pub(crate) acquirer: TokenAcquirer,
    pub(crate) request: SilentRequest,
    pub(crate) signed_in: TokenResponse,
}

impl Rig {
    pub(crate) async fn new(provider: &Arc<IdentityProvider>, client: IdentityClient) -> Self {
        let store = Watched::open().await;
        let signed_in = sign_in(&client, ADA).await.tokens;
        let key = CacheKey::new(signed_in.home_account_id.as_str()).unwrap();
        store.put(&key, &blob_of(&signed_in).serialize()).await;
        let request = SilentRequest::new(key, signed_in.home_account_id.clone(), scopes("User.Read"));
        let acquirer = acquirer(&store, client, true);
        Self { provider: Arc::clone(provider), store, acquirer, request, signed_in }
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.provider.all_token_requests().with_grant("refresh_token")
    }

    pub(crate) async fn blob(&self) -> TokenCacheBlob {
        self.store.blob(&self.request.cache_key).await.unwrap()
    }

    /// Lets the access token expire.
    pub(crate) fn expire(&self) {
        self.provider.advance(self.signed_in.expires_in);
    }
}

pub(crate) fn blob_of(tokens: &TokenResponse) -> TokenCacheBlob {
    let mut blob = TokenCacheBlob::empty();
    tokens.save_into(&mut blob);
    blob
}

/// Another process would make one like this.
pub(crate) fn acquirer(store: &Arc<Watched>, client: IdentityClient, locks: bool) -> TokenAcquirer {
    let lock = locks.then(|| Arc::new(store.cache.clone()) as Arc<dyn RefreshLock>);
    TokenAcquirer::new(client, Arc::clone(store) as Arc<dyn TokenCacheStore>, Arc::new(Writer(Arc::clone(store))), lock)
}
