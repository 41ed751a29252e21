//! CloudEvents 1.0 in JSON, structured mode: one event or an array, written and read within the contract's limits.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::read_event::ReadEvent;
use super::sealed::SealedEvent;
use super::{
    AccountDetails, AccountHint, AcquisitionFailure, Activity, ActivityEvent, EventDraft, EventId, EventSource,
    EventType, TraceParent,
};
use crate::account::CacheKey;

/// The content type of a body that is one event.
pub const SINGLE_CONTENT_TYPE: &str = "application/cloudevents+json";
/// The content type of a body that is an array of events.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";
/// The longest body that is written or read: 1 MiB.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The most events one body may hold.
pub const MAX_EVENTS_PER_BATCH: usize = 10_000;
/// How far ahead of the reader's clock the time of an event may be.
pub const MAX_TIME_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// Why a body or an event is not within the contract. The text never repeats a value of the event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// The body is longer than [`MAX_BODY_BYTES`].
    #[error("the body is {bytes} bytes long; at most {MAX_BODY_BYTES} are allowed")]
    BodyTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The array has more than [`MAX_EVENTS_PER_BATCH`] events.
    #[error("the batch holds {events} events; at most {MAX_EVENTS_PER_BATCH} are allowed")]
    TooManyEvents {
        /// Its length.
        events: usize,
    },
    /// The content type is neither of the two of the contract.
    #[error("the content type is not {SINGLE_CONTENT_TYPE} or {BATCH_CONTENT_TYPE}")]
    ContentType,
    /// The body is not JSON, or not an object or an array of the announced kind.
    #[error("the body is not JSON of the announced kind (line {line}, column {column})")]
    NotJson {
        /// The line of the body, from 1.
        line: usize,
        /// The column of the line.
        column: usize,
    },
    /// One field is missing or wrong.
    #[error("{field}: {problem}")]
    Field {
        /// The field's path, such as `data.has_refresh_token`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The time is further ahead than clocks may differ.
    #[error("time: is {seconds} s ahead; at most {limit} s are allowed", limit = MAX_TIME_AHEAD.as_secs())]
    TimeAhead {
        /// How far ahead it is.
        seconds: i64,
    },
}

impl ContractError {
    /// A short, stable word for the error, for headers, metrics and grouping.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::TooManyEvents { .. } => "too_many_events",
            Self::ContentType => "content_type",
            Self::NotJson { .. } => "not_json",
            Self::Field { .. } => "field",
            Self::TimeAhead { .. } => "time_ahead",
        }
    }
}

/// A part of a body that was refused: one event of a batch, or the whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which event of the batch, from 0; `None` where the body as a whole was refused.
    pub index: Option<usize>,
    /// Why.
    pub error: ContractError,
    /// The refused bytes, as they came.
    pub raw: Vec<u8>,
}

/// One body, ready to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvents {
    /// [`SINGLE_CONTENT_TYPE`] or [`BATCH_CONTENT_TYPE`].
    pub content_type: &'static str,
    /// The JSON.
    pub body: Vec<u8>,
    /// How many events it holds.
    pub events: usize,
}

impl ActivityEvent {
    /// Refuses an event whose time is more than [`MAX_TIME_AHEAD`] after `now`.
    ///
    /// # Errors
    /// [`ContractError::TimeAhead`].
    pub fn check_time(&self, now: Timestamp) -> Result<(), ContractError> {
        let ahead = self.time.duration_since(now);
        if ahead > MAX_TIME_AHEAD {
            return Err(ContractError::TimeAhead { seconds: ahead.as_secs() });
        }
        Ok(())
    }
}

/// Writes one event.
pub fn encode(event: &ActivityEvent) -> EncodedEvents {
    EncodedEvents { content_type: SINGLE_CONTENT_TYPE, body: event_json(event), events: 1 }
}

/// Writes events in as few bodies as the limits allow, in order.
pub fn encode_batches(events: &[SealedEvent]) -> Vec<EncodedEvents> {
    let mut bodies = Vec::new();
    let mut open = OpenBatch::default();
    let mut left: usize = events.iter().map(|event| event.as_json().len() + 1).sum();
    for event in events {
        let json = event.as_json();
        if open.is_full_for(json.len()) {
            bodies.extend(std::mem::take(&mut open).close());
        }
        if open.events == 0 {
            open.body.reserve_exact(MAX_BODY_BYTES.min(left + 1));
        }
        open.push(json);
        left -= json.len() + 1;
    }
    bodies.extend(open.close());
    bodies
}

