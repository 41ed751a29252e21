//! The nodes of a Redis Cluster: one connection that knows them all, finds them again, and follows their slots.

use std::sync::Arc;
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError};
use tokio::sync::OnceCell;

use super::connection::RedisConnection;
use super::meaning::redis_error;
use super::server::certificates;
use super::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};
use crate::backend::{BackendError, ServerUrl, TlsFiles};

/// How long a call waits in all, however often it is sent on to another node, or a node is looked for.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A node that does not accept a connection keeps all calls waiting while it is tried.
const NODE_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a call is sent anew after a redirection, a lost connection or a node that cannot answer now.
const RETRIES: u32 = 5;
const LONGEST_PAUSE_MILLIS: u64 = 500;
const SHORTEST_PAUSE_MILLIS: u64 = 20;

#[derive(Clone)]
pub(super) struct Cluster {
    client: ClusterClient,
    /// The nodes that were named, each as a server.
    nodes: Arc<[Client]>,
    /// Made by whoever asks first; it connects again by itself.
    connection: Arc<OnceCell<ClusterConnection>>,
}

impl Cluster {
    pub(super) fn new(url: &ServerUrl, tls: &TlsFiles, address: &str) -> Result<Self, BackendError> {
        let error = |e| redis_error(address, e);
        let nodes = url.expose_nodes();
        let certificates = certificates(url, tls, address)?;
        let mut builder = ClusterClient::builder(nodes.iter().map(String::as_str))
            .connection_timeout(NODE_CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .overall_response_timeout(Some(CALL_TIMEOUT))
            .retries(RETRIES)
            .min_retry_wait(SHORTEST_PAUSE_MILLIS)
            .max_retry_wait(LONGEST_PAUSE_MILLIS);
        if let Some(certificates) = &certificates {
            builder = builder.certs(certificates.clone());
        }
        let node = |node: &String| match &certificates {
            None => Client::open(node.as_str()),
            Some(certificates) => Client::build_with_tls(node.as_str(), certificates.clone()),
        };
        let nodes = nodes.iter().map(node).collect::<Result<_, _>>().map_err(error)?;
        Ok(Self { client: builder.build().map_err(error)?, nodes, connection: Arc::default() })
    }

    pub(super) async fn get(&self, address: &str) -> Result<RedisConnection, BackendError> {
        let connection = self.connection.get_or_try_init(|| self.connect()).await;
        let connection = connection.map_err(|error| redis_error(address, error))?;
        Ok(RedisConnection::of_cluster(connection.clone()))
    }

    async fn connect(&self) -> Result<ClusterConnection, RedisError> {
        match tokio::time::timeout(CALL_TIMEOUT, self.client.get_async_connection()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.reason().await.unwrap_or(error)),
            Err(_) => Err((ErrorKind::ClusterConnectionNotFound, "no node answered in time").into()),
        }
    }

    /// What a named node says itself: the client for the cluster keeps only a text of it.
    async fn reason(&self) -> Option<RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(NODE_CONNECT_TIMEOUT.min(CONNECT_TIMEOUT)))
            .set_response_timeout(Some(NODE_CONNECT_TIMEOUT));
        for node in self.nodes.iter() {
            if let Err(error) = node.get_multiplexed_async_connection_with_config(&config).await {
                return Some(error);
            }
        }
        None
    }
}
