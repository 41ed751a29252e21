//! Connections to Redis: a pool that knows TLS, bounds every wait, and says what an error means.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime};
use redis::{AsyncConnectionConfig, Client, ClientTlsConfig, ErrorKind, RedisError, TlsCertificates};

use crate::backend::{BackendError, ServerUrl, TlsFiles, Trouble};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A command that was sent and not answered in this time may still be executed.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of connections to one Redis server. Take one per batch, not per command.
#[derive(Clone)]
pub struct RedisPool {
    address: String,
    client: Client,
    pool: Pool,
}

impl std::fmt::Debug for RedisPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisPool({})", self.address)
    }
}

impl RedisPool {
    /// A pool of at most `size` connections. Does not connect yet.
    ///
    /// # Errors
    /// [`BackendError`]: the URL or the TLS files are wrong.
    pub fn new(url: &ServerUrl, tls: &TlsFiles, size: usize) -> Result<Self, BackendError> {
        let address = url.to_string();
        let client = client(url, tls, &address)?;
        let refused = |error: RedisError| redis_error(&address, error);
        let config = connection_config(Some(RESPONSE_TIMEOUT));
        let manager = Manager::new_with_config(client.get_connection_info().clone(), config).map_err(refused)?;
        let pool = Pool::builder(manager)
            .max_size(size)
            .wait_timeout(Some(RESPONSE_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(RESPONSE_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| BackendError::new(Trouble::Refused, &address, "the connection pool cannot be made", e))?;
        Ok(Self { address, client, pool })
    }

    /// The address to show.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A connection, for one batch.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn get(&self) -> Result<Connection, BackendError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => self.error(error),
            error => {
                BackendError::new(Trouble::Unavailable, &self.address, "no connection within 5 s; is Redis up?", error)
            }
        })
    }

    /// A connection of the caller's own that waits for an answer as long as the caller does, for blocking commands.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn dedicated(&self) -> Result<redis::aio::MultiplexedConnection, BackendError> {
        let config = connection_config(None);
        self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(|e| self.error(e))
    }

    /// Tells what an error of Redis means for the caller.
    pub fn error(&self, error: RedisError) -> BackendError {
        redis_error(&self.address, error)
    }
}

fn connection_config(response_timeout: Option<Duration>) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(response_timeout)
}

fn client(url: &ServerUrl, tls: &TlsFiles, address: &str) -> Result<Client, BackendError> {
    if !url.is_tls() {
        return Client::open(url.expose()).map_err(|e| redis_error(address, e));
    }
    let certificates = TlsCertificates { client_tls: client_tls(tls, address)?, root_cert: tls.read_ca(address)? };
    Client::build_with_tls(url.expose(), certificates).map_err(|e| redis_error(address, e))
}

fn client_tls(tls: &TlsFiles, address: &str) -> Result<Option<ClientTlsConfig>, BackendError> {
    let pair = tls.read_client_pair(address)?;
    Ok(pair.map(|pair| ClientTlsConfig { client_cert: pair.certificate, client_key: pair.key }))
}

fn redis_error(address: &str, error: RedisError) -> BackendError {
    let (trouble, message) = meaning(&error);
    BackendError::new(trouble, address, message, error)
}

fn meaning(error: &RedisError) -> (Trouble, &'static str) {
    use Trouble::{Corrupt, Refused, Unavailable};
    match error.code() {
        Some("NOAUTH" | "WRONGPASS") => return (Refused, "Redis refused the user or password; check the URL"),
        Some("NOPERM") => return (Refused, "the Redis user may not do this; check its ACL"),
        Some("DROPPED") => return (Refused, "this generation of the index was deleted; another one is live"),
        Some("OOM") => return (Unavailable, "Redis is out of memory; raise maxmemory or free some"),
        Some("MISCONF") => return (Unavailable, "Redis cannot write to its disk and refuses writes; look at its log"),
        Some("WRONGTYPE") => return (Corrupt, "a key holds another type; another program uses this prefix"),
        Some("LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "NOREPLICAS" | "BUSY") => {
            return (Unavailable, "Redis cannot take this command now");
        }
        _ => {}
    }
    if let Some(tls) = tls_error(error) {
        return (Refused, tls_meaning(tls));
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => (Refused, "Redis refused the user or password; check the URL"),
        ErrorKind::InvalidClientConfig => (Refused, "the Redis URL or the TLS files are wrong"),
        _ if error.is_timeout() => (Unavailable, "Redis did not answer in time"),
        _ if error.is_connection_refusal() => {
            (Unavailable, "nothing answers there; is Redis up, and the address right?")
        }
        _ if error.is_io_error() => (Unavailable, "the connection failed"),
        _ => (Unavailable, "Redis failed"),
    }
}

/// The TLS error among the causes, if that is what it was.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return tls_error(&**shared);
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
    let tls = wrapped.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
    tls.or_else(|| tls_error(error.source()?))
}

fn tls_meaning(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(_) => {
            "the server's certificate is not trusted; set the CA's file, and use the name the certificate is for"
        }
        rustls::Error::AlertReceived(_) => {
            "the server refused the TLS handshake; it may want a client certificate of a CA it knows"
        }
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS on this port",
        _ => "TLS failed; check the TLS files",
    }
}
