//! The contract, held against golden files that other languages can be held against too.

use common::event::{ActivityEvent, EventDraft};
use common::event::{
    BATCH_CONTENT_TYPE, ContractError, MAX_BODY_BYTES, MAX_EVENTS_PER_BATCH, SINGLE_CONTENT_TYPE, SealedEvent, decode,
    decode_draft, encode, encode_batches, encode_draft,
};
use serde_json::{Value, json};

const GOLDEN: [(&str, &str); 4] = [
    ("user-activity", include_str!("../golden/event/user-activity.json")),
    ("hydrated", include_str!("../golden/event/hydrated.json")),
    ("acquisition-failed", include_str!("../golden/event/acquisition-failed.json")),
    ("removed", include_str!("../golden/event/removed.json")),
];
const GOLDEN_BATCH: &str = include_str!("../golden/event/batch.json");

fn only(content_type: Option<&str>, body: &[u8]) -> Result<ActivityEvent, ContractError> {
    let mut events = decode(content_type, body);
    assert_eq!(events.len(), 1);
    events.remove(0).map_err(|refused| refused.error)
}

fn golden_value() -> Value {
    serde_json::from_str(GOLDEN[0].1).unwrap()
}

fn with(path: &str, value: Value) -> Vec<u8> {
    let mut event = golden_value();
    *event.pointer_mut(path).unwrap() = value;
    event.to_string().into_bytes()
}

fn without(field: &str) -> Vec<u8> {
    let mut event = golden_value();
    let (parent, name) = field.rsplit_once('/').unwrap();
    event.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
    event.to_string().into_bytes()
}

fn refused_field(body: &[u8]) -> (String, String) {
    match only(Some(SINGLE_CONTENT_TYPE), body) {
        Err(ContractError::Field { field, problem }) => (field, problem),
        other => panic!("expected a refused field, got {other:?}"),
    }
}

#[test]
fn each_golden_event_is_read_and_written_to_the_letter() {
    for (name, text) in GOLDEN {
        let event = only(Some(SINGLE_CONTENT_TYPE), text.as_bytes()).unwrap();
        assert_eq!(event.activity.event_type().to_string(), format!("tokencache.{name}.v1"));
        let written = encode(&event);
        assert_eq!(String::from_utf8(written.body).unwrap(), text);
        assert_eq!(written.content_type, SINGLE_CONTENT_TYPE);
    }
}

#[test]
fn the_golden_batch_is_read_and_written_to_the_letter() {
    let events: Vec<ActivityEvent> =
        decode(Some(BATCH_CONTENT_TYPE), GOLDEN_BATCH.as_bytes()).into_iter().map(Result::unwrap).collect();
    let bodies = encode_batches(&sealed(&events));
    assert_eq!(bodies.len(), 1);
    assert_eq!(bodies[0].events, 4);
    assert_eq!(String::from_utf8(bodies[0].body.clone()).unwrap(), GOLDEN_BATCH);
}

#[test]
fn a_draft_becomes_the_same_event_each_time_it_is_given_its_time() {
    let event = only(None, GOLDEN[0].1.as_bytes()).unwrap();
    let ActivityEvent { id, source, subject, time, traceparent, activity } = event.clone();
    let draft = EventDraft { id, source, subject, traceparent, activity };
    let kept = encode_draft(&draft);
    assert!(!String::from_utf8(kept.clone()).unwrap().contains("\"time\""));
    assert_eq!(decode_draft(&kept).unwrap().at(time), event);
}

#[test]
fn unknown_attributes_and_fields_are_tolerated() {
    let mut event = golden_value();
    event["datacontenttype"] = json!("application/json");
    event["comexampleextension"] = json!(7);
    event["data"]["department_code"] = json!({"deep": [1, 2]});
    let read = only(Some("application/cloudevents+json; charset=utf-8"), event.to_string().as_bytes()).unwrap();
    assert_eq!(read, only(None, GOLDEN[0].1.as_bytes()).unwrap());
}

#[test]
fn a_body_without_a_content_type_is_read_for_what_it_looks_like() {
    for content_type in [None, Some("application/json"), Some("")] {
        assert_eq!(decode(content_type, GOLDEN_BATCH.as_bytes()).len(), 4);
        assert!(only(content_type, GOLDEN[3].1.as_bytes()).is_ok());
    }
    assert_eq!(only(Some("text/plain"), GOLDEN[3].1.as_bytes()), Err(ContractError::ContentType));
}

#[test]
fn halves_of_the_home_account_id_are_filled_in_where_a_client_left_them_out() {
    let mut event = golden_value();
    event["data"].as_object_mut().unwrap().remove("object_id");
    event["data"].as_object_mut().unwrap().remove("tenant_id");
    let read = only(None, event.to_string().as_bytes()).unwrap();
    assert_eq!(read, only(None, GOLDEN[0].1.as_bytes()).unwrap());
}

