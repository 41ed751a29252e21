//! What the web side and the read side share: the vocabulary, the event contract, and the three ports.
//!
//! The reader's path is the life of an event: [`token_cache`] (a write and its outbox entry) →
//! [`event`] (the contract) → [`log`] (RabbitMQ streams) → [`index`] (the fold and where it is kept).

pub mod account;
pub mod backend;
pub mod backends;
pub mod event;
pub mod http_server;
pub mod identity;
pub mod index;
pub mod log;
pub mod output;
pub mod program;
pub mod redis_pool;
pub mod retry;
pub mod settings;
pub mod sqlite;
pub mod telemetry;
pub mod token_cache;
