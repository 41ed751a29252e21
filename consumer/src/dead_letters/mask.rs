//! What of a letter's body may be shown: nothing that names a person, unless it is asked for.
//!
//! What may be shown is listed, and all else is hidden: a poison message may hold anything anywhere.

use serde_json::{Map, Value};

/// Attributes and fields whose values name nobody.
const SHOWN: [&str; 19] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "datacontenttype",
    "traceparent",
    "tenant_id",
    "environment",
    "client_id",
    "access_token_expires_on",
    "refresh_token_expires_on",
    "has_refresh_token",
    "reason",
    "error",
    "suberror",
    "retry_after",
    "removed_at",
    "dataschema",
];
/// Those of which a part is shown, so that two can be told apart.
const SHOWN_IN_PART: [&str; 3] = ["subject", "home_account_id", "object_id"];
/// Those that are looked into.
const LOOKED_INTO: [&str; 1] = ["data"];
/// Names longer than this may be anything.
const MAX_NAME_BYTES: usize = 40;
const MAX_SHOWN_BYTES: usize = 256;
/// Events of a batch that are shown.
const MAX_EVENTS: usize = 20;

/// The body with personal data hidden.
pub fn masked(body: &[u8]) -> Value {
    match serde_json::from_slice(body) {
        Ok(Value::Array(events)) => {
            let left_out = events.len().saturating_sub(MAX_EVENTS);
            let mut shown: Vec<Value> = events.iter().take(MAX_EVENTS).map(masked_event).collect();
            if left_out > 0 {
                shown.push(Value::String(format!("({left_out} more)")));
            }
            Value::Array(shown)
        }
        Ok(event) => masked_event(&event),
        Err(_) => Value::String(format!("({} bytes that are no JSON)", body.len())),
    }
}

fn masked_event(event: &Value) -> Value {
    match event {
        Value::Object(fields) => masked_fields(fields),
        other => hidden(other),
    }
}

fn masked_fields(fields: &Map<String, Value>) -> Value {
    fields.iter().map(|(name, value)| (masked_name(name), masked_value(name, value))).collect()
}

fn masked_name(name: &str) -> String {
    let is_word = name.len() <= MAX_NAME_BYTES && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_word { name.to_owned() } else { format!("(a name of {} bytes)", name.len()) }
}

fn masked_value(name: &str, value: &Value) -> Value {
    match value {
        Value::Object(fields) if LOOKED_INTO.contains(&name) => masked_fields(fields),
        Value::String(text) if SHOWN_IN_PART.contains(&name) => Value::String(in_part(text)),
        Value::String(text) if SHOWN.contains(&name) && names_nobody(text) => value.clone(),
        Value::Number(_) | Value::Bool(_) if SHOWN.contains(&name) => value.clone(),
        _ => hidden(value),
    }
}

/// A name, an address or a token has no place in the fields that are shown, but this body is wrong somewhere.
fn names_nobody(text: &str) -> bool {
    text.len() <= MAX_SHOWN_BYTES && !text.contains('@') && !text.contains("eyJ") && !text.chars().any(char::is_control)
}

/// The first four characters and the length, of what is long enough to keep the rest.
fn in_part(text: &str) -> String {
    let first: String = text.chars().take(4).filter(|c| c.is_ascii_alphanumeric()).collect();
    if text.len() < 16 { hidden_text(text) } else { format!("{first}… ({} bytes)", text.len()) }
}

fn hidden(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => Value::String("(a truth value)".to_owned()),
        Value::Number(_) => Value::String("(a number)".to_owned()),
        Value::String(text) => Value::String(hidden_text(text)),
        Value::Array(items) => Value::String(format!("({} items)", items.len())),
        Value::Object(fields) => Value::String(format!("({} fields)", fields.len())),
    }
}

fn hidden_text(text: &str) -> String {
    format!("({} bytes)", text.len())
}

/// The body as it is, with what is no text, or would move a terminal's cursor, written out.
pub fn readable(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.chars()
        .flat_map(|c| if c.is_control() && c != '\n' { c.escape_default().collect() } else { vec![c] })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_names_a_person_is_hidden_and_the_rest_is_shown() {
        let body = json!({
            "specversion": "1.0", "id": "1", "type": "tokencache.user-activity.v1",
            "subject": "0b8b3c3e-9d8e-4c55-8f0e-3f1a2b3c4d5e.utid",
            "data": {
                "home_account_id": "0b8b3c3e-9d8e-4c55-8f0e-3f1a2b3c4d5e.utid",
                "tenant_id": "utid", "environment": "alice@contoso.com",
                "username": "alice@contoso.com", "has_refresh_token": "yes",
                "properties": { "name": "Alice Adams" }, "Alice Adams": 1,
            },
        });
        let shown = masked(body.to_string().as_bytes());
        let expected = json!({
            "specversion": "1.0", "id": "1", "type": "tokencache.user-activity.v1",
            "subject": "0b8b… (41 bytes)",
            "data": {
                "home_account_id": "0b8b… (41 bytes)",
                "tenant_id": "utid", "environment": "(17 bytes)",
                "username": "(17 bytes)", "has_refresh_token": "yes",
                "properties": "(1 fields)", "(a name of 11 bytes)": "(a number)",
            },
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_cannot_be_read_is_hidden_as_a_whole() {
        let cut = br#"{"data": {"username": "alice@contoso.com"#;
        assert_eq!(masked(cut), json!("(40 bytes that are no JSON)"));
        assert_eq!(masked(b"\"alice\""), json!("(5 bytes)"));
        let many: Vec<Value> = (0..25).map(|_| json!("alice")).collect();
        let shown = masked(json!(many).to_string().as_bytes());
        assert_eq!(shown.as_array().unwrap().len(), 21);
        assert!(!shown.to_string().contains("alice"));
    }

    #[test]
    fn nothing_readable_moves_a_cursor() {
        assert_eq!(readable(b"a\x1b[2J\xff\n"), "a\\u{1b}[2J\u{fffd}\n");
    }
}
