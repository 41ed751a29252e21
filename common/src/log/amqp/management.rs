//! RabbitMQ's management HTTP API, for what AMQP neither tells nor changes: how long the streams are kept.

use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::connection;
use super::names::stream;
use crate::backend::{BackendError, ServerUrl, TlsFiles, Trouble};

const TIMEOUT: Duration = Duration::from_secs(15);
/// The policy that says how long the streams are kept. A policy goes before what they were declared with.
const POLICY: &str = "tokencache-activity-retention";
/// All streams of the log, those that are added later included.
const STREAMS: &str = "^tokencache\\.activity-[0-9]+$";
const DAY: u64 = 24 * 60 * 60;

/// The management HTTP API of the broker of one log.
#[derive(Debug)]
pub struct RabbitMqManagement {
    address: String,
    url: ServerUrl,
    vhost: String,
    client: Client,
}

impl RabbitMqManagement {
    /// Calls nothing yet. `management` is `http://` or `https://` with a user who may set policies; the vhost is that of `log`.
    ///
    /// # Errors
    /// [`BackendError`]: a URL or the file of the CA is wrong.
    pub fn new(management: &ServerUrl, log: &ServerUrl, tls: &TlsFiles) -> Result<Self, BackendError> {
        let address = management.to_string();
        let vhost = vhost(log)?;
        let mut builder = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(ca) = tls.read_ca(&address)? {
            let certificates = reqwest::Certificate::from_pem_bundle(&ca).map_err(|e| {
                BackendError::new(Trouble::Refused, &address, "the CA file holds no PEM certificate", e)
            })?;
            builder = builder.tls_built_in_root_certs(false);
            builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = builder
            .build()
            .map_err(|e| BackendError::new(Trouble::Refused, &address, "no HTTPS client can be made", e))?;
        Ok(Self { address, url: management.clone(), vhost, client })
    }

    /// Has the streams kept for this long, by a policy.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn set_retention(&self, max_age: Duration) -> Result<(), BackendError> {
        let policy = json!({"pattern": STREAMS, "apply-to": "queues", "definition": {"max-age": age(max_age)}});
        self.call(Method::PUT, ["policies", &self.vhost, POLICY], Some(policy)).await.map(drop)
    }

    /// How long the streams are kept, by the policy in force or as they were declared; `None`: for ever.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn retention(&self) -> Result<Option<Duration>, BackendError> {
        let answer = self.call(Method::GET, ["queues", &self.vhost, &stream(0)], None).await?;
        let queue: Value = answer.json().await.map_err(|e| self.unreadable(e))?;
        let stated = [&queue["effective_policy_definition"]["max-age"], &queue["arguments"]["x-max-age"]];
        let Some(stated) = stated.into_iter().find_map(Value::as_str) else { return Ok(None) };
        let duration = duration(stated).ok_or_else(|| {
            BackendError::plain(Trouble::Corrupt, &self.address, format!("{stated:?} is no age of a stream"))
        })?;
        Ok(Some(duration))
    }

    async fn call(&self, method: Method, path: [&str; 3], body: Option<Value>) -> Result<Response, BackendError> {
        let mut request = self.client.request(method, self.at(path)?);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|e| self.unavailable(e))?;
        let (trouble, message) = match answer.status() {
            status if status.is_success() => return Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
                Trouble::Refused,
                "the management API refuses this user; give one with the tag policymaker and rights in the vhost"
                    .to_owned(),
            ),
            StatusCode::NOT_FOUND => {
                (Trouble::Refused, "there is no such vhost or stream; run `consumer topology --apply`".to_owned())
            }
            status if status.is_server_error() => {
                (Trouble::Unavailable, format!("the management API answered {status}"))
            }
            status => (Trouble::Refused, format!("the management API answered {status}")),
        };
        Err(BackendError::plain(trouble, &self.address, message))
    }

    fn at(&self, path: [&str; 3]) -> Result<Url, BackendError> {
        let wrong = || {
            let message = "is not a URL such as https://user:password@host:15671";
            BackendError::plain(Trouble::Refused, &self.address, message)
        };
        let mut url = Url::parse(self.url.expose()).map_err(|_| wrong())?;
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().push("api").extend(path);
        Ok(url)
    }

    /// Its text never has the URL, which holds the password.
    fn unavailable(&self, error: reqwest::Error) -> BackendError {
        BackendError::new(
            Trouble::Unavailable,
            &self.address,
            "the management API does not answer",
            error.without_url(),
        )
    }

    fn unreadable(&self, error: reqwest::Error) -> BackendError {
        BackendError::new(
            Trouble::Corrupt,
            &self.address,
            "the management API's answer cannot be read",
            error.without_url(),
        )
    }
}

/// The command that does the same as [`RabbitMqManagement::set_retention`], on the broker's machine.
///
/// # Errors
/// [`BackendError`]: the log's URL is wrong.
pub fn retention_command(log: &ServerUrl, max_age: Duration) -> Result<String, BackendError> {
    let vhost = vhost(log)?.replace('\'', "'\\''");
    let definition = json!({"max-age": age(max_age)});
    Ok(format!("rabbitmqctl set_policy --vhost '{vhost}' --apply-to queues {POLICY} '{STREAMS}' '{definition}'"))
}

fn vhost(log: &ServerUrl) -> Result<String, BackendError> {
    let uri = connection::parse(log).ok_or_else(|| {
        BackendError::plain(Trouble::Refused, log, "is not a URL such as amqps://user:password@host:5671/vhost")
    })?;
    Ok(uri.vhost)
}

/// As RabbitMQ takes it, in the greatest unit that is exact.
fn age(duration: Duration) -> String {
    match duration.as_secs().max(1) {
        seconds if seconds.is_multiple_of(DAY) => format!("{}D", seconds / DAY),
        seconds if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        seconds => format!("{seconds}s"),
    }
}

fn duration(age: &str) -> Option<Duration> {
    let (number, unit) = age.split_at_checked(age.len().checked_sub(1)?)?;
    let seconds = match unit {
        "Y" => 365 * DAY,
        "M" => 30 * DAY,
        "D" => DAY,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_written_as_the_broker_reads_it() {
        for (seconds, text) in [(120 * DAY, "120D"), (36 * 3_600, "36h"), (90, "90s")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)));
        }
        for text in ["", "D", "1d", "ä"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn the_command_names_the_vhost_and_every_stream_and_no_password() {
        let log: ServerUrl = "amqp://u:s3cret@h/it's".parse().unwrap();
        let command = retention_command(&log, Duration::from_secs(120 * DAY)).unwrap();
        let expected = r#"rabbitmqctl set_policy --vhost 'it'\''s' --apply-to queues tokencache-activity-retention '^tokencache\.activity-[0-9]+$' '{"max-age":"120D"}'"#;
        assert_eq!(command, expected);
    }
}
