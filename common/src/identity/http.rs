//! Calls to the identity provider: bounded in time and size, without redirects, over TLS unless on loopback.

use std::sync::Arc;
use std::time::Duration;

use jiff::fmt::rfc2822;
use jiff::{Timestamp, Zoned};
use reqwest::header::{ACCEPT, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;
use url::Url;

use super::clock::Clock;
use super::settings::{Authority, HttpSettings, is_loopback};

/// The longest answer that is read. Entra's are 2 to 20 KB.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The longest wait that an answer can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// The CA file cannot be read.
    #[error("the CA file {path} cannot be read")]
    CaFile {
        /// Its path.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The CA file holds no certificates, or the TLS library refused the settings.
    #[error("the TLS settings are refused; the CA file must hold certificates in PEM")]
    Tls(#[source] reqwest::Error),
}

/// A call did not bring an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The address is not a URL.
    #[error("the identity provider's address is not a URL")]
    Address,
    /// The provider could not be reached, or broke off, or took too long.
    #[error("the identity provider did not answer{}", if .0.is_timeout() { " in time" } else { "" })]
    Network(#[source] Arc<reqwest::Error>),
    /// The answer is longer than any lawful one.
    #[error("the identity provider's answer is longer than {MAX_BODY_BYTES} bytes")]
    TooLong,
    /// The answer is an error.
    #[error("the identity provider answered with status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// When it may be asked again, where it says so.
        retry_after: Option<Timestamp>,
    },
    /// The answer is not the JSON that was asked for.
    #[error("the identity provider's answer is not the document asked for (line {line}, column {column})")]
    NotTheDocument {
        /// The line, from 1.
        line: usize,
        /// The column.
        column: usize,
    },
}

impl CallError {
    /// Whether the same call may succeed later with nothing changed here.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Network(_) => true,
            Self::Status { status, .. } => is_transient_status(*status),
            Self::Address | Self::TooLong | Self::NotTheDocument { .. } => false,
        }
    }
}

/// Whether a status says "not now" and not "no".
pub(super) fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Timestamp>,
    pub(super) body: Vec<u8>,
}

impl HttpSettings {
    /// A client for calls to `url` within these bounds: no redirects, and on a loopback host no proxy.
    ///
    /// # Errors
    /// [`HttpSetupError`].
    pub fn client_for(&self, url: &Url) -> Result<Client, HttpSetupError> {
        let mut builder =
            Client::builder().connect_timeout(self.connect_timeout).timeout(self.timeout).redirect(Policy::none());
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        if let Some(path) = &self.ca_file {
            let failed = |source| HttpSetupError::CaFile { path: path.display().to_string(), source };
            let pem = std::fs::read(path).map_err(failed)?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(HttpSetupError::Tls)?;
            builder = builder.tls_built_in_root_certs(false);
            builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        builder.build().map_err(HttpSetupError::Tls)
    }
}

/// The client for one provider.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    clock: Clock,
}

impl Http {
    pub(super) fn new(settings: &HttpSettings, authority: &Authority, clock: Clock) -> Result<Self, HttpSetupError> {
        Ok(Self { client: settings.client_for(authority.url())?, clock })
    }

    /// Reads a JSON document.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T, CallError> {
        let answer = self.send(self.client.get(url.clone())).await?;
        if answer.status != 200 {
            return Err(CallError::Status { status: answer.status, retry_after: answer.retry_after });
        }
        serde_json::from_slice(&answer.body)
            .map_err(|e| CallError::NotTheDocument { line: e.line(), column: e.column() })
    }

    /// Posts a form, with a user and a password where the client authenticates by them.
    pub(super) async fn post(
        &self,
        url: &Url,
        form: &[(&str, &str)],
        basic: Option<(&str, &str)>,
    ) -> Result<Answer, CallError> {
        let request = self.client.post(url.clone()).form(form);
        let request = match basic {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        self.send(request).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, CallError> {
        let mut response = request.header(ACCEPT, "application/json").send().await.map_err(network)?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers(), self.clock.now());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(CallError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, retry_after, body })
    }
}

fn network(error: reqwest::Error) -> CallError {
    CallError::Network(Arc::new(error.without_url()))
}

/// When to ask again: seconds or a date (RFC 9110, section 10.2.3), at most an hour from now.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number { Duration::from_secs(text.parse().unwrap_or(u64::MAX)) } else { until(text, now)? };
    now.checked_add(wait.min(MAX_RETRY_AFTER)).ok()
}

fn until(date: &str, now: Timestamp) -> Option<Duration> {
    let date: Zoned = rfc2822::parse(date).ok()?;
    Some(Duration::try_from(date.timestamp().duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn wait(value: &str) -> Option<i64> {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        retry_after(&headers, now).map(|until| until.as_second() - now.as_second())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_an_hour_at_most() {
        let cases = [
            ("5", Some(5)),
            ("0", Some(0)),
            ("86400", Some(3600)),
            ("99999999999999999999", Some(3600)),
            ("Sun, 22 Nov 2026 10:02:00 GMT", Some(120)),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Some(0)),
            ("Mon, 22 Nov 2027 10:00:00 GMT", Some(3600)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(wait(value), expected, "{value}");
        }
    }
}
