//! Connecting to RabbitMQ: by URL and TLS files, within a time, with errors that say what to mend.

use std::time::Duration;

use lapin::tcp::{AMQPUriTcpExt, RustlsConnector, TLSConfig};
use lapin::types::ShortString;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use tokio::time::timeout;
use url::{Host, Url};

use super::error;
use super::tls::tls_connector;
use crate::backend::{BackendError, ServerUrl, TlsFiles, Trouble};

/// TCP, TLS and the AMQP handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent broker is noticed within two heartbeats.
const HEARTBEAT_SECONDS: u16 = 10;
const REPLY_SUCCESS: u16 = 200;

/// Makes connections to one broker.
pub(super) struct Connector {
    url: ServerUrl,
    address: String,
    uri: AMQPUri,
    tls: Option<RustlsConnector>,
    name: String,
}

impl Connector {
    /// Reads the URL and the TLS files. Does not connect yet.
    pub(super) fn new(url: &ServerUrl, tls: &TlsFiles, name: &str) -> Result<Self, BackendError> {
        let address = url.to_string();
        let uri = parse(url).ok_or_else(|| {
            let message = "is not a URL such as amqps://user:password@host:5671/vhost?heartbeat=10";
            BackendError::plain(Trouble::Refused, &address, message)
        })?;
        let tls = url.is_tls().then(|| tls_connector(tls, &address)).transpose()?;
        Ok(Self { url: url.clone(), address, uri, tls, name: name.to_owned() })
    }

    /// The address to show.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// A new connection, shown by the broker as `{name} {role}`.
    pub(super) async fn connect(&self, role: &str) -> Result<Connection, BackendError> {
        let properties = ConnectionProperties::default().with_connection_name(format!("{} {role}", self.name).into());
        let tls = self.tls.clone();
        let runtime = lapin::runtime::default_runtime().map_err(|e| self.failed(&e))?;
        let connecting = Connection::connector(
            self.uri.clone(),
            runtime,
            async move |uri, runtime| {
                let host = uri.authority.host.clone();
                // TLS goes on top here and not inside lapin, whose way adds the machine's CAs to a private one.
                let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri };
                let stream = plain.connect_with_config_async(TLSConfig::default(), &runtime).await?;
                match &tls {
                    Some(tls) => Ok(stream.into_rustls(tls, &host).await?),
                    None => Ok(stream),
                }
            },
            properties,
        );
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|e| self.failed(&e)),
            Err(_) => Err(error::late(&self.address, "answer the AMQP handshake")),
        }
    }

    fn failed(&self, error: &lapin::Error) -> BackendError {
        error::connecting(&self.url, &self.uri.vhost, error)
    }
}

/// Closes a connection the polite way, within a time; a broker that blocks its publishers would let it hang.
pub(super) async fn close(connection: &Connection) {
    let closing = connection.close(REPLY_SUCCESS, ShortString::from("bye"));
    if timeout(CLOSE_TIMEOUT, closing).await.is_err() {
        tracing::debug!("rabbitmq did not answer the close of a connection");
    }
}

pub(super) fn parse(url: &ServerUrl) -> Option<AMQPUri> {
    let mut uri: AMQPUri = url.expose().parse().ok()?;
    // The parser beneath takes an IPv6 address for no host at all, and then for localhost.
    let parsed = Url::parse(url.expose()).ok()?;
    if let Host::Ipv6(host) = parsed.host()? {
        uri.authority.host = host.to_string();
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Some(uri)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn parsed(text: &str) -> AMQPUri {
        parse(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_heartbeat_of_ten_seconds_is_the_default() {
        assert_eq!(parsed("amqp://h/v").query.heartbeat, Some(10));
        assert_eq!(parsed("amqp://h/v?heartbeat=30").query.heartbeat, Some(30));
    }

    #[test]
    fn an_ipv6_address_is_not_taken_for_localhost() {
        assert_eq!(parsed("amqp://[::1]:5672/v").authority.host, "::1");
        assert_eq!(parsed("amqp://10.0.0.7/v").authority.host, "10.0.0.7");
    }

    #[test]
    fn a_wrong_url_is_refused_without_its_password() {
        let url: ServerUrl = "amqp://u:s3cret@h:5672/v?heartbeat=often".parse().unwrap();
        let error = Connector::new(&url, &TlsFiles::default(), "test").err().unwrap();
        assert_eq!(error.trouble, Trouble::Refused);
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}
