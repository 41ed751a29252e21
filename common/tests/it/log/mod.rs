//! The log on both of its backends.

mod rabbitmq;
mod sqlite;
