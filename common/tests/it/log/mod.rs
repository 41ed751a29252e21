//! The log on both of its backends.

mod faults;
mod rabbitmq;
mod sqlite;
