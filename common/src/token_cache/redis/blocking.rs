//! Connections for commands that block: one per waiting call, so that nothing else waits behind it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError};

use crate::backend::BackendError;
use crate::redis_pool::RedisPool;

/// How much longer than it may block a command may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How many connections are kept for the next calls.
const KEPT: usize = 4;

#[derive(Debug)]
pub(super) struct BlockingConnections {
    pool: RedisPool,
    idle: Mutex<Vec<MultiplexedConnection>>,
}

impl BlockingConnections {
    pub(super) fn new(pool: RedisPool) -> Self {
        Self { pool, idle: Mutex::new(Vec::new()) }
    }

    /// A connection of the caller's own. Dropping it closes it, and with it what it waits for.
    pub(super) async fn get(&self) -> Result<MultiplexedConnection, BackendError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => self.pool.dedicated().await,
        }
    }

    /// Keeps a connection that owes no answer.
    pub(super) fn put_back(&self, connection: MultiplexedConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
    }
}

/// Asks `command`, which may block for `wait`.
pub(super) async fn query<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    wait: Duration,
) -> Result<T, RedisError> {
    match tokio::time::timeout(wait + ANSWER_WITHIN, command.query_async(connection)).await {
        Ok(answer) => answer,
        Err(_) => {
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to a blocking command");
            Err(RedisError::from((ErrorKind::Io, "no answer in time", late.to_string())))
        }
    }
}
