//! Who is signed in, kept on the server; the browser holds a random id and nothing else.

use std::sync::Arc;

use common::account::{CacheKey, HomeAccountId, TenantId};
use common::identity::{ClaimsChallenge, IdentityClient, SignedIn, SilentRequest};
use jiff::Timestamp;

use super::expiring::{Bounds, Expiring};
use super::token::RandomToken;

/// A user who signed in.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) cache_key: CacheKey,
    pub(super) home_account_id: HomeAccountId,
    /// The tenant of the tokens, where the provider has tenants.
    pub(super) tenant: Option<TenantId>,
    pub(super) username: Option<String>,
    pub(super) name: Option<String>,
    pub(super) issuer: String,
}

impl User {
    /// `None` where the provider's name for the account is none that a cache can be kept under.
    pub(super) fn of(signed_in: &SignedIn) -> Option<Self> {
        let identity = &signed_in.identity;
        Some(Self {
            cache_key: CacheKey::new(signed_in.tokens.home_account_id.as_str()).ok()?,
            home_account_id: signed_in.tokens.home_account_id.clone(),
            tenant: identity.tenant_id.clone(),
            username: identity.username.clone(),
            name: identity.name.clone(),
            issuer: identity.issuer.clone(),
        })
    }

    /// What the user is called on a page.
    pub(super) fn shown(&self) -> &str {
        self.name.as_deref().or(self.username.as_deref()).unwrap_or(self.home_account_id.as_str())
    }

    /// A token of the user for the scopes of the settings.
    pub(super) fn request(&self, client: &IdentityClient) -> SilentRequest {
        let request = SilentRequest::new(self.cache_key.clone(), self.home_account_id.clone(), client.scopes().clone());
        SilentRequest { tenant: self.tenant_to_name(client), ..request }
    }

    /// Under an authority of many tenants, a guest's tokens are from the tenant they are a guest in.
    fn tenant_to_name(&self, client: &IdentityClient) -> Option<TenantId> {
        let home = self.home_account_id.halves().map(|(_, tenant)| tenant);
        let is_needed = client.tenant_id().is_none() && self.tenant != home;
        self.tenant.clone().filter(|_| is_needed)
    }
}

/// One signed-in browser.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) user: Arc<User>,
    /// What each form of this session carries, and no other site knows.
    pub(super) form_token: RandomToken,
    /// What the provider wants at the next sign-in.
    pub(super) challenge: Option<ClaimsChallenge>,
}

/// The sessions. They live in this process.
pub(super) struct Sessions(Expiring<Session>);

impl Sessions {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self(Expiring::new(bounds))
    }

    /// Begins a session under a new id, whatever the browser sent: an id from before the sign-in is never used after it.
    pub(super) fn begin(&self, user: User, now: Timestamp) -> RandomToken {
        let id = RandomToken::fresh();
        let session = Session { user: Arc::new(user), form_token: RandomToken::fresh(), challenge: None };
        self.0.insert(id.digest(), session, now);
        id
    }

    pub(super) fn find(&self, id: &RandomToken, now: Timestamp) -> Option<Session> {
        self.0.get(&id.digest(), now)
    }

    /// Remembers what the next sign-in has to carry, or that it has to carry nothing.
    pub(super) fn set_challenge(&self, id: &RandomToken, challenge: Option<ClaimsChallenge>, now: Timestamp) {
        self.0.change(&id.digest(), now, |session| session.challenge = challenge);
    }

    pub(super) fn end(&self, id: &RandomToken, now: Timestamp) {
        self.0.take(&id.digest(), now);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
