//! The port by which workers take accounts that are due: each account one worker's at a time, for a while, fairly.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AccountActivity, Cursor, Due, InvalidCursor, Schedule};
use crate::account::{CacheKey, ClientId, TenantId, identifier};
use crate::backend::BackendError;

/// Claims on accounts of the live generation, kept beside the index and outside of its generations, which come and go.
///
/// *Due* is [`super::DuePolicy::due`] of the account's record, or earlier what a job [scheduled](Self::schedule). Who
/// was claimed, backs off, or was completed a moment ago is held back, whatever its record says. All times are the
/// server's. Claims are no part of the log: if a server loses them, an account may be claimed twice, and the fence that
/// goes with the write back of its blob, and compare-and-set, keep that harmless.
///
/// Every implementation passes the conformance suite, `testkit::conformance::claims`.
#[async_trait]
pub trait Claims: Send + Sync + fmt::Debug {
    /// Takes up to [`ClaimRequest::limit`] accounts that are due, for the worker alone: in each tenant the most overdue
    /// first, and the tenants in turn, so that none waits for another one's work.
    ///
    /// Fewer than the limit does not mean that no more are due: a call examines a bounded number of accounts.
    /// An index in several shards keeps that order in each of them, begins with any, and spreads the rates evenly over
    /// them, so that each may give out one claim at once.
    ///
    /// # Errors
    /// [`ClaimError`].
    ///
    /// # Cancel safety
    /// A dropped call may have claimed; the leases end by themselves.
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, ClaimError>;

    /// Holds a claim for another `lease` from now. To be asked right before the identity provider is: the answer says
    /// whether the claim is still held, and whether the tenant is [left alone](Self::pause).
    ///
    /// # Errors
    /// [`ClaimError::Lost`] where somebody else has, or may have had, the account since.
    async fn renew(&self, held: &HeldClaim, lease: Duration) -> Result<Renewed, ClaimError>;

    /// Ends a claim with what became of it.
    ///
    /// # Errors
    /// [`ClaimError::Lost`]; nothing is changed then.
    async fn complete(&self, held: &HeldClaim, outcome: &Completion) -> Result<(), ClaimError>;

    /// Gives claims back undone: they are due again at once. Those that are not held any more stay as they are; says
    /// how many were given back.
    ///
    /// # Errors
    /// [`BackendError`]; the leases end by themselves.
    async fn release(&self, held: &[HeldClaim]) -> Result<usize, BackendError>;

    /// Makes an account due at a time, for a job, if it is not due before; one time per account, the last one given,
    /// and the reason that was given last. `None` takes both back. An account that waits for its user, or is not
    /// listed, is not claimed at that time either.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn schedule(&self, cache_key: &CacheKey, schedule: Option<&Schedule>) -> Result<(), BackendError>;

    /// Leaves a tenant alone until a time: none of its accounts is claimed, and who renews a claim is told. A time
    /// before the one that is set changes nothing.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn pause(&self, tenant: &TenantId, until: Timestamp) -> Result<(), BackendError>;

    /// Lets an account be claimed at once that a failure or a completion holds back; its failures are counted on. A
    /// claim that is held stays.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn forget_hold(&self, cache_key: &CacheKey) -> Result<(), BackendError>;

    /// Forgets all that is kept of an account here: its claim, which is lost then, what holds it back, its failures and
    /// its schedule. What its record says stays.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn forget(&self, cache_key: &CacheKey) -> Result<(), BackendError>;

    /// Accounts that are due by a time, claimed or not, the most overdue first.
    ///
    /// # Errors
    /// [`ClaimError`].
    async fn due(&self, request: &DueRequest) -> Result<DuePage, ClaimError>;
}

identifier!(
    /// Who claims: a worker process, by a name its operator knows. Names are shown; two of one name share their claims.
    WorkerId,
    128
);

impl WorkerId {
    /// The name of a process on a host without one.
    pub fn of_process(id: u32) -> Self {
        Self(format!("process-{id}"))
    }
}

/// Which accounts a worker takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// For whom.
    pub worker: WorkerId,
    /// How many at most, 1 to [`Self::MAX_LIMIT`].
    pub limit: usize,
    /// For how long, 1 second to [`Self::MAX_LEASE`].
    pub lease: Duration,
    /// Only accounts of this home tenant.
    pub tenant: Option<TenantId>,
    /// Only accounts of this app.
    pub client: Option<ClientId>,
    /// How many claims are given out in a time, to all workers together that ask with the same limits.
    pub rates: ClaimRates,
}

impl ClaimRequest {
    /// The most accounts of one claim.
    pub const MAX_LIMIT: usize = 1_000;
    /// The shortest lease.
    pub const MIN_LEASE: Duration = Duration::from_secs(1);
    /// The longest lease.
    pub const MAX_LEASE: Duration = Duration::from_secs(60 * 60);
}

