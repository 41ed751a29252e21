//! What an index holds of an account beside its record; both stores derive it here, so that both list and count alike.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::{AccountActivity, AccountState, Counts, DuePolicy};
use crate::account::{CacheKey, ClientId, TenantId};
use crate::event::to_microseconds;

/// Where one account stands in the indexes. The difference of two entries is what a write has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexEntry<'a> {
    /// The state it is counted under.
    pub(crate) state: AccountState,
    /// The tenant it is listed and counted under, beside the whole.
    pub(crate) tenant: Option<&'a TenantId>,
    /// The app it is listed under.
    pub(crate) client: Option<&'a ClientId>,
    /// Its place in the time-ordered lists, in microseconds; `None` keeps it out of every list.
    pub(crate) listed_at: Option<i64>,
    /// The lower-cased username it is listed under.
    pub(crate) username: Option<Cow<'a, str>>,
    /// When it will be due, in microseconds; `None` keeps it out of the due list.
    pub(crate) due_at: Option<i64>,
}

impl<'a> IndexEntry<'a> {
    /// The entry of `account` in an index with this policy.
    pub(crate) fn of(account: &'a AccountActivity, policy: &DuePolicy) -> Self {
        let listed_at = account.last_activity.filter(|_| account.is_listed()).map(|time| time.as_microsecond());
        let details = account.details.as_ref().map(|details| &details.value);
        let username = details.and_then(|details| details.username.as_ref());
        Self {
            state: account.state(),
            tenant: account.tenant_id(),
            client: details.map(|details| &details.client_id),
            listed_at,
            username: username.filter(|_| listed_at.is_some()).map(|name| name.lower_cased()),
            due_at: policy.due(account).map(|due| to_microseconds(due.at).as_microsecond()),
        }
    }
}

/// What is said of each account, in one piece each.
pub(crate) fn by_key(changes: &[AccountActivity]) -> HashMap<&CacheKey, Cow<'_, AccountActivity>> {
    let mut accounts: HashMap<&CacheKey, Cow<'_, AccountActivity>> = HashMap::with_capacity(changes.len());
    for said in changes {
        accounts
            .entry(&said.cache_key)
            .and_modify(|known| known.to_mut().merge(said))
            .or_insert_with(|| Cow::Borrowed(said));
    }
    accounts
}

/// What is stored, and what was said of it since.
pub(crate) fn joined(stored: Option<&AccountActivity>, said: &AccountActivity) -> AccountActivity {
    let mut all = stored.cloned().unwrap_or_else(|| AccountActivity::nothing_about(said.cache_key.clone()));
    all.merge(said);
    all
}

impl AccountState {
    /// The states, in the order of their stored numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Ready, Self::BackingOff, Self::Parked, Self::Removed];

    /// The number it is stored under.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::BackingOff => 1,
            Self::Parked => 2,
            Self::Removed => 3,
        }
    }
}

impl Counts {
    /// Adds accounts of one state.
    pub(crate) fn add(&mut self, state: AccountState, accounts: u64) {
        let place = match state {
            AccountState::Ready => &mut self.by_state.ready,
            AccountState::BackingOff => &mut self.by_state.backing_off,
            AccountState::Parked => &mut self.by_state.parked,
            AccountState::Removed => &mut self.by_state.removed,
        };
        *place += accounts;
        if state != AccountState::Removed {
            self.listed += accounts;
        }
    }
}

impl<'a> FromIterator<&'a AccountActivity> for Counts {
    fn from_iter<I: IntoIterator<Item = &'a AccountActivity>>(accounts: I) -> Self {
        let mut counts = Self::default();
        accounts.into_iter().for_each(|account| counts.add(account.state(), 1));
        counts
    }
}
