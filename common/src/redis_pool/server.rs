//! One Redis server: a pool of connections.

use std::time::Duration;

use deadpool_redis::{Manager, Pool, PoolError, Runtime};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ClientTlsConfig, RedisError, TlsCertificates};

use super::connection::RedisConnection;
use super::meaning::redis_error;
use super::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};
use crate::backend::{BackendError, ServerUrl, TlsFiles, Trouble};

#[derive(Clone)]
pub(super) struct Server {
    client: Client,
    pool: Pool,
}

impl Server {
    pub(super) fn new(url: &ServerUrl, tls: &TlsFiles, size: usize, address: &str) -> Result<Self, BackendError> {
        let client = client(url, tls, address)?;
        let config = connection_config(Some(RESPONSE_TIMEOUT));
        let manager = Manager::new_with_config(client.get_connection_info().clone(), config)
            .map_err(|error| redis_error(address, error))?;
        let pool = Pool::builder(manager)
            .max_size(size)
            .wait_timeout(Some(RESPONSE_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(RESPONSE_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| BackendError::new(Trouble::Refused, address, "the connection pool cannot be made", e))?;
        Ok(Self { client, pool })
    }

    pub(super) async fn get(&self, address: &str) -> Result<RedisConnection, BackendError> {
        let pooled = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => redis_error(address, error),
            error => BackendError::new(Trouble::Unavailable, address, "no connection within 5 s; is Redis up?", error),
        })?;
        Ok(RedisConnection::pooled(pooled))
    }

    pub(super) async fn dedicated(&self) -> Result<MultiplexedConnection, RedisError> {
        self.client.get_multiplexed_async_connection_with_config(&connection_config(None)).await
    }
}

fn connection_config(response_timeout: Option<Duration>) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(response_timeout)
}

fn client(url: &ServerUrl, tls: &TlsFiles, address: &str) -> Result<Client, BackendError> {
    match certificates(url, tls, address)? {
        None => Client::open(url.expose()),
        Some(certificates) => Client::build_with_tls(url.expose(), certificates),
    }
    .map_err(|e| redis_error(address, e))
}

/// What a URL with TLS is connected with.
pub(super) fn certificates(
    url: &ServerUrl,
    tls: &TlsFiles,
    address: &str,
) -> Result<Option<TlsCertificates>, BackendError> {
    if !url.is_tls() {
        return Ok(None);
    }
    let pair = tls.read_client_pair(address)?;
    let client_tls = pair.map(|pair| ClientTlsConfig { client_cert: pair.certificate, client_key: pair.key });
    Ok(Some(TlsCertificates { client_tls, root_cert: tls.read_ca(address)? }))
}
