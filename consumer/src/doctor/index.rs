//! What the index says of the account.

use common::account::{ClientId, HomeAccountId, TenantId, Username};
use common::event::{ErrorCode, FailureReason};
use common::index::{AccountActivity, AccountState};
use jiff::Timestamp;
use serde::Serialize;

/// What the index says of the account; nothing where it does not know it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IndexReport {
    /// Whether the index knows it at all.
    pub is_known: bool,
    /// Whether queries list it.
    pub is_listed: bool,
    /// Where it stands for a worker.
    pub state: Option<AccountState>,
    /// Whose cache it is.
    pub home_account_id: Option<HomeAccountId>,
    /// The home tenant.
    pub tenant_id: Option<TenantId>,
    /// The app.
    pub client_id: Option<ClientId>,
    /// The username, as the events have it.
    pub username: Option<Username>,
    /// When the user was here last.
    pub last_activity: Option<Timestamp>,
    /// When a worker renewed the cache last.
    pub last_hydration: Option<Timestamp>,
    /// When the cache was removed last.
    pub removed_at: Option<Timestamp>,
    /// The newest failure, in force or not.
    pub last_failure: Option<FailureReport>,
}

/// The newest failure.
#[derive(Debug, Clone, Serialize)]
pub struct FailureReport {
    /// Why there was no token.
    pub reason: FailureReason,
    /// The provider's code.
    pub error: Option<ErrorCode>,
    /// The provider's second code.
    pub suberror: Option<ErrorCode>,
    /// When.
    pub at: Timestamp,
    /// When the provider may be asked again, in Unix seconds.
    pub retry_after: Option<i64>,
    /// Whether nothing better came after it.
    pub is_in_force: bool,
}

impl IndexReport {
    pub(super) fn of(account: &AccountActivity) -> Self {
        let details = account.details.as_ref().map(|register| &register.value);
        Self {
            is_known: true,
            is_listed: account.is_listed(),
            state: Some(account.state()),
            home_account_id: details.map(|details| details.home_account_id.clone()),
            tenant_id: account.tenant_id().cloned(),
            client_id: details.map(|details| details.client_id.clone()),
            username: details.and_then(|details| details.username.clone()),
            last_activity: account.last_activity,
            last_hydration: account.last_hydration,
            removed_at: account.removed_at,
            last_failure: FailureReport::of(account),
        }
    }
}

impl FailureReport {
    fn of(account: &AccountActivity) -> Option<Self> {
        let register = account.failure.as_ref()?;
        let failure = &register.value;
        Some(Self {
            reason: failure.reason,
            error: failure.error.clone(),
            suberror: failure.suberror.clone(),
            at: register.stamp.time(),
            retry_after: failure.retry_after,
            is_in_force: account.failure_in_force().is_some(),
        })
    }
}