/// Bounds on how many accounts are claimed per minute; evenly spread, with a burst of a second's worth (at least one).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClaimRates {
    /// Of one tenant.
    pub per_tenant: Option<NonZeroU32>,
    /// Of all.
    pub overall: Option<NonZeroU32>,
}

/// An account that is one worker's for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// What the worker shows to go on with it.
    pub held: HeldClaim,
    /// Until when it is the worker's.
    pub lease_until: Timestamp,
    /// Since when it was due, and why.
    pub due: Due,
    /// How often it failed in a row before, in ways that pass by themselves.
    pub attempts: u32,
    /// The account as the index knows it.
    pub account: AccountActivity,
}

/// Names a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldClaim {
    /// Of which account.
    pub cache_key: CacheKey,
    /// Whose.
    pub worker: WorkerId,
    /// The fencing token: higher than that of every earlier claim of the account.
    pub fence: Fence,
}

/// A fencing token: of two claims of one account, the later one has the higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A claim was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// Until when it is held now.
    pub lease_until: Timestamp,
    /// Until when the account's tenant is left alone, if it is.
    pub paused_until: Option<Timestamp>,
}

/// What became of a claimed account. The states it leads to are the table in ARCHITECTURE.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// It has what it needs, or waits for its user: what the log says of it decides when it is due next. Until the
    /// index has caught up with the log, [`Self::SETTLING`], it is held back.
    Settled {
        /// When it is due next, where the worker knows better than the index: the token it found is valid until then.
        /// It holds until the account's record changes, and keeps no scheduled job waiting.
        next: Option<Timestamp>,
    },
    /// It failed in a way that passes by itself: it is held back for a random time that doubles at most with each
    /// attempt ([`Self::FIRST_BACK_OFF`] to [`Self::LONGEST_BACK_OFF`]), and not before `not_before`.
    Failed {
        /// The provider's `Retry-After`.
        not_before: Option<Timestamp>,
    },
    /// There is nothing to work on any more.
    Gone,
}

impl Completion {
    /// How long a completed account waits for the index to say when it is due next.
    pub const SETTLING: Duration = Duration::from_secs(60);
    /// The longest wait after a first failure.
    pub const FIRST_BACK_OFF: Duration = Duration::from_secs(30);
    /// The longest wait after any number of failures.
    pub const LONGEST_BACK_OFF: Duration = Duration::from_secs(60 * 60);
    /// How long after its hold an account's failures are counted on.
    pub const ATTEMPTS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
}

/// Which accounts to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRequest {
    /// Due at or before this time.
    pub until: Timestamp,
    /// Only of this home tenant.
    pub tenant: Option<TenantId>,
    /// Only of this app.
    pub client: Option<ClientId>,
    /// How many at most, 1 to [`Self::MAX_LIMIT`].
    pub limit: usize,
    /// Where to go on.
    pub cursor: Option<Cursor>,
}

impl DueRequest {
    /// The largest page.
    pub const MAX_LIMIT: usize = 1_000;
}

/// One page of due accounts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DuePage {
    /// The accounts, the most overdue first.
    pub accounts: Vec<DueAccount>,
    /// Where to go on; `None` on the last page.
    pub next: Option<Cursor>,
}

/// One account that is due.
#[derive(Debug, Clone, PartialEq)]
pub struct DueAccount {
    /// The account.
    pub account: AccountActivity,
    /// Since when, and why.
    pub due: Due,
    /// What keeps it from being claimed now, if anything does.
    pub hold: Option<Hold>,
}

/// Why an account is not claimed although it is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Until when.
    pub until: Timestamp,
    /// Who has it; `None`: nobody, it backs off or settles.
    pub worker: Option<WorkerId>,
    /// How often it failed in a row.
    pub attempts: u32,
}

/// An operation on claims was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The limit of a claim or a page is out of bounds.
    #[error("the limit is {given}; give 1 to {most}")]
    Limit {
        /// The limit.
        given: usize,
        /// The highest.
        most: usize,
    },
    /// The lease is out of bounds.
    #[error("the lease is {given:?}; give {least:?} to {most:?}", least = ClaimRequest::MIN_LEASE, most = ClaimRequest::MAX_LEASE)]
    Lease {
        /// The lease.
        given: Duration,
    },
    /// The claim is not held any more: its lease was over and somebody else may have the account, or it was completed.
    #[error("the claim {fence} is not held any more; nothing was changed")]
    Lost {
        /// Its fencing token.
        fence: Fence,
    },
    /// See [`InvalidCursor`].
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// See [`BackendError`].
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl ClaimError {
    /// Whether the same call may succeed later with nothing changed here.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Backend(error) if error.is_transient())
    }

    /// Whether the claim is not held any more.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}