#[derive(Default)]
struct OpenBatch {
    body: Vec<u8>,
    events: usize,
}

impl OpenBatch {
    fn is_full_for(&self, bytes: usize) -> bool {
        self.events >= MAX_EVENTS_PER_BATCH || self.body.len() + bytes + 2 > MAX_BODY_BYTES
    }

    fn push(&mut self, json: &[u8]) {
        self.body.push(if self.events == 0 { b'[' } else { b',' });
        self.body.extend_from_slice(json);
        self.events += 1;
    }

    fn close(mut self) -> Option<EncodedEvents> {
        if self.events == 0 {
            return None;
        }
        self.body.push(b']');
        Some(EncodedEvents { content_type: BATCH_CONTENT_TYPE, body: self.body, events: self.events })
    }
}

/// Writes a draft as the JSON an outbox keeps: the event without its `time`.
pub fn encode_draft(draft: &EventDraft) -> Vec<u8> {
    to_json(&Written::new(&draft.id, &draft.source, &draft.subject, None, draft.traceparent.as_ref(), &draft.activity))
}

/// Reads what [`encode_draft`] wrote.
///
/// # Errors
/// [`ContractError`] where the bytes are not a draft.
pub fn decode_draft(json: &[u8]) -> Result<EventDraft, ContractError> {
    parse::<ReadEvent<'_>>(json)?.into_draft()
}

/// Reads a body. Each event of a batch stands for itself: a wrong one leaves the others good.
///
/// A missing content type, and `application/json`, are taken for what the body looks like.
pub fn decode(content_type: Option<&str>, body: &[u8]) -> Vec<Result<ActivityEvent, Refused>> {
    if let Some(events) = decode_good_batch(content_type, body) {
        return events;
    }
    match split(content_type, body) {
        Err(error) => vec![Err(Refused { index: None, error, raw: body.to_vec() })],
        Ok(Body::One(event)) => vec![read_event(None, event)],
        Ok(Body::Many(events)) => {
            events.iter().enumerate().map(|(index, event)| read_event(Some(index), event.get().as_bytes())).collect()
        }
    }
}

/// Reads a batch in which nothing is wrong, as it is nearly always, without looking for where each event ends first.
fn decode_good_batch(content_type: Option<&str>, body: &[u8]) -> Option<Vec<Result<ActivityEvent, Refused>>> {
    if body.len() > MAX_BODY_BYTES || !is_batch(content_type, body).ok()? {
        return None;
    }
    let events: Vec<ReadEvent<'_>> = serde_json::from_slice(body).ok()?;
    if events.len() > MAX_EVENTS_PER_BATCH {
        return None;
    }
    events.into_iter().map(|event| event.into_event().ok().map(Ok)).collect()
}

/// The event at `index` of what [`decode`] gave for this body, as refused with `error`.
pub fn refuse(content_type: Option<&str>, body: &[u8], index: usize, error: ContractError) -> Refused {
    if let Ok(Body::Many(events)) = split(content_type, body)
        && let Some(event) = events.get(index)
    {
        return Refused { index: Some(index), error, raw: event.get().as_bytes().to_vec() };
    }
    Refused { index: None, error, raw: body.to_vec() }
}

enum Body<'a> {
    One(&'a [u8]),
    Many(Vec<&'a RawValue>),
}

fn split<'a>(content_type: Option<&str>, body: &'a [u8]) -> Result<Body<'a>, ContractError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(ContractError::BodyTooLarge { bytes: body.len() });
    }
    if !is_batch(content_type, body)? {
        return Ok(Body::One(body));
    }
    let events: Vec<&RawValue> = serde_json::from_slice(body).map_err(|e| not_json(&e))?;
    if events.len() > MAX_EVENTS_PER_BATCH {
        return Err(ContractError::TooManyEvents { events: events.len() });
    }
    Ok(Body::Many(events))
}

fn is_batch(content_type: Option<&str>, body: &[u8]) -> Result<bool, ContractError> {
    let essence = content_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    match essence.as_deref() {
        Some(SINGLE_CONTENT_TYPE) => Ok(false),
        Some(BATCH_CONTENT_TYPE) => Ok(true),
        None | Some("" | "application/json") => Ok(body.trim_ascii_start().first() == Some(&b'[')),
        Some(_) => Err(ContractError::ContentType),
    }
}

fn read_event(index: Option<usize>, json: &[u8]) -> Result<ActivityEvent, Refused> {
    event_from(json).map_err(|error| Refused { index, error, raw: json.to_vec() })
}

