//! What every command of both binaries is told: where the log, the index and the token cache are.
//!
//! The one place that reads the environment; each setting is a flag or a variable, and the flag wins.

mod duration;
mod identity_provider;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

pub use duration::{InvalidMoment, moment, span};
pub use identity_provider::IdentityProviderSettings;

use crate::account::ClientId;
use crate::backend::{InvalidServerUrl, ServerUrl, TlsFiles};
use crate::event::{KeyTooShort, UsernameKey, UsernamePolicy};
use crate::identity::CertificateError;
use crate::token_cache::encryption::{BlobCipher, EnvelopeScope, KeyFileError, KeyRing};
use crate::token_cache::{L1Options, Layout, WhenDown};

/// The file everything lives in where no URL is given.
pub const DEFAULT_URL: &str = "sqlite://token-activity.sqlite";

/// Where the three ports are. A URL may hold a password, so give it by the environment rather than by a flag.
#[derive(Args, Clone)]
#[command(next_help_heading = "Servers")]
pub struct Connections {
    /// The log: amqp://, amqps:// (RabbitMQ) or sqlite://FILE [default: sqlite://token-activity.sqlite]
    #[arg(long, env = "ACTIVITY_LOG_URL", hide_env_values = true, value_name = "URL", global = true, value_parser = secret)]
    log_url: Option<SecretString>,
    /// The activity index: redis://, rediss://, redis-cluster://HOST:PORT,HOST:PORT (or rediss-cluster://) or sqlite://FILE [default: sqlite://token-activity.sqlite]
    #[arg(long, env = "ACTIVITY_INDEX_URL", hide_env_values = true, value_name = "URL", global = true, value_parser = secret)]
    index_url: Option<SecretString>,
    /// The token cache and its outbox: redis://, rediss:// or sqlite://FILE [default: sqlite://token-activity.sqlite]
    #[arg(long, env = "TOKEN_CACHE_URL", hide_env_values = true, value_name = "URL", global = true, value_parser = secret)]
    cache_url: Option<SecretString>,
    /// RabbitMQ's management HTTP API, to see and change how long the log is kept, such as https://user:password@host:15671
    #[arg(long, env = "ACTIVITY_LOG_MANAGEMENT_URL", hide_env_values = true, value_name = "URL", global = true, value_parser = secret)]
    log_management_url: Option<SecretString>,
    /// How many partitions a log that is not declared yet gets, 1 to 64
    #[arg(long, env = "ACTIVITY_LOG_PARTITIONS", default_value_t = 1, value_name = "N", global = true,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub log_partitions: u32,
    /// What the keys of the index begin with
    #[arg(long, env = "ACTIVITY_INDEX_PREFIX", default_value = "activity:", value_name = "TEXT", global = true)]
    pub index_prefix: String,
    /// Over how many shards a Redis index that is not made yet is spread, 1 to 64; one that is there keeps its own
    /// [default: 1]
    #[arg(long, env = "ACTIVITY_INDEX_SHARDS", value_name = "N", global = true,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub index_shards: Option<u32>,
    /// What the keys of the token cache begin with (the InstanceName of the .NET cache)
    #[arg(long, env = "TOKEN_CACHE_INSTANCE_NAME", default_value = "tokencache:", value_name = "TEXT", global = true)]
    pub cache_instance_name: String,
    /// How blobs are laid out in Redis: aspnet (a hash, as the .NET cache writes it) or string (a plain value)
    #[arg(long, env = "TOKEN_CACHE_LAYOUT", default_value = "aspnet", global = true)]
    pub cache_layout: Layout,
    /// Encrypt blobs under the keys of these files (`consumer keys new` makes them); other MSAL libraries cannot read them
    #[arg(long, env = "TOKEN_CACHE_ENCRYPTION_KEYS", value_name = "FILES", value_delimiter = ',', global = true)]
    cache_encryption_keys: Vec<PathBuf>,
    /// The application (client) id that encrypted blobs are bound to, the same in every program of this cache
    #[arg(long, env = "TOKEN_CACHE_ENCRYPTION_CLIENT_ID", value_name = "ID", global = true)]
    cache_encryption_client_id: Option<ClientId>,
    /// How long a web app keeps blobs in memory after it last asked for them; 0s keeps none. Not for workers
    #[arg(long, env = "TOKEN_CACHE_L1_TTL", default_value = "0s", value_parser = span, value_name = "DURATION", global = true)]
    cache_l1_ttl: Duration,
    /// How many bytes of blobs are kept in memory
    #[arg(long, env = "TOKEN_CACHE_L1_BYTES", default_value_t = 64 << 20, value_name = "BYTES", global = true)]
    cache_l1_bytes: u64,
    /// What a read of a blob that is kept in memory gives while the token cache does not answer
    #[arg(long, env = "TOKEN_CACHE_L1_WHEN_DOWN", default_value = "fail", global = true)]
    cache_l1_when_down: WhenDown,
    /// PEM file of a private CA for amqps:// and rediss://
    #[arg(long, env = "TLS_CA_FILE", value_name = "FILE", global = true)]
    tls_ca_file: Option<PathBuf>,
    /// PEM file of this client's certificate chain
    #[arg(long, env = "TLS_CLIENT_CERTIFICATE_FILE", value_name = "FILE", global = true)]
    tls_client_certificate_file: Option<PathBuf>,
    /// PEM file of this client's private key
    #[arg(long, env = "TLS_CLIENT_KEY_FILE", value_name = "FILE", global = true)]
    tls_client_key_file: Option<PathBuf>,
}

