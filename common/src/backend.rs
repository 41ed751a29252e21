//! What every backend has in common: an address that can be shown, TLS files, and how it fails.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// What kind of trouble a backend reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It did not answer, or not in time, or is loading, blocked or full for now. Trying again may help.
    Unavailable,
    /// It answered that this will never work as set up: credentials, permissions, TLS, eviction policy.
    Refused,
    /// What is stored there is not what this version can read.
    Corrupt,
}

/// A backend did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {message}")]
pub struct BackendError {
    /// What kind.
    pub trouble: Trouble,
    /// The backend's address, without credentials.
    pub address: String,
    /// What went wrong and what to do, in a line.
    pub message: String,
    /// What it was caused by.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl BackendError {
    /// An error with a cause.
    pub fn new(
        trouble: Trouble,
        address: impl fmt::Display,
        message: impl Into<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self { trouble, address: address.to_string(), message: message.into(), source: Some(Box::new(source)) }
    }

    /// An error that has no cause beneath it.
    pub fn plain(trouble: Trouble, address: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { trouble, address: address.to_string(), message: message.into(), source: None }
    }

    /// Whether the same call may succeed later with nothing changed here.
    pub fn is_transient(&self) -> bool {
        self.trouble == Trouble::Unavailable
    }
}

/// The URL of a server. It may hold a password, so it shows itself without user, password and query.
#[derive(Clone)]
pub struct ServerUrl {
    shown: String,
    whole: SecretString,
    scheme: String,
}

/// A text is not the URL of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a URL such as amqps://user:password@host:5671/vhost, rediss://host:6380 or sqlite://file")]
pub struct InvalidServerUrl;

impl ServerUrl {
    /// The whole URL, credentials included; for the connecting code alone.
    pub fn expose(&self) -> &str {
        self.whole.expose_secret()
    }

    /// `amqp`, `redis`, `sqlite`, …
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether the scheme asks for TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme.as_str(), "amqps" | "rediss" | "rediss-cluster")
    }

    /// Whether it names nodes of a Redis Cluster: `redis-cluster://user:password@host:port,host2:port2`.
    pub fn is_cluster(&self) -> bool {
        is_cluster(&self.scheme)
    }

    /// The URL of each node it names, as one server's, credentials included; for the connecting code alone.
    pub fn expose_nodes(&self) -> Vec<String> {
        let nodes = self.expose().split_once("://").and_then(|(scheme, rest)| ClusterNodes::of(scheme, rest));
        nodes.map_or_else(|| vec![self.expose().to_owned()], |nodes| nodes.urls())
    }
}

impl std::str::FromStr for ServerUrl {
    type Err = InvalidServerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidServerUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidServerUrl)?;
        let shown = match scheme {
            "sqlite" => format!("sqlite://{}", rest.split('?').next().unwrap_or(rest)),
            _ if is_cluster(scheme) => shown_cluster(scheme, rest).ok_or(InvalidServerUrl)?,
            _ => shown_url(text).ok_or(InvalidServerUrl)?,
        };
        Ok(Self { shown, whole: text.to_owned().into(), scheme: scheme.to_owned() })
    }
}

fn is_cluster(scheme: &str) -> bool {
    matches!(scheme, "redis-cluster" | "rediss-cluster")
}

/// The parts of the URL of a cluster, which has more than one host.
struct ClusterNodes<'a> {
    /// Of one node.
    scheme: &'a str,
    /// With the `@` that ends them, if there are any.
    credentials: &'a str,
    hosts: Vec<&'a str>,
    /// The path and the query.
    rest: &'a str,
}

impl<'a> ClusterNodes<'a> {
    fn of(scheme: &'a str, rest: &'a str) -> Option<Self> {
        let scheme = scheme.strip_suffix("-cluster")?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (credentials, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        Some(Self { scheme, credentials, hosts: hosts.split(',').collect(), rest })
    }

    fn urls(&self) -> Vec<String> {
        let Self { scheme, credentials, hosts, rest } = self;
        hosts.iter().map(|host| format!("{scheme}://{credentials}{host}{rest}")).collect()
    }
}

fn shown_cluster(scheme: &str, rest: &str) -> Option<String> {
    let nodes = ClusterNodes::of(scheme, rest)?;
    let shown: Option<Vec<String>> = nodes.urls().iter().map(|url| shown_url(url)).collect();
    let hosts: Option<Vec<String>> =
        shown?.iter().map(|url| Some(Url::parse(url).ok()?.authority().to_owned())).collect();
    Some(format!("{scheme}://{}", hosts?.join(",")))
}

fn shown_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}{}", url.scheme(), url.path()))
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({})", self.shown)
    }
}

