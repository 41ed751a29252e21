//! Events as they go to the log: their JSON, known to be within the contract.
//!
//! An outbox keeps events without their times. Whoever moves them on has to know that they are events, and to write the
//! time in; it need not take them apart and put them together again.

use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::de::{self, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};

use super::wire::{SpecVersion, decode_draft, event_from, event_json, time_text};
use super::{ActivityEvent, ContractError, EventId, EventSource, EventType, Properties, TraceParent, to_microseconds};
use crate::account::{CacheKey, ClientId, Environment, HomeAccountId, Identifier, ObjectId, TenantId, Username};

/// One event, ready to be appended.
#[derive(Debug, Clone, PartialEq)]
pub struct SealedEvent {
    json: Vec<u8>,
    event_type: EventType,
    time: Timestamp,
}

impl SealedEvent {
    /// Of an event.
    pub fn of(event: &ActivityEvent) -> Self {
        Self { json: event_json(event), event_type: event.activity.event_type(), time: event.time }
    }

    /// Of what [`super::encode_draft`] wrote, at the store's `time` (cut to microseconds).
    ///
    /// # Errors
    /// [`ContractError`] where the bytes are not a draft.
    pub fn of_draft(draft: &[u8], time: Timestamp) -> Result<Self, ContractError> {
        match plain_type(draft) {
            Some(event_type) => {
                let time = to_microseconds(time);
                Ok(Self { json: with_time(draft, time), event_type, time })
            }
            None => Ok(Self::of(&decode_draft(draft)?.at(time))),
        }
    }

    /// What kind of event it is.
    pub fn event_type(&self) -> EventType {
        self.event_type
    }

    /// When it happened.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The event as JSON.
    pub fn as_json(&self) -> &[u8] {
        &self.json
    }

    /// The event.
    ///
    /// # Errors
    /// [`ContractError`]: none in what this type was made of.
    pub fn open(&self) -> Result<ActivityEvent, ContractError> {
        event_from(&self.json)
    }
}

/// The time goes before what stands first: the order of attributes means nothing.
fn with_time(draft: &[u8], time: Timestamp) -> Vec<u8> {
    let (before, after) = (b"{\"time\":\"", b"\",");
    let attributes = draft.trim_ascii_start().split_first().map_or(&[][..], |(_, rest)| rest);
    let text = time_text(time);
    let mut json = Vec::with_capacity(before.len() + text.len() + after.len() + attributes.len());
    for part in [before, text.as_bytes(), after, attributes] {
        json.extend_from_slice(part);
    }
    json
}

/// The type of a draft with an account's details, which most are, if it is one for certain: nothing of it is kept.
fn plain_type(draft: &[u8]) -> Option<EventType> {
    let Shape { event_type, has_time, .. } = serde_json::from_slice(draft).ok()?;
    let is_plain = matches!(event_type, EventType::UserActivity | EventType::Hydrated) && !has_time;
    is_plain.then_some(event_type)
}

/// An event without a time whose every part is one that [`decode_draft`] would take.
#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "specversion")]
    _specversion: SpecVersion,
    #[serde(rename = "id")]
    _id: Valid<EventId>,
    #[serde(rename = "source")]
    _source: Valid<EventSource>,
    #[serde(rename = "type")]
    event_type: EventType,
    #[serde(rename = "subject")]
    _subject: Valid<CacheKey>,
    #[serde(default, rename = "time", deserialize_with = "stands")]
    has_time: bool,
    #[serde(default, rename = "traceparent")]
    _traceparent: Option<Valid<TraceParent>>,
    #[serde(rename = "data")]
    _data: DetailsShape,
}

/// As [`super::AccountDetails`].
#[derive(Deserialize)]
struct DetailsShape {
    #[serde(rename = "home_account_id")]
    _home_account_id: Valid<HomeAccountId>,
    #[serde(default, rename = "object_id")]
    _object_id: Option<Valid<ObjectId>>,
    #[serde(default, rename = "tenant_id")]
    _tenant_id: Option<Valid<TenantId>>,
    #[serde(rename = "environment")]
    _environment: Valid<Environment>,
    #[serde(rename = "client_id")]
    _client_id: Valid<ClientId>,
    #[serde(default, rename = "username")]
    _username: Option<Valid<Username>>,
    #[serde(default, rename = "access_token_expires_on")]
    _access_token_expires_on: Option<i64>,
    #[serde(default, rename = "refresh_token_expires_on")]
    _refresh_token_expires_on: Option<i64>,
    #[serde(rename = "has_refresh_token")]
    _has_refresh_token: bool,
    #[serde(default, rename = "properties")]
    _properties: Properties,
}