/// Takes a text as it is. A wrong one is refused later, by a message that does not repeat it as clap's would.
#[expect(clippy::unnecessary_wraps, reason = "the form of a value parser")]
fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(text.into())
}

/// Settings that do not fit. The texts never repeat a value that may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A URL cannot be read.
    #[error("{setting} {source}")]
    Url {
        /// The flag and the variable.
        setting: &'static str,
        /// Why.
        source: InvalidServerUrl,
    },
    /// A URL names a kind of server that this port does not run on.
    #[error("{setting} has the scheme {scheme}://; give {allowed}")]
    Scheme {
        /// The flag and the variable.
        setting: &'static str,
        /// The scheme.
        scheme: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// See [`KeyTooShort`].
    #[error("--username-key-file (USERNAME_KEY_FILE): {0}")]
    UsernameKey(#[from] KeyTooShort),
    /// The key file is not given or cannot be read.
    #[error("--usernames hashed needs --username-key-file (USERNAME_KEY_FILE), a readable file of random bytes")]
    UsernameKeyFile(#[source] Option<std::io::Error>),
    /// Nothing says which app this is at the identity provider.
    #[error("which app this is has to be said: set --idp-client-id (IDP_CLIENT_ID)")]
    NoClientId,
    /// Nothing proves to the identity provider that this is the app.
    #[error(
        "the identity provider wants proof of the app: set IDP_CLIENT_SECRET, --idp-client-secret-file \
         (IDP_CLIENT_SECRET_FILE) or --idp-client-certificate-file (IDP_CLIENT_CERTIFICATE_FILE)"
    )]
    NoClientCredential,
    /// The file of the client secret cannot be read.
    #[error("--idp-client-secret-file (IDP_CLIENT_SECRET_FILE) {path} cannot be read")]
    ClientSecretFile {
        /// Its path.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// See [`KeyFileError`].
    #[error("--cache-encryption-keys (TOKEN_CACHE_ENCRYPTION_KEYS): {0}")]
    EncryptionKeys(#[source] KeyFileError),
    /// What is done needs keys, and none are set.
    #[error("the token cache is not encrypted here: set --cache-encryption-keys (TOKEN_CACHE_ENCRYPTION_KEYS)")]
    NoEncryptionKeys,
    /// Nothing says what envelopes are bound to.
    #[error(
        "encrypted blobs are bound to an app: set --cache-encryption-client-id (TOKEN_CACHE_ENCRYPTION_CLIENT_ID) to \
         its application (client) id"
    )]
    NoEncryptionClient,
    /// See [`CertificateError`].
    #[error("--idp-client-certificate-file (IDP_CLIENT_CERTIFICATE_FILE): {0}")]
    ClientCertificate(#[from] CertificateError),
}

const LOG: (&str, &[&str], &str) =
    ("--log-url (ACTIVITY_LOG_URL)", &["amqp", "amqps", "sqlite"], "amqp://, amqps:// or sqlite://");
const LOG_MANAGEMENT: (&str, &[&str], &str) =
    ("--log-management-url (ACTIVITY_LOG_MANAGEMENT_URL)", &["http", "https"], "http:// or https://");
const INDEX: (&str, &[&str], &str) = (
    "--index-url (ACTIVITY_INDEX_URL)",
    &["redis", "rediss", "redis-cluster", "rediss-cluster", "sqlite"],
    "redis://, rediss://, redis-cluster://, rediss-cluster:// or sqlite://",
);
const CACHE: (&str, &[&str], &str) =
    ("--cache-url (TOKEN_CACHE_URL)", &["redis", "rediss", "sqlite"], "redis://, rediss:// or sqlite://");

impl Connections {
    /// The address of the management HTTP API of the log's broker, where it is set.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn log_management_url(&self) -> Result<Option<ServerUrl>, SettingsError> {
        self.log_management_url.as_ref().map(|url| checked(Some(url), LOG_MANAGEMENT)).transpose()
    }

    /// The log's address.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn log_url(&self) -> Result<ServerUrl, SettingsError> {
        checked(self.log_url.as_ref(), LOG)
    }

    /// The index's address.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn index_url(&self) -> Result<ServerUrl, SettingsError> {
        checked(self.index_url.as_ref(), INDEX)
    }

    /// The token cache's address.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn cache_url(&self) -> Result<ServerUrl, SettingsError> {
        checked(self.cache_url.as_ref(), CACHE)
    }

    /// What blobs are encrypted with; `None` where they are not.
    ///
    /// # Errors
    /// [`SettingsError`]: the keys cannot be read, or nothing says whose they are.
    pub fn cache_cipher(&self) -> Result<Option<BlobCipher>, SettingsError> {
        if self.cache_encryption_keys.is_empty() {
            return Ok(None);
        }
        let client_id = self.cache_encryption_client_id.clone().ok_or(SettingsError::NoEncryptionClient)?;
        let keys = KeyRing::from_files(&self.cache_encryption_keys).map_err(SettingsError::EncryptionKeys)?;
        let scope = EnvelopeScope { instance_name: self.cache_instance_name.clone(), client_id };
        Ok(Some(BlobCipher::new(keys, scope)))
    }

    /// What is kept of blobs in memory; `None` where nothing is.
    pub fn cache_l1(&self) -> Option<L1Options> {
        let (ttl, max_bytes, when_down) = (self.cache_l1_ttl, self.cache_l1_bytes, self.cache_l1_when_down);
        (!ttl.is_zero()).then_some(L1Options { ttl, max_bytes, when_down })
    }

    /// The same settings, with every port that is not given in the one file at `url`.
    pub fn or_all_in(mut self, url: &str) -> Self {
        for setting in [&mut self.log_url, &mut self.index_url, &mut self.cache_url] {
            setting.get_or_insert_with(|| url.into());
        }
        self
    }

    /// The files for TLS.
    pub fn tls(&self) -> TlsFiles {
        TlsFiles {
            ca: self.tls_ca_file.clone(),
            client_certificate: self.tls_client_certificate_file.clone(),
            client_key: self.tls_client_key_file.clone(),
        }
    }
}

