//! The port of the index: apply what events say, ask who was here.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AccountActivity, AccountState};
use crate::account::{CacheKey, ClientId, TenantId, Username};
use crate::backend::BackendError;
use crate::log::MessageDigest;

/// Where the fold is kept.
///
/// Every implementation passes the conformance suite, `testkit::conformance::index`.
/// All methods are cancel safe: a call that is dropped has happened wholly or, account by account, not yet;
/// since [`apply`](Self::apply) is idempotent, it is called again.
#[async_trait]
pub trait ActivityStore: Send + Sync + fmt::Debug {
    /// Joins `changes` into the index. When it returns, queries see all of them.
    ///
    /// # Errors
    /// [`BackendError`]; some of the changes may be applied then, and applying all again is right.
    async fn apply(&self, changes: &[AccountActivity]) -> Result<(), BackendError>;

    /// What the index knows of one cache key, listed or not.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn get(&self, cache_key: &CacheKey) -> Result<Option<AccountActivity>, BackendError>;

    /// One page of the listed accounts that `request` asks for.
    ///
    /// Time-ordered queries cost O(log n + examined). A page examines a bounded number of accounts, so a page that
    /// is narrowed by a filter may be short, or empty, and still have a next cursor.
    ///
    /// # Errors
    /// [`ListError`].
    async fn list(&self, request: &ListRequest) -> Result<Page, ListError>;

    /// How many accounts there are, by state, in all or of one tenant.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn counts(&self, tenant: Option<&TenantId>) -> Result<Counts, BackendError>;

    /// The next offset to read of `partition`, where one is stored.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn checkpoint(&self, partition: u32) -> Result<Option<Checkpoint>, BackendError>;

    /// Stores the next offset to read of `partition`, after its batch was applied. It never goes backwards:
    /// a lower offset than the stored one, or the same one, changes nothing.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn store_checkpoint(&self, partition: u32, checkpoint: Checkpoint) -> Result<(), BackendError>;

    /// The generation that is live now, and stays the same when another one becomes live. Whoever applies and then
    /// stores a checkpoint does both on one of these: a checkpoint says what *its* generation has seen.
    /// `None`: this store has no other generation.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn pin(&self) -> Result<Option<Arc<dyn ActivityStore>>, BackendError> {
        Ok(None)
    }

    /// Whether queries answer from this handle's generation. Whoever follows the log asks now and then, and goes on
    /// from the checkpoint of the live one.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn is_live(&self) -> Result<bool, BackendError> {
        Ok(true)
    }
}

/// How far one partition is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The next offset to read.
    pub next_offset: u64,
    /// The newest event of the batch before it, where it had one: how much of the log is missing after a gap, and how
    /// far off the log's retention is.
    pub newest_event: Option<Timestamp>,
    /// What tells the message at the offset before it from another one, where it is known: whether the log still has what
    /// was read, or lost its end and has given the offsets to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<MessageDigest>,
}

impl Checkpoint {
    /// A checkpoint that says nothing of events and messages.
    pub fn at(next_offset: u64) -> Self {
        Self { next_offset, newest_event: None, last_message: None }
    }
}

/// Which accounts, in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Last activity at or after the time, newest first.
    ActiveSince(Timestamp),
    /// Last activity at or before the time, longest idle first.
    IdleSince(Timestamp),
    /// All accounts of a username (as [`crate::event::UsernamePolicy::apply`] gives it), newest first.
    /// Letters' case does not matter.
    User(Username),
}

/// The order of a page by last activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    NewestFirst,
    /// Oldest first.
    OldestFirst,
}

impl Query {
    /// The order this query lists in.
    pub fn order(&self) -> Order {
        match self {
            Self::ActiveSince(_) | Self::User(_) => Order::NewestFirst,
            Self::IdleSince(_) => Order::OldestFirst,
        }
    }

    /// Whether `account` belongs to the list, whatever the filter.
    pub fn asks_for(&self, account: &AccountActivity) -> bool {
        let Some(last_activity) = account.last_activity.filter(|_| account.is_listed()) else {
            return false;
        };
        match self {
            Self::ActiveSince(time) => last_activity >= *time,
            Self::IdleSince(time) => last_activity <= *time,
            Self::User(asked) => {
                let username = account.details.as_ref().and_then(|details| details.value.username.as_ref());
                username.is_some_and(|username| username.lower_cased() == asked.lower_cased())
            }
        }
    }
}

/// Narrows a list. An empty filter lets all through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only accounts of this home tenant.
    pub tenant: Option<TenantId>,
    /// Only accounts of this app.
    pub client: Option<ClientId>,
    /// Only accounts in this state.
    pub state: Option<AccountState>,
}

impl Filter {
    /// Whether `account` passes.
    pub fn lets_through(&self, account: &AccountActivity) -> bool {
        let details = account.details.as_ref().map(|details| &details.value);
        self.tenant.as_ref().is_none_or(|tenant| account.tenant_id() == Some(tenant))
            && self.client.as_ref().is_none_or(|client| details.is_some_and(|d| d.client_id == *client))
            && self.state.is_none_or(|state| account.state() == state)
    }
}

/// One call for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRequest {
    /// Which accounts.
    pub query: Query,
    /// Narrowed by.
    pub filter: Filter,
    /// How many at most, 1 to [`Self::MAX_LIMIT`].
    pub limit: usize,
    /// Where to go on; `None` for the first page.
    pub cursor: Option<Cursor>,
}

impl ListRequest {
    /// The largest page.
    pub const MAX_LIMIT: usize = 10_000;
}

/// One page of accounts.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The accounts, in the query's order.
    pub accounts: Vec<AccountActivity>,
    /// Where to go on; `None` on the last page.
    pub next: Option<Cursor>,
}

/// A place in a list: after an account with this last activity and this key of the store's own.
///
/// Opaque outside; it stays valid while the index changes. Accounts that are active while
/// the list is read may move past the cursor: they are seen at most once per place they held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Last activity of the account it stands after, in microseconds.
    pub(crate) micros: i64,
    /// What the store orders accounts of one time by.
    pub(crate) member: Vec<u8>,
}

/// A text is not a cursor of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one this version gave out; start the list anew without it")]
pub struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![b'1'];
        bytes.extend_from_slice(&self.micros.to_be_bytes());
        bytes.extend_from_slice(&self.member);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl std::str::FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let rest = bytes.strip_prefix(b"1").ok_or(InvalidCursor)?;
        let (micros, member) = rest.split_first_chunk::<8>().ok_or(InvalidCursor)?;
        Ok(Self { micros: i64::from_be_bytes(*micros), member: member.to_vec() })
    }
}

/// How many accounts are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StateCounts {
    /// See [`AccountState::Ready`].
    pub ready: u64,
    /// See [`AccountState::BackingOff`].
    pub backing_off: u64,
    /// See [`AccountState::Parked`].
    pub parked: u64,
    /// See [`AccountState::Removed`].
    pub removed: u64,
}

/// How many accounts the index holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Accounts that queries list.
    pub listed: u64,
    /// All of them, by state.
    #[serde(flatten)]
    pub by_state: StateCounts,
}

/// A page could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The limit is 0 or above [`ListRequest::MAX_LIMIT`].
    #[error("the limit is {0}; give 1 to {max}", max = ListRequest::MAX_LIMIT)]
    Limit(usize),
    /// See [`InvalidCursor`].
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// See [`BackendError`].
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl ListError {
    /// Whether the same call may succeed later with nothing changed here.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Backend(error) if error.is_transient())
    }
}
