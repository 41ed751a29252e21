//! The signal to apps that an account needs its user: an event type of its own, derived from the failure that says so.
//!
//! ```json
//! {
//!   "specversion": "1.0",
//!   "id": "<id of the acquisition-failed event>/reauthentication-required",
//!   "source": "/workers/hydrate",
//!   "type": "tokencache.reauthentication-required.v1",
//!   "subject": "<cache key>",
//!   "time": "2026-11-22T10:00:00.123456Z",
//!   "data": { "reason": "revoked", "error": "invalid_grant", "home_account_id": "uid.utid", "tenant_id": "utid" }
//! }
//! ```
//!
//! It is no part of the log: an app that was away reads the index. Its id follows from the failure's, so a failure that
//! is sent again gives the same signal again.

use serde::Serialize;

use super::wire::{SpecVersion, time_text};
use super::{
    AcquisitionFailure, Activity, ActivityEvent, EncodedEvents, EventSource, EventType, Recovery, SINGLE_CONTENT_TYPE,
    SealedEvent, TraceParent,
};
use crate::account::CacheKey;

/// The `type` of the signal.
pub const REAUTHENTICATION_REQUIRED: &str = "tokencache.reauthentication-required.v1";

#[derive(Serialize)]
struct Signal<'a> {
    specversion: SpecVersion,
    id: String,
    source: &'a EventSource,
    #[serde(rename = "type")]
    event_type: &'static str,
    subject: &'a CacheKey,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a TraceParent>,
    data: &'a AcquisitionFailure,
}

/// The signal that goes with `event`; `None` where it is no failure that only the user can mend.
pub fn reauthentication_signal(event: &SealedEvent) -> Option<EncodedEvents> {
    match event.event_type() {
        EventType::AcquisitionFailed => signal_of(&event.open().ok()?),
        EventType::UserActivity | EventType::Hydrated | EventType::Removed => None,
    }
}

fn signal_of(event: &ActivityEvent) -> Option<EncodedEvents> {
    let Activity::AcquisitionFailed(failure) = &event.activity else { return None };
    if failure.reason.recovery() != Recovery::UserActivity {
        return None;
    }
    let signal = Signal {
        specversion: SpecVersion::V1,
        id: format!("{}/reauthentication-required", event.id),
        source: &event.source,
        event_type: REAUTHENTICATION_REQUIRED,
        subject: &event.subject,
        time: time_text(event.time),
        traceparent: event.traceparent.as_ref(),
        data: failure,
    };
    // Plain data with text keys always serializes.
    let body = serde_json::to_vec(&signal).ok()?;
    Some(EncodedEvents { content_type: SINGLE_CONTENT_TYPE, body, events: 1 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event::{AccountHint, FailureReason};

    fn failed(reason: FailureReason) -> ActivityEvent {
        let failure = AcquisitionFailure {
            reason,
            error: Some("invalid_grant".parse().unwrap()),
            suberror: None,
            retry_after: None,
            account: AccountHint::default(),
        };
        ActivityEvent {
            id: "0193a5e0-0000-7000-8000-000000000001".parse().unwrap(),
            source: EventSource::of_workers(),
            subject: "uid.utid".parse().unwrap(),
            time: "2026-11-22T10:00:00.123456Z".parse().unwrap(),
            traceparent: None,
            activity: Activity::AcquisitionFailed(failure),
        }
    }

    #[test]
    fn a_failure_that_only_the_user_can_mend_has_a_signal_and_no_other_has() {
        for reason in FailureReason::ALL {
            let signal = reauthentication_signal(&SealedEvent::of(&failed(reason)));
            assert_eq!(signal.is_some(), reason.recovery() == Recovery::UserActivity, "{reason:?}");
        }
        let removed =
            ActivityEvent { activity: Activity::Removed(AccountHint::default()), ..failed(FailureReason::Revoked) };
        assert_eq!(reauthentication_signal(&SealedEvent::of(&removed)), None);
    }

    #[test]
    fn the_signal_is_a_cloud_event_that_says_why() {
        let signal = reauthentication_signal(&SealedEvent::of(&failed(FailureReason::Revoked))).unwrap();
        let json: Value = serde_json::from_slice(&signal.body).unwrap();
        assert_eq!(
            json,
            json!({
                "specversion": "1.0",
                "id": "0193a5e0-0000-7000-8000-000000000001/reauthentication-required",
                "source": "/workers/hydrate",
                "type": "tokencache.reauthentication-required.v1",
                "subject": "uid.utid",
                "time": "2026-11-22T10:00:00.123456Z",
                "data": {"reason": "revoked", "error": "invalid_grant"},
            })
        );
    }
}