fn checked(
    given: Option<&SecretString>,
    (setting, schemes, allowed): (&'static str, &[&str], &'static str),
) -> Result<ServerUrl, SettingsError> {
    let text = given.map_or(DEFAULT_URL, |secret| secret.expose_secret());
    let url: ServerUrl = text.parse().map_err(|source| SettingsError::Url { setting, source })?;
    if !schemes.contains(&url.scheme()) {
        return Err(SettingsError::Scheme { setting, scheme: url.scheme().to_owned(), allowed });
    }
    Ok(url)
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("log", &self.log_url().ok())
            .field("index", &self.index_url().ok())
            .field("cache", &self.cache_url().ok())
            .finish_non_exhaustive()
    }
}

/// How much of a username leaves the web side.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Usernames")]
pub struct UsernameSettings {
    /// What events and the index hold of usernames
    #[arg(long, env = "USERNAMES", default_value = "plain", global = true)]
    usernames: UsernameForm,
    /// File of at least 16 random bytes, the key of hashed usernames; the same for all apps and workers
    #[arg(long, env = "USERNAME_KEY_FILE", value_name = "FILE", global = true)]
    username_key_file: Option<PathBuf>,
}

/// What is written of a username.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UsernameForm {
    /// As the blob holds it.
    Plain,
    /// Its HMAC-SHA-256.
    Hashed,
    /// Nothing.
    Omitted,
}

