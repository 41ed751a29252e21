//! The one call to an API that the account page shows, made with the user's token.

use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, WWW_AUTHENTICATE};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::identity::{AccessToken, ClaimsChallenge, HttpSettings, HttpSetupError, is_protected};
use serde_json::{Map, Value};
use url::Url;

/// How long the call may take, its body included.
const TIME: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// The most fields of an answer that are shown.
const MOST_FIELDS: usize = 24;
/// The most characters of a field that are shown.
const MOST_CHARACTERS: usize = 200;

/// An API that takes the user's token.
#[derive(Debug, Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    url: Url,
}

/// What an API answered, without what must not be shown.
#[derive(Debug)]
pub(super) struct ApiAnswer {
    pub(super) status: u16,
    pub(super) took: Duration,
    /// The fields of the JSON object it answered, as texts; none where it is no JSON object.
    pub(super) fields: Vec<(String, String)>,
    /// What the API wants of the user's next sign-in, where it refused the token for that.
    pub(super) challenge: Option<ClaimsChallenge>,
}

/// The API cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum ApiSetupError {
    /// The token would travel in the clear.
    #[error("the API's address must begin with https:// (http:// is for 127.0.0.1 and localhost alone)")]
    InTheClear,
    /// See [`HttpSetupError`].
    #[error(transparent)]
    Http(#[from] HttpSetupError),
}

/// The API did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("the API did not answer{}", if .0.is_timeout() { " in time" } else { "" })]
    Network(#[source] reqwest::Error),
    #[error("the API's answer is longer than {MAX_BODY_BYTES} bytes")]
    TooLong,
}

impl Api {
    pub(super) fn new(url: Url, http: &HttpSettings) -> Result<Self, ApiSetupError> {
        if !is_protected(&url) {
            return Err(ApiSetupError::InTheClear);
        }
        let http = HttpSettings { timeout: TIME, ..http.clone() };
        Ok(Self { http: http.client_for(&url)?, url })
    }

    /// The address without its query.
    pub(super) fn shown(&self) -> &str {
        &self.url[..url::Position::AfterPath]
    }

    pub(super) async fn call(&self, token: &AccessToken) -> Result<ApiAnswer, ApiError> {
        let began = Instant::now();
        let request = self.http.get(self.url.clone()).bearer_auth(token.expose()).header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(network)?;
        let body = read(&mut response).await?;
        let object: Map<String, Value> = serde_json::from_slice(&body).unwrap_or_default();
        Ok(ApiAnswer {
            status: response.status().as_u16(),
            took: began.elapsed(),
            fields: fields(object, token.expose()),
            challenge: challenge(response.headers()),
        })
    }
}

impl ApiAnswer {
    /// Whether it refused the token: another one may be better.
    pub(super) fn is_refusal(&self) -> bool {
        self.status == 401
    }
}

async fn read(response: &mut reqwest::Response) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(network)? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(ApiError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The address may hold a key in its query.
fn network(error: reqwest::Error) -> ApiError {
    ApiError::Network(error.without_url())
}

/// What is shown of an object. Some APIs echo the request, and the token with it.
fn fields(object: Map<String, Value>, token: &str) -> Vec<(String, String)> {
    let shown = object.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, text(value)));
    let harmless = shown.filter(|(_, text)| !text.contains(token));
    harmless.take(MOST_FIELDS).map(|(name, text)| (shortened(&name), shortened(&text))).collect()
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `WWW-Authenticate: Bearer …, claims="<base64 of JSON>"`: continuous access evaluation and step-up of Microsoft's APIs.
fn challenge(headers: &HeaderMap) -> Option<ClaimsChallenge> {
    let lines = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|line| line.to_str().ok());
    let encoded = lines.filter_map(|line| line.split_once("claims=\"")?.1.split('"').next()).next()?;
    let json = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    serde_json::from_str::<Map<String, Value>>(&json).is_ok().then(|| ClaimsChallenge::new(json))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(value: Value) -> Vec<(String, String)> {
        fields(value.as_object().unwrap().clone(), "s3cret-token")
    }

    #[test]
    fn fields_are_shown_as_texts_and_empty_ones_not_at_all() {
        let shown = shown(json!({"name": "Ada", "age": 36, "phone": null, "tags": ["a"]}));
        let expected = [("name", "Ada"), ("age", "36"), ("tags", "[\"a\"]")];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(sorted(shown), sorted(expected));
    }

    fn sorted(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
        fields.sort();
        fields
    }

    #[test]
    fn a_token_that_an_api_echoes_is_not_shown() {
        assert_eq!(shown(json!({"headers": {"authorization": "Bearer s3cret-token"}})), []);
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let many: Map<_, _> = (0..100).map(|n| (n.to_string(), json!("ä".repeat(1000)))).collect();
        let shown = shown(Value::Object(many));
        assert_eq!(shown.len(), MOST_FIELDS);
        assert!(shown.iter().all(|(_, text)| text.chars().count() == MOST_CHARACTERS + 1));
    }

    fn asked(line: &str) -> Option<ClaimsChallenge> {
        challenge(&HeaderMap::from_iter([(WWW_AUTHENTICATE, line.parse().unwrap())]))
    }

    #[test]
    fn a_claims_challenge_is_read_from_the_header() {
        let claims = r#"{"access_token":{"nbf":{"essential":true}}}"#;
        let line = format!(r#"Bearer realm="", error="insufficient_claims", claims="{}""#, STANDARD.encode(claims));
        assert_eq!(asked(&line).unwrap().expose(), claims);
    }

    #[test]
    fn what_is_no_json_object_is_no_challenge() {
        for line in ["Bearer", r#"Bearer claims="""#, r#"Bearer claims="%%%""#, r#"Bearer claims="MQ==""#] {
            assert!(asked(line).is_none(), "{line}");
        }
    }
}
