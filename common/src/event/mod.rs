//! The contract: what an activity event says about one cache key, and how it is written as a CloudEvent.
//!
//! An event is a CloudEvents 1.0 JSON document in structured mode
//! (`content-type: application/cloudevents+json`), or one of an array of them
//! (`application/cloudevents-batch+json`):
//!
//! ```json
//! {
//!   "specversion": "1.0",
//!   "id": "01930000-0000-7000-8000-000000000001",
//!   "source": "/apps/contoso-portal",
//!   "type": "tokencache.user-activity.v1",
//!   "subject": "<cache key>",
//!   "time": "2026-11-22T10:00:00.123456Z",
//!   "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
//!   "data": {
//!     "home_account_id": "uid.utid",
//!     "object_id": "uid", "tenant_id": "utid",
//!     "environment": "login.microsoftonline.com",
//!     "client_id": "…",
//!     "username": "user@contoso.com",
//!     "access_token_expires_on": 1795400000,
//!     "refresh_token_expires_on": 1803000000,
//!     "has_refresh_token": true,
//!     "properties": { "department": "…" }
//!   }
//! }
//! ```
//!
//! `tokencache.hydrated.v1` carries the same `data`. `tokencache.acquisition-failed.v1` carries
//! `{"reason": "interaction_required", "error": "invalid_grant", "suberror": "…", "retry_after": 1795400000}`
//! and `tokencache.removed.v1` an object that may be empty; both may name the account they speak of
//! (`home_account_id`, `object_id`, `tenant_id`, `environment`, `client_id`).

mod details;
mod failure;
mod read_event;
mod sealed;
mod signal;
mod username;
mod wire;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use details::{AccountDetails, AccountHint, InvalidProperties, Properties};
pub use failure::{AcquisitionFailure, ErrorCode, FailureReason, Recovery};
pub use sealed::SealedEvent;
pub use signal::{REAUTHENTICATION_REQUIRED, reauthentication_signal};
pub use username::{KeyTooShort, UsernameKey, UsernamePolicy};
pub use wire::{
    BATCH_CONTENT_TYPE, ContractError, EncodedEvents, MAX_BODY_BYTES, MAX_EVENTS_PER_BATCH, MAX_TIME_AHEAD, Refused,
    SINGLE_CONTENT_TYPE, decode, decode_draft, encode, encode_batches, encode_draft, refuse,
};

use crate::account::{CacheKey, identifier};

identifier!(
    /// The `id` of an event: unique per event, a UUIDv7 where this project made it.
    EventId,
    128
);
identifier!(
    /// The `source` of an event: the configured name of the emitting app, such as `/apps/contoso-portal`.
    EventSource,
    256
);
identifier!(
    /// A W3C trace context header, carried from the sign-in to the projection.
    TraceParent,
    55
);

impl EventSource {
    /// `/workers/hydrate`: the name of workers that are given none.
    pub fn of_workers() -> Self {
        Self("/workers/hydrate".to_owned())
    }
}

impl EventId {
    /// A fresh UUIDv7.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7().to_string())
    }
}

/// What happened to one cache key.
#[derive(Debug, Clone, PartialEq)]
pub enum Activity {
    /// `tokencache.user-activity.v1`: the web side wrote the cache, so the user was here.
    UserActivity(AccountDetails),
    /// `tokencache.hydrated.v1`: a worker renewed the cache; the user was not here.
    Hydrated(AccountDetails),
    /// `tokencache.acquisition-failed.v1`: a worker could not have a token.
    AcquisitionFailed(AcquisitionFailure),
    /// `tokencache.removed.v1`: the cache is gone.
    Removed(AccountHint),
}

/// The `type` attribute of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventType {
    /// See [`Activity::UserActivity`].
    #[serde(rename = "tokencache.user-activity.v1")]
    UserActivity,
    /// See [`Activity::Hydrated`].
    #[serde(rename = "tokencache.hydrated.v1")]
    Hydrated,
    /// See [`Activity::AcquisitionFailed`].
    #[serde(rename = "tokencache.acquisition-failed.v1")]
    AcquisitionFailed,
    /// See [`Activity::Removed`].
    #[serde(rename = "tokencache.removed.v1")]
    Removed,
}

impl EventType {
    /// The text of the `type` attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserActivity => "tokencache.user-activity.v1",
            Self::Hydrated => "tokencache.hydrated.v1",
            Self::AcquisitionFailed => "tokencache.acquisition-failed.v1",
            Self::Removed => "tokencache.removed.v1",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Activity {
    /// The `type` attribute this is written under.
    pub fn event_type(&self) -> EventType {
        match self {
            Self::UserActivity(_) => EventType::UserActivity,
            Self::Hydrated(_) => EventType::Hydrated,
            Self::AcquisitionFailed(_) => EventType::AcquisitionFailed,
            Self::Removed(_) => EventType::Removed,
        }
    }

    /// The tenant the account lives in, where the event names it.
    pub fn tenant_id(&self) -> Option<&crate::account::TenantId> {
        match self {
            Self::UserActivity(details) | Self::Hydrated(details) => details.tenant_id.as_ref(),
            Self::AcquisitionFailed(failure) => failure.account.tenant_id.as_ref(),
            Self::Removed(hint) => hint.tenant_id.as_ref(),
        }
    }
}

/// An event that has no time yet: the store gives it one inside the atomic write.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDraft {
    /// Unique per event.
    pub id: EventId,
    /// The emitting app.
    pub source: EventSource,
    /// The cache key it is about.
    pub subject: CacheKey,
    /// The trace it belongs to.
    pub traceparent: Option<TraceParent>,
    /// What happened.
    pub activity: Activity,
}

impl EventDraft {
    /// A draft with a fresh id and no trace.
    pub fn new(source: EventSource, subject: CacheKey, activity: Activity) -> Self {
        Self { id: EventId::fresh(), source, subject, traceparent: None, activity }
    }

    /// The event, at the store's `time` (cut to microseconds).
    pub fn at(self, time: Timestamp) -> ActivityEvent {
        ActivityEvent {
            id: self.id,
            source: self.source,
            subject: self.subject,
            time: to_microseconds(time),
            traceparent: self.traceparent,
            activity: self.activity,
        }
    }
}

/// One CloudEvent about one cache key.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityEvent {
    /// Unique per event; an event that is sent again keeps it.
    pub id: EventId,
    /// The emitting app.
    pub source: EventSource,
    /// The cache key it is about.
    pub subject: CacheKey,
    /// When it happened by the clock of the store, UTC, in microseconds.
    pub time: Timestamp,
    /// The trace it belongs to.
    pub traceparent: Option<TraceParent>,
    /// What happened.
    pub activity: Activity,
}

/// Cuts a time to the contract's precision, towards the past.
pub fn to_microseconds(time: Timestamp) -> Timestamp {
    let micros = time.as_nanosecond().div_euclid(1000);
    i64::try_from(micros).ok().and_then(|m| Timestamp::from_microsecond(m).ok()).unwrap_or(time)
}
