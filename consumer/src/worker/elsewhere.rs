//! Work that is done elsewhere: the token of a claimed account is handed to whoever holds the claim.

use std::sync::Arc;
use std::time::Duration;

use common::backends::TokenCache;
use common::identity::{AccessToken, IdentityClient};
use common::index::{AccountActivity, Claims, HeldClaim};
use jiff::Timestamp;
use tokio::time::Instant;

use super::account::{Hydrator, Under};
use super::due::ClaimGuard;
use super::{AccountOutcome, WorkerSettings};

/// Has tokens for accounts that somebody else works on.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    claims: Arc<dyn Claims>,
    hydrator: Hydrator,
}

/// There is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoToken {
    /// Why.
    pub(crate) outcome: AccountOutcome,
    /// When the provider may be asked again, where it has said so.
    pub(crate) until: Option<Timestamp>,
}

/// A token that is handed over.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) token: AccessToken,
    /// From when on it is not valid for long enough.
    pub(crate) renew_from: Option<Timestamp>,
}

impl Elsewhere {
    pub(crate) fn new(
        claims: Arc<dyn Claims>,
        cache: TokenCache,
        client: IdentityClient,
        settings: WorkerSettings,
    ) -> Self {
        Self { claims, hydrator: Hydrator { client, cache, settings } }
    }

    /// A token of `account`, under a claim that was renewed for `lease` at `renewed_at`. A refresh that is begun asks for
    /// the claim once more, and what it writes carries the fence.
    ///
    /// # Cancel safety
    /// A refresh that was begun ends by itself and is written back, with its event.
    pub(crate) async fn token(
        &self,
        held: HeldClaim,
        (lease, renewed_at): (Duration, Instant),
        account: &AccountActivity,
        is_forced: bool,
    ) -> Result<HandedOver, NoToken> {
        let guard = ClaimGuard::new(Arc::clone(&self.claims), held, lease, renewed_at);
        let under = Under { claim: Some(Arc::new(guard)), is_forced };
        let hydration = self.hydrator.hydrate(account, &under).await;
        match hydration.token {
            Some(token) => Ok(HandedOver { token, renew_from: hydration.until }),
            None => Err(NoToken { outcome: hydration.outcome, until: hydration.until }),
        }
    }
}
