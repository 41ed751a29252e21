//! A connection to one server or to a cluster, for the same commands.

use std::ops::{Deref, DerefMut};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Arg, Cmd, FromRedisValue, Pipeline, RedisFuture, RedisResult, Value};

/// A connection that is taken for one batch.
#[expect(missing_debug_implementations, reason = "the client's own connection shows nothing")]
pub struct RedisConnection {
    connection: AnyConnection,
    /// Goes back to its pool when the batch is done.
    _pooled: Option<deadpool_redis::Connection>,
}

impl RedisConnection {
    pub(super) fn pooled(pooled: deadpool_redis::Connection) -> Self {
        Self { connection: AnyConnection::Server((*pooled).clone()), _pooled: Some(pooled) }
    }

    pub(super) fn of_cluster(connection: ClusterConnection) -> Self {
        let nodes = ClusterNodes { connection, wants_script: None };
        Self { connection: AnyConnection::Cluster(nodes), _pooled: None }
    }
}

impl Deref for RedisConnection {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.connection
    }
}

impl DerefMut for RedisConnection {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }
}

/// A connection to a server, or to the nodes of a cluster. Clones share it.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "the client's own connection shows nothing")]
pub enum AnyConnection {
    /// To one server.
    Server(MultiplexedConnection),
    /// To all nodes. A command goes to the node that keeps its first key; a pipeline is of one slot.
    Cluster(ClusterNodes),
}

/// A connection to all nodes of a cluster.
///
/// A script that a node does not know is loaded there and nowhere else: the client would load it on all nodes it has
/// heard of, and fail while any of them is away.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "the client's own connection shows nothing")]
pub struct ClusterNodes {
    connection: ClusterConnection,
    /// The node of the last call whose script was not known.
    wants_script: Option<Route>,
}

impl ClusterNodes {
    async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        if let Some(node) = self.wants_script.take().filter(|_| is_script_load(command)) {
            return self.send_to(node, command.clone()).await;
        }
        let answer = self.connection.req_packed_command(command).await;
        if is_unknown_script(&answer) {
            self.wants_script = script_key(command).map(primary_of);
        }
        answer
    }

    async fn send_to(&mut self, node: Route, command: Cmd) -> RedisResult<Value> {
        let node = SingleNodeRoutingInfo::SpecificNode(node);
        self.connection.route_command(command, RoutingInfo::SingleNode(node)).await
    }
}

fn primary_of(key: impl AsRef<[u8]>) -> Route {
    Route::with_key(key, SlotAddr::Master)
}

fn words(command: &Cmd) -> impl Iterator<Item = &[u8]> {
    command.args_iter().filter_map(|word| match word {
        Arg::Simple(word) => Some(word),
        _ => None,
    })
}

fn is_script_load(command: &Cmd) -> bool {
    words(command).take(2).eq([&b"SCRIPT"[..], b"LOAD"])
}

/// The first key of `EVALSHA digest number key …`.
fn script_key(command: &Cmd) -> Option<&[u8]> {
    let mut words = words(command);
    (words.next() == Some(b"EVALSHA")).then(|| words.nth(2)).flatten()
}

fn is_unknown_script(answer: &RedisResult<Value>) -> bool {
    let code = match answer {
        Ok(Value::ServerError(error)) => Some(error.code()),
        Ok(_) => None,
        Err(error) => error.code(),
    };
    code == Some("NOSCRIPT")
}

impl AnyConnection {
    pub(super) async fn at_slot_of<T: FromRedisValue>(&mut self, key: &str, command: Cmd) -> RedisResult<T> {
        match self {
            Self::Server(server) => command.query_async(server).await,
            Self::Cluster(cluster) => {
                let answer = cluster.send_to(primary_of(key), command).await?;
                Ok(T::from_redis_value(answer.extract_error()?)?)
            }
        }
    }

    pub(super) async fn everywhere<T: FromRedisValue>(&mut self, command: Cmd) -> RedisResult<Vec<T>> {
        let cluster = match self {
            Self::Server(server) => return Ok(vec![command.query_async(server).await?]),
            Self::Cluster(cluster) => cluster,
        };
        let route = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllNodes, None));
        let answers = match cluster.connection.route_command(command, route).await?.extract_error()? {
            Value::Map(answers) => answers.into_iter().map(|(_, answer)| answer).collect(),
            answer => vec![answer],
        };
        answers.into_iter().map(|answer| Ok(T::from_redis_value(answer.extract_error()?)?)).collect()
    }
}

impl ConnectionLike for AnyConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(server) => server.req_packed_command(command),
            Self::Cluster(cluster) => Box::pin(cluster.send(command)),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(server) => server.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(server) => server.get_db(),
            Self::Cluster(cluster) => cluster.connection.get_db(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_script_is_the_first_after_their_number() {
        let mut call = redis::cmd("EVALSHA");
        call.arg("digest").arg(2).arg("{s0}:a").arg("{s0}:b").arg("argument");
        assert_eq!(script_key(&call), Some(&b"{s0}:a"[..]));
        assert_eq!(script_key(redis::cmd("HGET").arg("a").arg("b").arg("c")), None);
        assert!(is_script_load(redis::cmd("SCRIPT").arg("LOAD").arg("return 1")) && !is_script_load(&call));
    }
}
