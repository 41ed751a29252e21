//! The fold: every field is a last-writer-wins register or a maximum, so any order and duplication gives the same index.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::account::{CacheKey, TenantId};
use crate::event::{AccountDetails, AcquisitionFailure, Activity, ActivityEvent, EventId, Recovery, to_microseconds};

/// The rank of an event among those that write one register: its time, then its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// When, in microseconds since the Unix epoch.
    pub micros: i64,
    /// The event's id as a number: its UUID, or a digest of an id that is none.
    pub tie_breaker: u128,
}

impl Stamp {
    /// The rank of `event`.
    pub fn of(event: &ActivityEvent) -> Self {
        Self { micros: to_microseconds(event.time).as_microsecond(), tie_breaker: tie_breaker(&event.id) }
    }

    /// The time of the event.
    pub fn time(self) -> Timestamp {
        Timestamp::from_microsecond(self.micros).unwrap_or_default()
    }
}

fn tie_breaker(id: &EventId) -> u128 {
    if let Ok(uuid) = Uuid::try_parse(id.as_str()) {
        return uuid.as_u128();
    }
    let digest = Sha256::digest(id.as_str().as_bytes());
    digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// A last-writer-wins register.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Register<T> {
    /// The event that wrote it.
    pub stamp: Stamp,
    /// What it wrote.
    pub value: T,
}

impl<T: Serialize> Register<T> {
    /// Orders registers by their stamps, and two that claim one stamp by what they hold,
    /// so that even an id that was used twice gives one index in any order.
    fn rank(&self, other: &Self) -> Ordering {
        self.stamp.cmp(&other.stamp).then_with(|| canonical(&self.value).cmp(&canonical(&other.value)))
    }
}

fn canonical<T: Serialize>(value: &T) -> String {
    // The values are plain data with text keys, which always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

/// What the index knows of one cache key: the fold of the events about it.
///
/// A join-semilattice: [`merge`](Self::merge) is commutative, associative and idempotent.
///
/// A removal forgets: whatever is as old as [`removed_at`](Self::removed_at), or older, is not kept. What a register
/// lost to a removal was its newest, so nothing older can come up in its place, in whatever order the events come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountActivity {
    /// The cache key.
    pub cache_key: CacheKey,
    /// Whose cache it is: the newest `user-activity` or `hydrated`.
    pub details: Option<Register<AccountDetails>>,
    /// The newest `user-activity`.
    pub last_activity: Option<Timestamp>,
    /// The newest `hydrated`.
    pub last_hydration: Option<Timestamp>,
    /// The newest `acquisition-failed`, in force or not (see [`failure_in_force`](Self::failure_in_force)).
    /// Few accounts have one, so it takes its room elsewhere.
    pub failure: Option<Register<Box<AcquisitionFailure>>>,
    /// The newest `removed`.
    pub removed_at: Option<Timestamp>,
}

/// Where an account stands for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// Listed, and no failure is in force.
    Ready,
    /// Listed; the failure in force passes by itself.
    BackingOff,
    /// Listed; the failure in force needs the user.
    Parked,
    /// Not listed: its cache was removed, or no activity of the user is known.
    Removed,
}

impl AccountActivity {
    /// What one event alone says.
    pub fn of(event: &ActivityEvent) -> Self {
        event.clone().into()
    }

    /// The fold of no event.
    pub fn nothing_about(cache_key: CacheKey) -> Self {
        Self { cache_key, details: None, last_activity: None, last_hydration: None, failure: None, removed_at: None }
    }

    /// Joins what another copy or another event says of the same cache key.
    pub fn merge(&mut self, other: &Self) {
        if is_newer(&other.details, &self.details) {
            self.details.clone_from(&other.details);
        }
        if is_newer(&other.failure, &self.failure) {
            self.failure.clone_from(&other.failure);
        }
        self.join_times(other);
    }

    /// The same, taking over what is newer.
    pub fn absorb(&mut self, mut other: Self) {
        if is_newer(&other.details, &self.details) {
            self.details = other.details.take();
        }
        if is_newer(&other.failure, &self.failure) {
            self.failure = other.failure.take();
        }
        self.join_times(&other);
    }

    fn join_times(&mut self, other: &Self) {
        debug_assert_eq!(self.cache_key, other.cache_key, "only what is said of one key can be joined");
        self.last_activity = self.last_activity.max(other.last_activity);
        self.last_hydration = self.last_hydration.max(other.last_hydration);
        self.removed_at = self.removed_at.max(other.removed_at);
        self.forget_what_was_removed();
    }

    /// Keeps of what is not newer than the removal nothing but the removal: no name, no id, no time.
    fn forget_what_was_removed(&mut self) {
        let Some(removed_at) = self.removed_at else { return };
        let is_gone = |time: Timestamp| time <= removed_at;
        self.details.take_if(|details| is_gone(details.stamp.time()));
        self.failure.take_if(|failure| is_gone(failure.stamp.time()));
        self.last_activity.take_if(|time| is_gone(*time));
        self.last_hydration.take_if(|time| is_gone(*time));
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::nothing_about(self.cache_key.clone())
    }

    /// Whether the account is listed: the user was here after the last removal.
    pub fn is_listed(&self) -> bool {
        self.last_activity.is_some() && self.last_activity > self.removed_at
    }

    /// The newest failure, while neither the user nor a hydration came after it.
    pub fn failure_in_force(&self) -> Option<&Register<Box<AcquisitionFailure>>> {
        let at = |failure: &Register<Box<AcquisitionFailure>>| Some(failure.stamp.time());
        self.failure.as_ref().filter(|f| at(f) > self.last_activity && at(f) > self.last_hydration)
    }

    /// Where the account stands for a worker.
    pub fn state(&self) -> AccountState {
        if !self.is_listed() {
            return AccountState::Removed;
        }
        match self.failure_in_force().map(|failure| failure.value.reason.recovery()) {
            None => AccountState::Ready,
            Some(Recovery::Retry) => AccountState::BackingOff,
            Some(Recovery::UserActivity) => AccountState::Parked,
        }
    }

    /// The home tenant, where it is known.
    pub fn tenant_id(&self) -> Option<&TenantId> {
        self.details.as_ref().and_then(|details| details.value.tenant_id.as_ref())
    }
}

impl From<ActivityEvent> for AccountActivity {
    /// What the event alone says.
    fn from(event: ActivityEvent) -> Self {
        let stamp = Stamp::of(&event);
        let mut said = Self::nothing_about(event.subject);
        let time = Some(stamp.time());
        match event.activity {
            Activity::UserActivity(value) => {
                said.last_activity = time;
                said.details = Some(Register { stamp, value });
            }
            Activity::Hydrated(value) => {
                said.last_hydration = time;
                said.details = Some(Register { stamp, value });
            }
            Activity::AcquisitionFailed(value) => said.failure = Some(Register { stamp, value: Box::new(value) }),
            Activity::Removed(_) => said.removed_at = time,
        }
        said
    }
}

fn is_newer<T: Serialize>(theirs: &Option<Register<T>>, mine: &Option<Register<T>>) -> bool {
    let Some(theirs) = theirs else { return false };
    mine.as_ref().is_none_or(|mine| mine.rank(theirs) == Ordering::Less)
}

#[cfg(test)]
mod tests;