pub(super) fn event_from(json: &[u8]) -> Result<ActivityEvent, ContractError> {
    parse::<ReadEvent<'_>>(json)?.into_event()
}

#[derive(Serialize, Deserialize)]
pub(super) enum SpecVersion {
    #[serde(rename = "1.0")]
    V1,
}

#[derive(Serialize)]
struct Written<'a> {
    specversion: SpecVersion,
    id: &'a EventId,
    source: &'a EventSource,
    #[serde(rename = "type")]
    event_type: EventType,
    subject: &'a CacheKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a TraceParent>,
    data: WrittenData<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WrittenData<'a> {
    Details(&'a AccountDetails),
    Failure(&'a AcquisitionFailure),
    Hint(&'a AccountHint),
}

impl<'a> Written<'a> {
    fn new(
        id: &'a EventId,
        source: &'a EventSource,
        subject: &'a CacheKey,
        time: Option<Timestamp>,
        traceparent: Option<&'a TraceParent>,
        activity: &'a Activity,
    ) -> Self {
        let data = match activity {
            Activity::UserActivity(details) | Activity::Hydrated(details) => WrittenData::Details(details),
            Activity::AcquisitionFailed(failure) => WrittenData::Failure(failure),
            Activity::Removed(hint) => WrittenData::Hint(hint),
        };
        let time = time.map(time_text);
        let event_type = activity.event_type();
        Self { specversion: SpecVersion::V1, id, source, event_type, subject, time, traceparent, data }
    }
}

/// As events write their times: UTC, microseconds.
pub(super) fn time_text(time: Timestamp) -> String {
    format!("{time:.6}")
}

pub(super) fn event_json(event: &ActivityEvent) -> Vec<u8> {
    let ActivityEvent { id, source, subject, time, traceparent, activity } = event;
    to_json(&Written::new(id, source, subject, Some(*time), traceparent.as_ref(), activity))
}

fn to_json(written: &Written<'_>) -> Vec<u8> {
    // Every part has text keys and no failing serializer, so there is no error to pass on.
    serde_json::to_vec(written).unwrap_or_default()
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ContractError> {
    serde_json::from_slice(json).map_err(|_| explain::<T>("", json))
}

pub(super) fn parse_data<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ContractError> {
    serde_json::from_slice(json).map_err(|_| explain::<T>("data", json))
}

/// Reads `json` once more, slowly, to name the field that is wrong.
fn explain<'a, T: Deserialize<'a>>(parent: &str, json: &'a [u8]) -> ContractError {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let error = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Ok(_) => return not_json_at_end(json),
        Err(error) => error,
    };
    if !error.inner().is_data() {
        return not_json(error.inner());
    }
    let path = error.path().to_string();
    let text = error.inner().to_string();
    let (missing, problem) = problem_in(&text);
    field(&join_path(&[parent, path.trim_start_matches('.'), missing]), &problem)
}

/// Takes the expectation out of serde's message and leaves the offending value behind.
fn problem_in(text: &str) -> (&str, String) {
    let text = text.split(" at line ").next().unwrap_or(text);
    if let Some(name) = text.strip_prefix("missing field `") {
        return (name.trim_end_matches('`'), "is missing".to_owned());
    }
    if let Some(name) = text.strip_prefix("duplicate field `") {
        return (name.trim_end_matches('`'), "stands twice".to_owned());
    }
    match text.split_once("expected ") {
        Some((_, expected)) => ("", format!("expected {expected}")),
        None if is_own_text(text) => ("", text.to_owned()),
        None => ("", "is not valid".to_owned()),
    }
}

/// Whether the message is one of this crate's, which never repeat a value.
fn is_own_text(text: &str) -> bool {
    ["must not ", "is ", "has "].iter().any(|start| text.starts_with(start))
}

fn join_path(parts: &[&str]) -> String {
    let named: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty() && *part != ".").collect();
    if named.is_empty() { "event".to_owned() } else { named.join(".") }
}

pub(super) fn field(field: &str, problem: &str) -> ContractError {
    ContractError::Field { field: field.to_owned(), problem: problem.to_owned() }
}

fn not_json(error: &serde_json::Error) -> ContractError {
    ContractError::NotJson { line: error.line(), column: error.column() }
}

fn not_json_at_end(json: &[u8]) -> ContractError {
    ContractError::NotJson { line: json.split(|byte| *byte == b'\n').count(), column: 0 }
}
