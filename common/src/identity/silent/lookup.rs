//! What a blob has for a request: a token that is good enough, or what to refresh with.

use jiff::Timestamp;
use secrecy::SecretString;

use super::error::AcquireError;
use super::request::SilentRequest;
use crate::account::TenantId;
use crate::identity::{AccessToken, IdentityClient, ProviderKind};
use crate::token_cache::msal::{self, AccessTokenQuery, CredentialQuery, TokenCacheBlob};

/// A valid access token of the blob.
pub(super) struct Valid {
    pub(super) token: AccessToken,
    pub(super) is_refresh_due: bool,
}

/// Reads blobs for one request.
pub(super) struct Lookup<'a> {
    client: &'a IdentityClient,
    request: &'a SilentRequest,
    /// Which tenant the token is from, where there are tenants.
    tenant: Option<TenantId>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(client: &'a IdentityClient, request: &'a SilentRequest) -> Self {
        let home = || request.home_account_id.halves().map(|(_, tenant)| tenant);
        let tenant = match client.kind() {
            ProviderKind::Generic => None,
            ProviderKind::Entra => request.tenant.clone().or_else(|| client.tenant_id().cloned()).or_else(home),
        };
        Self { client, request, tenant }
    }

    /// The client that asks the tenant the token is from.
    pub(super) fn client(&self) -> IdentityClient {
        match &self.tenant {
            Some(tenant) if self.client.tenant_id() != Some(tenant) => self.client.in_tenant(tenant),
            _ => self.client.clone(),
        }
    }

    /// An access token that is valid for long enough.
    pub(super) fn valid(&self, blob: &TokenCacheBlob, now: Timestamp) -> Option<Valid> {
        let scopes: Vec<&str> = self.request.scopes.iter().collect();
        self.realms(blob).into_iter().find_map(|realm| {
            let query = AccessTokenQuery {
                home_account_id: self.request.home_account_id.as_str(),
                client_id: self.client.client_id().as_str(),
                environment: self.client.environment().as_str(),
                realm,
                scopes: &scopes,
                assertion_hash: self.request.session.as_deref(),
                min_remaining: self.request.options.min_remaining,
            };
            let found = blob.find_access_token(&query, now.as_second())?;
            let expires_on = Timestamp::from_second(found.token.expires_on).ok()?;
            let token = AccessToken::new(found.token.secret.to_owned_secret(), expires_on);
            Some(Valid { token, is_refresh_due: found.is_refresh_due })
        })
    }

    /// The refresh token to use.
    pub(super) fn refresh_token(&self, blob: &TokenCacheBlob) -> Result<SecretString, AcquireError> {
        match blob.find_refresh_token(&self.credentials()) {
            Some(token) => Ok(token.secret.to_owned_secret()),
            None if self.is_of_others_alone(blob) => Err(AcquireError::OtherAccount),
            None => Err(AcquireError::NoRefreshToken),
        }
    }

    /// The realm to write a token of `realm` under: as the blob spells it, so that its other readers find it.
    pub(super) fn spelling<'b>(&'b self, blob: &'b TokenCacheBlob, realm: &'b str) -> &'b str {
        let id = self.credentials();
        let is_used = |realm: &&str| {
            let is_own = |token: &msal::AccessToken<'_>| {
                token.home_account_id == id.home_account_id && token.realm.eq_ignore_ascii_case(realm)
            };
            blob.access_tokens().any(|token| is_own(&token)) || blob.find_id_token(&id, realm).is_some()
        };
        self.realms(blob).into_iter().find(is_used).unwrap_or(realm)
    }

    fn credentials(&self) -> CredentialQuery<'_> {
        CredentialQuery {
            home_account_id: self.request.home_account_id.as_str(),
            client_id: self.client.client_id().as_str(),
            environment: self.client.environment().as_str(),
            assertion_hash: self.request.session.as_deref(),
        }
    }

    /// What the tenant may be called in a blob: by its id, or as the authority of the app that wrote it names it.
    fn realms<'b>(&'b self, blob: &'b TokenCacheBlob) -> Vec<&'b str> {
        let Some(tenant) = &self.tenant else {
            // A provider without tenants has one realm, which every library calls by another name.
            let mut realms: Vec<&str> = self.own(blob).collect();
            realms.dedup();
            return realms;
        };
        let mut realms = vec![tenant.as_str()];
        let is_of_authority = self.request.tenant.is_none();
        realms.extend(self.client.tenant_segment().filter(|segment| is_of_authority && *segment != tenant.as_str()));
        realms
    }

    fn own<'b>(&'b self, blob: &'b TokenCacheBlob) -> impl Iterator<Item = &'b str> {
        let own = blob.access_tokens().filter(|token| token.home_account_id == self.request.home_account_id.as_str());
        own.map(|token| token.realm)
    }

    /// Whether the blob holds accounts, and not this one: it belongs under another key.
    fn is_of_others_alone(&self, blob: &TokenCacheBlob) -> bool {
        let own = self.request.home_account_id.as_str();
        let owners = || {
            let accounts = blob.accounts().map(|account| account.home_account_id);
            accounts.chain(blob.refresh_tokens().map(|token| token.home_account_id))
        };
        owners().next().is_some() && !owners().any(|owner| owner == own)
    }
}