/// PEM files for `amqps://` and `rediss://`. With none, the machine's own certificate store is trusted.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The certificates of a private CA, trusted instead of the machine's.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain.
    pub client_certificate: Option<PathBuf>,
    /// The client's private key.
    pub client_key: Option<PathBuf>,
}

/// The PEM texts of a client's certificate chain and its private key.
pub struct ClientPair {
    /// The certificate chain.
    pub certificate: Vec<u8>,
    /// The private key: a secret, never printed.
    pub key: Vec<u8>,
}

impl TlsFiles {
    /// The PEM text of the private CA, where one is set.
    ///
    /// # Errors
    /// [`BackendError`] where the file cannot be read.
    pub fn read_ca(&self, address: &str) -> Result<Option<Vec<u8>>, BackendError> {
        self.ca.as_deref().map(|path| read_pem(path, address)).transpose()
    }

    /// The PEM texts of the client's certificate and key, where they are set.
    ///
    /// # Errors
    /// [`BackendError`] where a file cannot be read, or one of the two is not set.
    pub fn read_client_pair(&self, address: &str) -> Result<Option<ClientPair>, BackendError> {
        match (&self.client_certificate, &self.client_key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Ok(Some(ClientPair { certificate: read_pem(certificate, address)?, key: read_pem(key, address)? }))
            }
            _ => {
                let message = "a client certificate needs its key and the other way round; set both files or none";
                Err(BackendError::plain(Trouble::Refused, address, message))
            }
        }
    }
}

fn read_pem(path: &Path, address: &str) -> Result<Vec<u8>, BackendError> {
    let message = || format!("the TLS file {} cannot be read", path.display());
    std::fs::read(path).map_err(|error| BackendError::new(Trouble::Refused, address, message(), error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_itself_without_credentials() {
        let url: ServerUrl = "amqps://producer:s3cret@mq.example:5671/prod?heartbeat=10".parse().unwrap();
        assert_eq!(url.to_string(), "amqps://mq.example:5671/prod");
        assert!(!format!("{url:?}").contains("s3cret"));
        assert!(url.is_tls() && url.expose().contains("s3cret"));
    }

    #[test]
    fn a_cluster_is_named_by_some_of_its_nodes() {
        let url: ServerUrl = "rediss-cluster://app:s3cret@r1.example:7000,r2.example,[::1]:7002".parse().unwrap();
        assert_eq!(url.to_string(), "rediss-cluster://r1.example:7000,r2.example,[::1]:7002");
        assert!(url.is_cluster() && url.is_tls() && !format!("{url:?}").contains("s3cret"));
        let nodes = ["app:s3cret@r1.example:7000", "app:s3cret@r2.example", "app:s3cret@[::1]:7002"];
        assert_eq!(url.expose_nodes(), nodes.map(|node| format!("rediss://{node}")));
        let one: ServerUrl = "redis://r1:7000".parse().unwrap();
        assert_eq!((one.is_cluster(), one.expose_nodes()), (false, vec!["redis://r1:7000".to_owned()]));
        for wrong in
            ["redis-cluster://", "redis-cluster://a:1,,b:2", "redis-cluster://a:port", "redis-cluster://a:1,b@c"]
        {
            let url = wrong.parse::<ServerUrl>();
            assert!(url.is_err() || !url.unwrap().to_string().contains('@'), "{wrong}");
        }
    }

    #[test]
    fn a_file_url_keeps_its_path() {
        for (text, shown) in
            [("sqlite://a/b.db", "sqlite://a/b.db"), ("sqlite:///var/x.db?mode=rwc", "sqlite:///var/x.db")]
        {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), shown);
        }
        assert!("localhost:6379".parse::<ServerUrl>().is_err());
    }
}
