//! One refresh: under the lock, by the newest refresh token, written back.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::Inner;
use super::error::AcquireError;
use super::lookup::Lookup;
use super::request::{Acquired, SilentRequest, TokenSource};
use super::write_back::{ReadBlob, WriteBack};
use crate::identity::{GrantError, IdentityClient, TokenResponse};

/// One request that the blob alone could not answer.
pub(super) struct Refresh {
    pub(super) inner: Arc<Inner>,
    pub(super) request: SilentRequest,
}

impl Refresh {
    /// Refreshes, unless somebody else has done so when it is our turn.
    pub(super) async fn run(self) -> Result<Acquired, AcquireError> {
        self.inner.exclusively(&self.request.cache_key, self.refresh()).await
    }

    async fn refresh(&self) -> Result<Acquired, AcquireError> {
        let read = self.read().await?;
        if let Some(acquired) = self.already_done(&read) {
            return Ok(acquired);
        }
        let lookup = self.lookup();
        let refresh_token = lookup.refresh_token(&read.blob)?;
        let client = lookup.client();
        match self.redeem(&client, &refresh_token).await {
            Ok(tokens) => self.keep(&read, tokens).await,
            Err(AcquireError::Provider(error)) if error.blames_the_token() => {
                self.second_try(&client, &refresh_token, error).await
            }
            Err(error) => Err(error),
        }
    }

    /// Before the user is blamed: another program may have refreshed meanwhile, and ours is the old token.
    async fn second_try(
        &self,
        client: &IdentityClient,
        refused: &SecretString,
        error: GrantError,
    ) -> Result<Acquired, AcquireError> {
        let read = self.read().await?;
        let newer = self.lookup().refresh_token(&read.blob)?;
        if newer.expose_secret() == refused.expose_secret() {
            return Err(error.into());
        }
        if let Some(valid) = self.lookup().valid(&read.blob, self.inner.client.clock().now()) {
            return Ok(Acquired { token: valid.token, source: TokenSource::Cache });
        }
        let tokens = self.redeem(client, &newer).await?;
        self.keep(&read, tokens).await
    }

    async fn redeem(&self, client: &IdentityClient, token: &SecretString) -> Result<TokenResponse, AcquireError> {
        self.inner.writer.may_refresh(&self.request.cache_key).await?;
        Ok(client.refresh(token, &self.request.home_account_id, &self.request.scopes).await?)
    }

    async fn keep(&self, read: &ReadBlob, mut tokens: TokenResponse) -> Result<Acquired, AcquireError> {
        tokens.realm = self.lookup().spelling(&read.blob, &tokens.realm).to_owned();
        tokens.assertion_hash = self.request.session.clone();
        let mut ours = read.blob.clone();
        tokens.save_into(&mut ours);
        self.write_back().run(Some(read), &ours).await?;
        Ok(Acquired { token: tokens.access_token, source: TokenSource::Refreshed })
    }

    fn already_done(&self, read: &ReadBlob) -> Option<Acquired> {
        if self.request.options.force_refresh {
            return None;
        }
        let valid = self.lookup().valid(&read.blob, self.inner.client.clock().now())?;
        let is_good = !valid.is_refresh_due;
        is_good.then_some(Acquired { token: valid.token, source: TokenSource::Cache })
    }

    /// There was a blob when the request came: one that is gone now was removed.
    async fn read(&self) -> Result<ReadBlob, AcquireError> {
        let read = ReadBlob::read(self.inner.store.as_ref(), &self.request.cache_key).await?;
        read.ok_or(AcquireError::Removed)
    }

    fn lookup(&self) -> Lookup<'_> {
        Lookup::new(&self.inner.client, &self.request)
    }

    fn write_back(&self) -> WriteBack<'_> {
        WriteBack {
            store: self.inner.store.as_ref(),
            writer: self.inner.writer.as_ref(),
            key: &self.request.cache_key,
            home_account_id: self.request.home_account_id.as_str(),
        }
    }
}