/// A text that is a `T`, and is not kept.
struct Valid<T>(PhantomData<T>);

impl<'de, T: Identifier> Deserialize<'de> for Valid<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Self(PhantomData))
    }
}

impl<T: Identifier> Visitor<'_> for Valid<T> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self, E> {
        T::check(text).map_err(E::custom)?;
        Ok(self)
    }
}

/// That there is a value, whatever it is.
fn stands<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::{Activity, EventDraft, encode_draft};
    use crate::index::arbitrary;

    fn time() -> Timestamp {
        "2026-11-22T10:00:00.123456Z".parse().unwrap()
    }

    /// Both ways to the event of a draft, or that there is none.
    fn agree(draft: &[u8]) -> Option<ActivityEvent> {
        let slowly = decode_draft(draft).map(|draft| draft.at(time()));
        let sealed = SealedEvent::of_draft(draft, time());
        assert_eq!(sealed.as_ref().err(), slowly.as_ref().err());
        let sealed = sealed.ok()?;
        let opened = sealed.open().unwrap();
        assert_eq!((sealed.time(), sealed.event_type()), (opened.time, opened.activity.event_type()));
        assert_eq!(opened, slowly.unwrap());
        Some(opened)
    }

    fn draft_of(event: &ActivityEvent) -> EventDraft {
        let ActivityEvent { id, source, subject, traceparent, activity, .. } = event.clone();
        EventDraft { id, source, subject, traceparent, activity }
    }

    fn plain() -> Value {
        json!({
            "specversion": "1.0", "id": "i", "source": "/a", "type": "tokencache.hydrated.v1", "subject": "uid.utid",
            "traceparent": null,
            "data": {
                "home_account_id": "uid.utid", "environment": "login.contoso.com", "client_id": "c",
                "username": "a@b.c", "has_refresh_token": true, "properties": {"a": [1]}
            }
        })
    }

    proptest! {
        #[test]
        fn a_sealed_event_is_the_event(event in arbitrary::event_about("uid.utid".parse().unwrap())) {
            let draft = draft_of(&event);
            let json = encode_draft(&draft);
            prop_assert_eq!(agree(&json).unwrap(), event_from(&event_json(&draft.clone().at(time()))).unwrap());
            let is_plain = matches!(draft.activity, Activity::UserActivity(_) | Activity::Hydrated(_));
            prop_assert_eq!(plain_type(&json).is_some(), is_plain);
        }

        #[test]
        fn a_draft_with_a_byte_changed_is_judged_alike(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut json = plain().to_string().into_bytes();
            let at = at.index(json.len());
            json[at] = byte;
            agree(&json);
        }
    }

    #[test]
    fn what_is_wrong_with_a_draft_is_said_as_ever() {
        assert!(plain_type(plain().to_string().as_bytes()).is_some());
        let long = "x".repeat(600);
        for (pointer, wrong) in [
            ("/specversion", json!("2.0")),
            ("/id", json!("")),
            ("/subject", json!(long)),
            ("/type", json!("tokencache.unknown.v1")),
            ("/traceparent", json!(7)),
            ("/data", json!([])),
            ("/data/home_account_id", json!("a\u{7}")),
            ("/data/username", json!(long)),
            ("/data/client_id", Value::Null),
            ("/data/has_refresh_token", json!("yes")),
            ("/data/access_token_expires_on", json!(1.5)),
            ("/data/properties", json!({"": 1})),
        ] {
            let mut draft = plain();
            match draft.pointer_mut(pointer) {
                Some(place) => *place = wrong,
                None => drop(draft["data"].as_object_mut().unwrap().insert(pointer[6..].to_owned(), wrong)),
            }
            assert_eq!(agree(draft.to_string().as_bytes()), None, "{pointer}");
        }
    }

    #[test]
    fn a_draft_of_another_program_may_say_more_and_say_it_otherwise() {
        let mut draft = plain();
        draft["extension"] = json!("kept");
        let pretty = format!("\n  {}\n", serde_json::to_string_pretty(&draft).unwrap());
        assert!(agree(pretty.as_bytes()).is_some());
        assert!(plain_type(pretty.as_bytes()).is_some());
        for time in [json!("2020-01-01T00:00:00Z"), Value::Null] {
            draft["time"] = time;
            let json = draft.to_string();
            assert!(agree(json.as_bytes()).is_some(), "its own time does not count");
            assert!(plain_type(json.as_bytes()).is_none(), "and must not stand there twice");
        }
    }
}
