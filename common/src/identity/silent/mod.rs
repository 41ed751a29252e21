//! Acquiring a token silently: from the blob where it is good enough, else by a refresh that is written back.
//!
//! 1. One read of the store. A token in the blob that is valid for long enough is the answer, without a network call;
//!    where its `refresh_on` is past, it is renewed in the background.
//! 2. Else a refresh, as a task of its own that ends even if nobody waits for it any more. Everybody in this process
//!    who asks for the same waits for it; for one cache key there is one at a time; a
//!    [`RefreshLock`](crate::token_cache::RefreshLock) keeps other processes out. The blob is read again inside, so
//!    that no refresh token is used twice.
//! 3. The answer is saved into the blob and written back by compare-and-set. On a conflict both sides are merged.
//!    What was removed meanwhile stays removed.

mod error;
mod exclusive;
mod lookup;
mod on_behalf_of;
mod refresh;
mod request;
mod single_flight;
mod turns;
mod write_back;
mod writer;

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use jiff::SignedDuration;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use error::AcquireError;
pub use request::{Acquired, SilentOptions, SilentRequest, TokenSource};
pub use writer::{CacheWriter, Denied};

use lookup::Lookup;
use refresh::Refresh;
use single_flight::SingleFlight;
use turns::Turns;
use write_back::ReadBlob;

use super::throttle::Throttle;
use super::{IdentityClient, Scopes};
use crate::account::CacheKey;
use crate::token_cache::{RefreshLock, TokenCacheStore};

/// How many refreshes may be under way at once in this process.
const MOST_REFRESHES: usize = 1024;
/// How many of them may be of tokens that are still valid.
const MOST_BACKGROUND_REFRESHES: usize = 64;
/// How long a token that could not be renewed ahead of its time is left alone.
const BACKGROUND_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// Acquires tokens silently, from one token cache and one provider. Cheap to clone; clones share what is under way.
#[derive(Clone)]
pub struct TokenAcquirer {
    inner: Arc<Inner>,
}

struct Inner {
    client: IdentityClient,
    store: Arc<dyn TokenCacheStore>,
    writer: Arc<dyn CacheWriter>,
    lock: Option<Arc<dyn RefreshLock>>,
    flights: SingleFlight<FlightKey, Result<Acquired, AcquireError>>,
    turns: Turns,
    background: Arc<Semaphore>,
    background_failures: Throttle,
    tracker: TaskTracker,
}

/// What a run is for.
#[derive(Clone, PartialEq, Eq, Hash)]
enum FlightKey {
    Refresh(SilentRequest),
    Exchange(CacheKey, Scopes),
}

impl TokenAcquirer {
    /// Reads blobs from `store` and writes them back by `writer`. Without a `lock` no other process may refresh the
    /// same blobs, unless the provider lets refresh tokens be used more than once.
    pub fn new(
        client: IdentityClient,
        store: Arc<dyn TokenCacheStore>,
        writer: Arc<dyn CacheWriter>,
        lock: Option<Arc<dyn RefreshLock>>,
    ) -> Self {
        let tracker = TaskTracker::new();
        let inner = Inner {
            client,
            store,
            writer,
            lock,
            flights: SingleFlight::new(MOST_REFRESHES, tracker.clone()),
            turns: Turns::default(),
            background: Arc::new(Semaphore::new(MOST_BACKGROUND_REFRESHES)),
            background_failures: Throttle::default(),
            tracker,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The provider's client.
    pub fn client(&self) -> &IdentityClient {
        &self.inner.client
    }

    /// An access token for one account, without the user.
    ///
    /// # Errors
    /// [`AcquireError`], whose [`reason`](AcquireError::reason) is the contract's. That the store is down is never
    /// told as "no token".
    ///
    /// # Cancel safety
    /// Cancel safe: a refresh that has begun ends by itself and is written back.
    pub async fn acquire_token_silent(&self, request: &SilentRequest) -> Result<Acquired, AcquireError> {
        let read = ReadBlob::read(self.inner.store.as_ref(), &request.cache_key).await?;
        let read = read.ok_or(AcquireError::CacheMissing)?;
        let lookup = Lookup::new(&self.inner.client, request);
        if !request.options.force_refresh
            && let Some(valid) = lookup.valid(&read.blob, self.inner.client.clock().now())
        {
            if !valid.is_refresh_due {
                return Ok(Acquired { token: valid.token, source: TokenSource::Cache });
            }
            self.renew_in_background(request);
            return Ok(Acquired { token: valid.token, source: TokenSource::CacheRefreshDue });
        }
        // Without a refresh token there is nothing to wait for.
        lookup.refresh_token(&read.blob)?;
        self.refresh(request).await
    }

    /// Waits for the refreshes that are under way, in the background and for callers that are gone.
    pub async fn drain(&self) {
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
        self.inner.tracker.reopen();
    }

    async fn refresh(&self, request: &SilentRequest) -> Result<Acquired, AcquireError> {
        let begin = || Refresh { inner: Arc::clone(&self.inner), request: request.clone() }.run().boxed();
        let flight = FlightKey::Refresh(request.clone());
        self.inner.flights.run(&flight, begin).await.unwrap_or(Err(AcquireError::Interrupted))
    }

    /// Best effort: where too much is under way, or it has just failed, the valid token has to do.
    fn renew_in_background(&self, request: &SilentRequest) {
        let account = format!("{} {}", request.cache_key, request.scopes);
        let clock = self.inner.client.clock().clone();
        if self.inner.background_failures.in_force(&account, clock.now()).is_some() {
            return;
        }
        let Ok(place) = Arc::clone(&self.inner.background).try_acquire_owned() else {
            return;
        };
        let (this, request) = (self.clone(), request.clone());
        self.inner.tracker.spawn(async move {
            if let Err(error) = this.refresh(&request).await {
                tracing::debug!(reason = error.reason().as_str(), %error, "not renewed ahead of time");
                let now = clock.now();
                let until = now.checked_add(BACKGROUND_PAUSE).unwrap_or(now);
                this.inner.background_failures.set(&account, until, now);
            }
            drop(place);
        });
    }
}

impl fmt::Debug for TokenAcquirer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAcquirer").field("client", &self.inner.client).finish_non_exhaustive()
    }
}
