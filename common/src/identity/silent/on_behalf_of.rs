//! On-behalf-of with the cache before it: one exchange for each assertion, or for each long-running session.

use std::sync::Arc;

use futures_util::FutureExt as _;
use secrecy::SecretString;

use super::error::AcquireError;
use super::lookup::Lookup;
use super::request::{Acquired, SilentRequest, TokenSource};
use super::write_back::{ReadBlob, WriteBack};
use super::{FlightKey, Inner, TokenAcquirer};
use crate::account::{CacheKey, HomeAccountId};
use crate::event::Recovery;
use crate::identity::{OnBehalfOfSession, Scopes};
use crate::token_cache::msal::TokenCacheBlob;

impl TokenAcquirer {
    /// An access token for another API, on behalf of the user that `assertion` (an access token for this app) speaks
    /// for: from the session's blob, by a refresh within the session, or by an exchange of the assertion.
    ///
    /// A long-running session goes on without the assertion by
    /// [`acquire_token_silent`](Self::acquire_token_silent) [in the session](SilentRequest::in_session).
    ///
    /// # Errors
    /// [`AcquireError`].
    ///
    /// # Cancel safety
    /// Cancel safe, as [`acquire_token_silent`](Self::acquire_token_silent) is.
    pub async fn acquire_on_behalf_of(
        &self,
        assertion: &SecretString,
        scopes: &Scopes,
        session: &OnBehalfOfSession,
    ) -> Result<Acquired, AcquireError> {
        let key = session.cache_key(assertion);
        if let Some(request) = self.session_request(&key, scopes).await? {
            match self.acquire_token_silent(&request).await {
                // What only the user can mend, the assertion can: it is the user's word of just now.
                Err(error) if error.reason().recovery() == Recovery::UserActivity => {}
                outcome => return outcome,
            }
        }
        let exchange = Exchange {
            inner: Arc::clone(&self.inner),
            assertion: assertion.clone(),
            scopes: scopes.clone(),
            session: session.clone(),
            key: key.clone(),
        };
        let begin = || exchange.clone().run().boxed();
        let flight = FlightKey::Exchange(key, scopes.clone());
        self.inner.flights.run(&flight, begin).await.unwrap_or(Err(AcquireError::Interrupted))
    }

    /// The silent request of a session that has begun: its blob says whose it is.
    async fn session_request(&self, key: &CacheKey, scopes: &Scopes) -> Result<Option<SilentRequest>, AcquireError> {
        let read = ReadBlob::read(self.inner.store.as_ref(), key).await?;
        let owner = read.as_ref().and_then(|read| owner_of_session(&read.blob, key));
        Ok(owner.map(|owner| SilentRequest::new(key.clone(), owner, scopes.clone()).in_session()))
    }
}

fn owner_of_session(blob: &TokenCacheBlob, key: &CacheKey) -> Option<HomeAccountId> {
    let is_own = |hash: Option<&str>| hash == Some(key.as_str());
    let refresh = blob.refresh_tokens().find(|token| is_own(token.assertion_hash)).map(|token| token.home_account_id);
    let access = || blob.access_tokens().find(|token| is_own(token.assertion_hash)).map(|token| token.home_account_id);
    refresh.or_else(access).and_then(|owner| HomeAccountId::new(owner).ok())
}

/// One exchange of an assertion for tokens.
#[derive(Clone)]
struct Exchange {
    inner: Arc<Inner>,
    assertion: SecretString,
    scopes: Scopes,
    session: OnBehalfOfSession,
    key: CacheKey,
}

impl Exchange {
    async fn run(self) -> Result<Acquired, AcquireError> {
        self.inner.exclusively(&self.key, self.exchange()).await
    }

    async fn exchange(&self) -> Result<Acquired, AcquireError> {
        let client = &self.inner.client;
        let read = ReadBlob::read(self.inner.store.as_ref(), &self.key).await?;
        let mut tokens = client.on_behalf_of(&self.assertion, &self.scopes, &self.session).await?;
        let request = SilentRequest::new(self.key.clone(), tokens.home_account_id.clone(), self.scopes.clone());
        let request = request.in_session();
        let mut ours = read.as_ref().map(|read| read.blob.clone()).unwrap_or_default();
        tokens.realm = Lookup::new(client, &request).spelling(&ours, &tokens.realm).to_owned();
        tokens.save_into(&mut ours);
        let write_back = WriteBack {
            store: self.inner.store.as_ref(),
            writer: self.inner.writer.as_ref(),
            key: &self.key,
            home_account_id: tokens.home_account_id.as_str(),
        };
        write_back.run(read.as_ref(), &ours).await?;
        Ok(Acquired { token: tokens.access_token, source: TokenSource::Refreshed })
    }
}