impl UsernameSettings {
    /// The policy that is set.
    ///
    /// # Errors
    /// [`SettingsError`]: no key, or one that is too short.
    pub fn policy(&self) -> Result<UsernamePolicy, SettingsError> {
        match self.usernames {
            UsernameForm::Plain => Ok(UsernamePolicy::Plain),
            UsernameForm::Omitted => Ok(UsernamePolicy::Omitted),
            UsernameForm::Hashed => Ok(UsernamePolicy::Hashed(UsernameKey::new(self.read_key()?)?)),
        }
    }

    fn read_key(&self) -> Result<Vec<u8>, SettingsError> {
        let path = self.username_key_file.as_ref().ok_or(SettingsError::UsernameKeyFile(None))?;
        std::fs::read(path).map_err(|error| SettingsError::UsernameKeyFile(Some(error)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Parser, Debug)]
    struct Program {
        #[command(flatten)]
        connections: Connections,
        #[command(flatten)]
        _usernames: UsernameSettings,
        #[command(flatten)]
        _provider: IdentityProviderSettings,
        #[command(flatten)]
        _logs: crate::telemetry::LogSettings,
    }

    #[test]
    fn every_setting_stands_in_the_readmes_table() {
        let table = include_str!("../../../README.md");
        for setting in Program::command().get_arguments().filter(|setting| setting.get_env().is_some()) {
            let flag = setting.get_long().unwrap();
            let variable = setting.get_env().unwrap().to_str().unwrap();
            assert!(table.contains(&format!("| `--{flag}` | `{variable}` |")), "--{flag} ({variable})");
        }
    }

    fn given(flags: &[&str]) -> Connections {
        Program::try_parse_from(["program", "--idp-client-id", "app"].iter().chain(flags)).unwrap().connections
    }

    #[test]
    fn without_a_url_everything_lives_in_one_file() {
        let connections = given(&[]).or_all_in("sqlite:///tmp/demo.sqlite");
        assert_eq!(connections.log_url().unwrap().to_string(), "sqlite:///tmp/demo.sqlite");
        assert_eq!(given(&[]).index_url().unwrap().to_string(), DEFAULT_URL);
    }

    #[test]
    fn a_url_of_the_wrong_kind_is_refused_by_the_name_of_its_setting() {
        let error = given(&["--log-url", "redis://h"]).log_url().unwrap_err().to_string();
        assert_eq!(error, "--log-url (ACTIVITY_LOG_URL) has the scheme redis://; give amqp://, amqps:// or sqlite://");
        let error = given(&["--cache-url", "user:s3cret@host"]).cache_url().unwrap_err().to_string();
        assert!(error.starts_with("--cache-url (TOKEN_CACHE_URL) is not a URL"), "{error}");
        assert!(!error.contains("s3cret"));
    }

    #[test]
    fn a_password_is_never_shown() {
        let connections = given(&["--log-url", "amqp://u:s3cret@h/v"]);
        assert!(!format!("{connections:?}").contains("s3cret"));
    }
}