#[test]
fn a_wrong_field_is_named_and_its_value_is_not_repeated() {
    let secret = "eyJ0eXAi-a-token-in-the-wrong-place";
    for (pointer, field) in [
        ("/specversion", "specversion"),
        ("/type", "type"),
        ("/time", "time"),
        ("/data/has_refresh_token", "data.has_refresh_token"),
        ("/data/access_token_expires_on", "data.access_token_expires_on"),
        ("/data/properties", "data.properties"),
    ] {
        let (named, problem) = refused_field(&with(pointer, json!(secret)));
        assert_eq!(named, field);
        assert!(!problem.contains(secret), "{problem}");
    }
    for (pointer, field) in [("/id", "id"), ("/subject", "subject"), ("/data/home_account_id", "data.home_account_id")]
    {
        let (named, _) = refused_field(&with(pointer, json!(17)));
        assert_eq!(named, field);
    }
}

#[test]
fn a_missing_field_is_named() {
    for (pointer, field) in [
        ("/id", "id"),
        ("/source", "source"),
        ("/specversion", "specversion"),
        ("/type", "type"),
        ("/subject", "subject"),
        ("/time", "time"),
        ("/data", "data"),
        ("/data/home_account_id", "data.home_account_id"),
        ("/data/environment", "data.environment"),
        ("/data/client_id", "data.client_id"),
        ("/data/has_refresh_token", "data.has_refresh_token"),
    ] {
        assert_eq!(refused_field(&without(pointer)), (field.to_owned(), "is missing".to_owned()));
    }
}

#[test]
fn an_unknown_reason_of_a_failure_is_refused_by_name() {
    let mut event: Value = serde_json::from_str(GOLDEN[2].1).unwrap();
    event["data"]["reason"] = json!("bad_weather");
    assert_eq!(refused_field(event.to_string().as_bytes()).0, "data.reason");
}

#[test]
fn lengths_beyond_the_limits_are_refused_by_name() {
    for (pointer, limit) in [("/subject", 512), ("/source", 256), ("/data/username", 320), ("/data/environment", 253)] {
        assert!(only(None, &with(pointer, json!("x".repeat(limit)))).is_ok(), "{pointer}");
        let (field, problem) = refused_field(&with(pointer, json!("x".repeat(limit + 1))));
        assert_eq!(field, pointer.trim_start_matches('/').replace('/', "."));
        assert!(problem.contains(&limit.to_string()), "{problem}");
    }
    let (field, _) = refused_field(&with("/data/properties", json!({"note": "x".repeat(5000)})));
    assert_eq!(field, "data.properties");
}

#[test]
fn one_wrong_event_of_a_batch_leaves_the_others_good() {
    let mut batch: Vec<Value> = serde_json::from_str(GOLDEN_BATCH).unwrap();
    batch.insert(2, json!({"specversion": "1.0"}));
    let read = decode(Some(BATCH_CONTENT_TYPE), serde_json::to_string(&batch).unwrap().as_bytes());
    assert_eq!(read.iter().filter(|event| event.is_ok()).count(), 4);
    let refused = read[2].as_ref().unwrap_err();
    assert_eq!((refused.index, refused.error.code()), (Some(2), "field"));
    assert_eq!(refused.raw, br#"{"specversion":"1.0"}"#);
}

#[test]
fn bodies_and_batches_beyond_the_limits_are_refused_whole() {
    let long = vec![b' '; MAX_BODY_BYTES + 1];
    assert_eq!(only(None, &long).unwrap_err(), ContractError::BodyTooLarge { bytes: MAX_BODY_BYTES + 1 });
    let many = format!("[{}]", vec!["0"; MAX_EVENTS_PER_BATCH + 1].join(","));
    assert_eq!(only(None, many.as_bytes()).unwrap_err().code(), "too_many_events");
    for garbage in [&b"{"[..], b"[1,", b"\xff\xfe", b"", b"nul"] {
        assert_eq!(only(None, garbage).unwrap_err().code(), "not_json", "{garbage:?}");
    }
}

#[test]
fn what_is_written_is_always_within_the_limits_it_is_read_by() {
    let mut event = only(None, GOLDEN[0].1.as_bytes()).unwrap();
    event.subject = "k".repeat(512).parse().unwrap();
    let events = vec![event; 11_000];
    let bodies = encode_batches(&sealed(&events));
    assert!(bodies.iter().all(|body| body.body.len() <= MAX_BODY_BYTES && body.events <= MAX_EVENTS_PER_BATCH));
    let read: usize = bodies
        .iter()
        .map(|body| decode(Some(body.content_type), &body.body).into_iter().filter(Result::is_ok).count())
        .sum();
    assert_eq!(read, 11_000);
}

#[test]
fn a_time_more_than_five_minutes_ahead_is_refused() {
    let event = only(None, GOLDEN[0].1.as_bytes()).unwrap();
    let before = |seconds: i64| event.time - jiff::SignedDuration::from_secs(seconds);
    assert!(event.check_time(before(300)).is_ok());
    assert_eq!(event.check_time(before(301)), Err(ContractError::TimeAhead { seconds: 301 }));
}

fn sealed(events: &[ActivityEvent]) -> Vec<SealedEvent> {
    events.iter().map(SealedEvent::of).collect()
}
