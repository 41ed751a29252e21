//! `asyncapi.yaml`, held against the code: the document other languages go by says what the code does.

use common::account::{CacheKey, ClientId, Environment, HomeAccountId, ObjectId, TenantId, Username};
use common::event::{
    BATCH_CONTENT_TYPE, ErrorCode, EventId, EventSource, EventType, FailureReason, MAX_BODY_BYTES,
    MAX_EVENTS_PER_BATCH, MAX_TIME_AHEAD, Properties, REAUTHENTICATION_REQUIRED, SINGLE_CONTENT_TYPE, SealedEvent,
    TraceParent, decode, reauthentication_signal,
};
use serde_json::{Value, json};

fn document() -> Value {
    serde_yaml_ng::from_str(include_str!("../../../asyncapi.yaml")).unwrap()
}

fn schema(document: &Value, name: &str) -> Value {
    document["components"]["schemas"][name].clone()
}

/// Every example of a message of the log, with the message's content type.
fn examples(document: &Value) -> Vec<(String, Value)> {
    let messages = document["components"]["messages"].as_object().unwrap();
    let of = |message: &Value| {
        let content_type = message["contentType"].as_str().unwrap().to_owned();
        let examples = message["examples"].as_array().unwrap().clone();
        examples.into_iter().map(move |example| (content_type.clone(), example["payload"].clone()))
    };
    messages.values().filter(|message| message["name"] != REAUTHENTICATION_REQUIRED).flat_map(of).collect()
}

fn is_taken(content_type: &str, payload: &Value) -> bool {
    let events = decode(Some(content_type), payload.to_string().as_bytes());
    !events.is_empty() && events.iter().all(Result::is_ok)
}

#[test]
fn every_example_of_the_document_is_taken() {
    let examples = examples(&document());
    assert!(examples.len() >= 8);
    for (content_type, payload) in examples {
        assert!(is_taken(&content_type, &payload), "{payload}");
    }
}

#[test]
fn the_messages_are_the_four_events_the_batch_and_the_signal() {
    let document = document();
    let messages = document["components"]["messages"].as_object().unwrap();
    let types = [EventType::UserActivity, EventType::Hydrated, EventType::AcquisitionFailed, EventType::Removed];
    for event_type in types {
        let message = messages.values().find(|message| message["name"] == event_type.as_str()).unwrap();
        assert_eq!(message["contentType"], SINGLE_CONTENT_TYPE);
    }
    assert_eq!(messages["batch"]["contentType"], BATCH_CONTENT_TYPE);
    assert_eq!(messages["reauthenticationRequired"]["name"], REAUTHENTICATION_REQUIRED);
    assert_eq!(messages.len(), types.len() + 2);
    assert_eq!(schema(&document, "Envelope")["properties"]["type"]["enum"], json!(types.map(EventType::as_str)));
}

#[test]
fn the_limits_are_the_codes_limits() {
    let document = document();
    for (name, limit) in [
        ("CacheKey", CacheKey::MAX_BYTES),
        ("HomeAccountId", HomeAccountId::MAX_BYTES),
        ("ObjectId", ObjectId::MAX_BYTES),
        ("TenantId", TenantId::MAX_BYTES),
        ("Environment", Environment::MAX_BYTES),
        ("ClientId", ClientId::MAX_BYTES),
        ("Username", Username::MAX_BYTES),
        ("EventId", EventId::MAX_BYTES),
        ("EventSource", EventSource::MAX_BYTES),
        ("TraceParent", TraceParent::MAX_BYTES),
        ("ErrorCode", ErrorCode::MAX_BYTES),
    ] {
        assert_eq!(schema(&document, name)["maxLength"], limit, "{name}");
    }
    let properties = schema(&document, "Properties");
    assert_eq!(properties["maxProperties"], Properties::MAX_ENTRIES);
    assert_eq!(properties["propertyNames"]["maxLength"], Properties::MAX_NAME_BYTES);
    assert_eq!(properties["x-max-json-bytes"], Properties::MAX_JSON_BYTES);
    assert_eq!(schema(&document, "Batch")["maxItems"], MAX_EVENTS_PER_BATCH);
    let ahead = &schema(&document, "Envelope")["properties"]["time"]["x-max-seconds-ahead"];
    assert_eq!(ahead.as_i64(), Some(MAX_TIME_AHEAD.as_secs()));
    for message in document["components"]["messages"].as_object().unwrap().values() {
        assert_eq!(message["x-max-body-bytes"], MAX_BODY_BYTES);
    }
}

#[test]
fn the_reasons_of_a_failure_are_the_codes_reasons() {
    let reasons = schema(&document(), "FailureReason")["enum"].clone();
    let known: Vec<FailureReason> = serde_json::from_value(reasons.clone()).unwrap();
    assert_eq!(known.len(), FailureReason::ALL.len());
    assert_eq!(json!(FailureReason::ALL.map(FailureReason::as_str)), reasons);
}

/// Takes each field away in turn: what the schema requires is refused without it, and all else is taken.
fn hold_required_against_code(payload: &Value, at: &str, required: &Value) {
    let required: Vec<&str> = required.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for name in payload.pointer(at).unwrap().as_object().unwrap().keys() {
        let mut without = payload.clone();
        without.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(name);
        let is_required = required.contains(&name.as_str());
        assert_eq!(is_taken(SINGLE_CONTENT_TYPE, &without), !is_required, "{at}/{name}");
    }
    let present = payload.pointer(at).unwrap();
    assert!(required.iter().all(|name| present.get(name).is_some()), "{at}: {required:?}");
}

#[test]
fn what_the_document_requires_the_code_requires() {
    let document = document();
    let payload = |message: &str| document["components"]["messages"][message]["examples"][0]["payload"].clone();
    let sign_in = payload("userActivity");
    hold_required_against_code(&sign_in, "", &schema(&document, "Envelope")["required"]);
    hold_required_against_code(&sign_in, "/data", &schema(&document, "AccountDetails")["required"]);
    let failure = schema(&document, "AcquisitionFailure")["allOf"][1]["required"].clone();
    hold_required_against_code(&payload("acquisitionFailed"), "/data", &failure);
    hold_required_against_code(&payload("removed"), "/data", &json!([]));
}

#[test]
fn the_fields_the_document_names_are_the_fields_the_code_writes() {
    let document = document();
    let sign_in = &document["components"]["messages"]["userActivity"]["examples"][0]["payload"];
    let event = decode(None, sign_in.to_string().as_bytes()).remove(0).unwrap();
    let written: Value = serde_json::from_slice(&common::event::encode(&event).body).unwrap();
    assert_eq!(&written, sign_in, "the example has every field, and the code writes each as it stands there");
    let named = schema(&document, "AccountDetails")["properties"].as_object().unwrap().len();
    assert_eq!(written["data"].as_object().unwrap().len(), named);
}

#[test]
fn the_signal_of_the_document_is_the_one_the_code_sends() {
    let document = document();
    let messages = &document["components"]["messages"];
    let signal = &messages["reauthenticationRequired"]["examples"][0]["payload"];
    let mut failed = signal.clone();
    failed["type"] = EventType::AcquisitionFailed.as_str().into();
    failed["id"] = signal["id"].as_str().unwrap().strip_suffix("/reauthentication-required").unwrap().into();
    let event = decode(None, failed.to_string().as_bytes()).remove(0).unwrap();
    let sent: Value = serde_json::from_slice(&reauthentication_signal(&SealedEvent::of(&event)).unwrap().body).unwrap();
    assert_eq!(&sent, signal);
}
