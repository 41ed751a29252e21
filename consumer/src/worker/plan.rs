//! What to ask for: the account as the index knows it, the scopes and the session as its blob has them.

use common::account::{CacheKey, TenantId};
use common::event::AccountDetails;
use common::identity::{AcquireError, IdentityClient, ProviderKind, Scopes, SilentRequest};
use common::token_cache::TokenCacheStore;
use common::token_cache::msal::{AccessToken, TokenCacheBlob};
use uuid::Uuid;

use super::settings::WorkerSettings;

/// OpenID Connect's own scopes, which every request carries anyway.
const OPENID: [&str; 4] = ["openid", "profile", "offline_access", "email"];

/// The request for one account.
pub(super) struct Plan<'a> {
    pub(super) client: &'a IdentityClient,
    pub(super) settings: &'a WorkerSettings,
    pub(super) key: &'a CacheKey,
    pub(super) details: &'a AccountDetails,
}

impl Plan<'_> {
    /// Reads the blob where the index entry and the settings do not say enough.
    pub(super) async fn request(&self, store: &dyn TokenCacheStore) -> Result<SilentRequest, AcquireError> {
        let mut request =
            SilentRequest::new(self.key.clone(), self.details.home_account_id.clone(), self.scopes().clone());
        request.options = self.settings.silent;
        if !self.has_to_look(&request) {
            return Ok(request);
        }
        let bytes = store.read(self.key).await?.ok_or(AcquireError::CacheMissing)?;
        let blob = TokenCacheBlob::parse(&bytes)?;
        self.complete(&mut request, &blob);
        Ok(request)
    }

    fn scopes(&self) -> &Scopes {
        let own = &self.settings.scopes;
        if own.is_empty() { self.client.scopes() } else { own }
    }

    fn is_user_s_key(&self) -> bool {
        self.key.as_str() == self.details.home_account_id.as_str()
    }

    /// Under an authority of many tenants a blob may be a guest's; under another key than the user's it may be a
    /// session's.
    fn has_to_look(&self, request: &SilentRequest) -> bool {
        request.scopes.is_empty() || !self.is_user_s_key() || self.asks_any_tenant()
    }

    fn asks_any_tenant(&self) -> bool {
        self.client.kind() == ProviderKind::Entra && self.client.tenant_id().is_none()
    }

    fn complete(&self, request: &mut SilentRequest, blob: &TokenCacheBlob) {
        let newest = self.newest_token(blob);
        if request.scopes.is_empty() {
            request.scopes = newest.as_ref().map(scopes_of).unwrap_or_default();
        }
        if self.asks_any_tenant() {
            request.tenant = newest.as_ref().and_then(|token| tenant_of(token.realm));
        }
        if !self.is_user_s_key() {
            let summary = blob.summary(self.details.home_account_id.as_str(), self.client.clock().unix_seconds());
            let is_own = summary.home_account_id == Some(self.details.home_account_id.as_str());
            request.session = summary.assertion_hash.filter(|_| is_own).map(str::to_owned);
        }
    }

    fn newest_token<'b>(&self, blob: &'b TokenCacheBlob) -> Option<AccessToken<'b>> {
        let own = blob.access_tokens().filter(|token| {
            token.home_account_id == self.details.home_account_id.as_str()
                && token.client_id.eq_ignore_ascii_case(self.client.client_id().as_str())
                && token.is_bearer()
        });
        own.max_by_key(|token| token.cached_at)
    }
}

/// A blob may hold anything: what is no list of scopes asks for none.
fn scopes_of(token: &AccessToken<'_>) -> Scopes {
    let of_api: Vec<&str> = token.scopes().filter(|scope| !is_openid(scope)).collect();
    of_api.join(" ").parse().unwrap_or_default()
}

fn is_openid(scope: &str) -> bool {
    OPENID.iter().any(|own| own.eq_ignore_ascii_case(scope))
}

/// The tenant of a realm that names one by its id; nothing else of a blob gets into an address.
fn tenant_of(realm: &str) -> Option<TenantId> {
    Uuid::try_parse(realm).ok()?;
    TenantId::new(realm.to_ascii_lowercase()).ok()
}
