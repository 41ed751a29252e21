//! The servers that tests run against: shared ones by address, private ones by process.
//!
//! | variable | default |
//! |---|---|
//! | `TEST_AMQP_URL` | `amqp://guest:guest@127.0.0.1:5672/%2f` |
//! | `TEST_AMQP_ADMIN_URL` | `http://{host of TEST_AMQP_URL}:15672`; the management HTTP API, with the user of `TEST_AMQP_URL` |
//! | `TEST_REDIS_URL` | `redis://127.0.0.1:6379` |

mod key_prefix;
mod private_rabbitmq;
mod private_redis;
mod process;
mod redis_cluster;
mod shared;
mod tls;
mod vhost;

pub use key_prefix::KeyPrefix;
pub use private_rabbitmq::{PrivateRabbitMq, RabbitMqOptions};
pub use private_redis::{PrivateRedis, RedisOptions};
pub(crate) use process::free_port;
pub use redis_cluster::{RedisCluster, RedisClusterOptions};
pub use shared::{amqp_url, redis_url};
pub use tls::ServerTls;
pub use vhost::Vhost;
