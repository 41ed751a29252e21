//! Poison messages of every kind: what other programs may put into the log, and why it is refused.

#![expect(clippy::expect_used, reason = "a sample that cannot be made is a panic")]

use common::event::{
    ActivityEvent, BATCH_CONTENT_TYPE, EncodedEvents, MAX_BODY_BYTES, MAX_EVENTS_PER_BATCH, SINGLE_CONTENT_TYPE, encode,
};
use jiff::{SignedDuration, Timestamp};

use crate::conformance::log::sample_events;

/// A message of which at least a part is refused.
#[derive(Debug, Clone)]
pub struct Poison {
    /// The message, as another program would publish it.
    pub message: EncodedEvents,
    /// For each part that is refused, which event of the batch it is and the reason's code.
    pub refused: Vec<(Option<usize>, &'static str)>,
    /// The good events in it.
    pub good: Vec<ActivityEvent>,
}

/// How many kinds of poison there are.
pub const KINDS: usize = 26;

/// The poison of this number; the same kind comes again after [`KINDS`] numbers, and no two are the same bytes.
///
/// # Panics
/// Never, unless this project writes events it does not read.
pub fn poison(number: usize) -> Poison {
    let event = sample_events(1).remove(0);
    let json = String::from_utf8(encode(&event).body).expect("JSON");
    let tagged = |text: &str| format!("{text} {number}").into_bytes();
    let replaced = |from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        single(json.replacen(from, to, 1).into_bytes(), "field")
    };
    match number % KINDS {
        0 => whole("text/plain", json.into_bytes(), "content_type"),
        1 => whole("application/x-protobuf", tagged("\x08\x01"), "content_type"),
        2 => whole("application/cloudevents+avro", json.into_bytes(), "content_type"),
        3 => single(tagged("not json"), "not_json"),
        4 => single(json.as_bytes()[..json.len() / 2 + number % 7].to_vec(), "not_json"),
        5 => single(json.encode_utf16().flat_map(u16::to_le_bytes).collect(), "not_json"),
        6 => single(latin_1(&json), "not_json"),
        7 => single(deep(&json), "not_json"),
        8 => single(vec![b' '; 1 + number % 4096], "not_json"),
        9 => single([json.as_bytes(), b"}"].concat(), "not_json"),
        10 => huge(number),
        11 => too_many(number),
        12 => replaced("\"specversion\":\"1.0\"", "\"specversion\":\"0.3\""),
        13 => replaced("\"id\":", "\"identifier\":"),
        14 => replaced("\"subject\":\"", "\"subject\":\"\\u0000"),
        15 => replaced("\"time\":\"", "\"time\":\"on "),
        16 => replaced("tokencache.user-activity.v1", "tokencache.user-activity.v9"),
        17 => replaced("\"has_refresh_token\":true", "\"has_refresh_token\":\"yes\""),
        18 => replaced("\"data\":{", "\"data\":null,\"was\":{"),
        19 => single(json.replacen("\"environment\":\"", &too_long(), 1).into_bytes(), "field"),
        20 => single(format!("[{json}]").into_bytes(), "field"),
        21 => ahead(event),
        22 => some_bad(event, &json, number),
        23 => whole(BATCH_CONTENT_TYPE, json.into_bytes(), "not_json"),
        24 => whole(BATCH_CONTENT_TYPE, format!("[{json},").into_bytes(), "not_json"),
        _ => single(format!("\"text {number}\"").into_bytes(), "field"),
    }
}

fn message(content_type: &'static str, body: Vec<u8>) -> EncodedEvents {
    EncodedEvents { content_type, body, events: 1 }
}

fn whole(content_type: &'static str, body: Vec<u8>, reason: &'static str) -> Poison {
    Poison { message: message(content_type, body), refused: vec![(None, reason)], good: Vec::new() }
}

fn single(body: Vec<u8>, reason: &'static str) -> Poison {
    whole(SINGLE_CONTENT_TYPE, body, reason)
}

/// Written in an encoding that is not UTF-8.
fn latin_1(json: &str) -> Vec<u8> {
    let body = json.replacen("login.", "l\u{f6}gin.", 1);
    body.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// Nested deeper than a reader's stack might bear.
fn deep(json: &str) -> Vec<u8> {
    let nested = format!("\"data\":{{\"properties\":{{\"a\":{}{}}},", "[".repeat(20_000), "]".repeat(20_000));
    json.replacen("\"data\":{", &nested, 1).into_bytes()
}

/// A body longer than any may be: one in thirty is, by far.
fn huge(number: usize) -> Poison {
    let extra = if number.is_multiple_of(30) { MAX_BODY_BYTES } else { number % 100 };
    let mut body = format!("{number}").into_bytes();
    body.resize(MAX_BODY_BYTES + 1 + extra, b'x');
    single(body, "body_too_large")
}

fn too_many(number: usize) -> Poison {
    let body = format!("[{}{number}]", "0,".repeat(MAX_EVENTS_PER_BATCH));
    whole(BATCH_CONTENT_TYPE, body.into_bytes(), "too_many_events")
}

fn too_long() -> String {
    format!("\"environment\":\"{}", "a".repeat(300))
}

fn ahead(mut event: ActivityEvent) -> Poison {
    event.time = Timestamp::now() + SignedDuration::from_hours(24 * 365);
    single(encode(&event).body, "time_ahead")
}

/// A batch with good events among the bad ones.
fn some_bad(event: ActivityEvent, json: &str, number: usize) -> Poison {
    let other = sample_events(2).remove(1);
    let other_json = String::from_utf8(encode(&other).body).expect("JSON");
    let wrong = json.replacen("\"data\":", "\"dat\":", 1);
    let body = format!("[{json},{wrong},{number},null,{other_json}]");
    let refused = vec![(Some(1), "field"), (Some(2), "field"), (Some(3), "field")];
    Poison { message: message(BATCH_CONTENT_TYPE, body.into_bytes()), refused, good: vec![event, other] }
}

#[cfg(test)]
mod tests {
    use common::event::decode;

    use super::*;

    #[test]
    fn every_kind_is_refused_for_the_reason_it_names() {
        for number in 0..2 * KINDS {
            let poison = poison(number);
            let read = decode(Some(poison.message.content_type), &poison.message.body);
            let now = Timestamp::now();
            let (mut good, mut refused) = (0, Vec::new());
            for (place, event) in read.iter().enumerate() {
                let checked = event.as_ref().map_err(|refused| (refused.index, refused.error.code()));
                match checked.and_then(|event| event.check_time(now).map_err(|e| (None, e.code()))) {
                    Ok(()) => good += 1,
                    Err((index, reason)) => refused.push((index.map(|_| place), reason)),
                }
            }
            assert_eq!((&refused, good), (&poison.refused, poison.good.len()), "poison {number}");
        }
    }
}
