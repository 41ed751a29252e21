//! Connections to Redis, one server or a cluster, that know TLS, bound every wait, and say what an error means.

mod cluster;
mod connection;
mod meaning;
mod server;

use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisError};

use self::cluster::Cluster;
pub use self::connection::{AnyConnection, RedisConnection};
use self::meaning::redis_error;
use self::server::Server;
use crate::backend::{BackendError, ServerUrl, TlsFiles, Trouble};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A command that was sent and not answered in this time may still be executed.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to one Redis server or to one cluster. Take one per batch, not per command.
#[derive(Clone)]
pub struct RedisPool {
    address: String,
    to: To,
}

#[derive(Clone)]
enum To {
    Server(Box<Server>),
    Cluster(Box<Cluster>),
}

impl std::fmt::Debug for RedisPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisPool({})", self.address)
    }
}

impl RedisPool {
    /// At most `size` connections to a server, or one to each node of a cluster. Does not connect yet.
    ///
    /// # Errors
    /// [`BackendError`]: the URL or the TLS files are wrong.
    pub fn new(url: &ServerUrl, tls: &TlsFiles, size: usize) -> Result<Self, BackendError> {
        let address = url.to_string();
        let to = match url.is_cluster() {
            true => To::Cluster(Box::new(Cluster::new(url, tls, &address)?)),
            false => To::Server(Box::new(Server::new(url, tls, size, &address)?)),
        };
        Ok(Self { address, to })
    }

    /// The address to show.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether these are the nodes of a cluster, where all that one command touches has to be in one slot.
    pub fn is_cluster(&self) -> bool {
        matches!(self.to, To::Cluster(_))
    }

    /// A connection, for one batch.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn get(&self) -> Result<RedisConnection, BackendError> {
        match &self.to {
            To::Server(server) => server.get(&self.address).await,
            To::Cluster(cluster) => cluster.get(&self.address).await,
        }
    }

    /// A connection of the caller's own that waits for an answer as long as the caller does, for blocking commands.
    ///
    /// # Errors
    /// [`BackendError`]: also of a cluster, whose connections are shared.
    pub async fn dedicated(&self) -> Result<redis::aio::MultiplexedConnection, BackendError> {
        match &self.to {
            To::Server(server) => server.dedicated().await.map_err(|e| self.error(e)),
            To::Cluster(_) => {
                let message = "what waits for data needs one Redis server; use redis:// or rediss://";
                Err(BackendError::plain(Trouble::Refused, &self.address, message))
            }
        }
    }

    /// Asks the node that keeps what is in the slot of `key`, for commands that do not name it.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn at_slot_of<T: FromRedisValue>(&self, key: &str, command: Cmd) -> Result<T, BackendError> {
        let mut connection = self.get().await?;
        connection.at_slot_of(key, command).await.map_err(|e| self.error(e))
    }

    /// Asks every node of a cluster, replicas as well, or the one server.
    ///
    /// # Errors
    /// [`BackendError`]: one of them does not answer, or refuses.
    pub async fn everywhere<T: FromRedisValue>(&self, command: Cmd) -> Result<Vec<T>, BackendError> {
        let mut connection = self.get().await?;
        connection.everywhere(command).await.map_err(|e| self.error(e))
    }

    /// Tells what an error of Redis means for the caller.
    pub fn error(&self, error: RedisError) -> BackendError {
        redis_error(&self.address, error)
    }
}
