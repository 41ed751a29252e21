//! The index on SQLite and on Redis.

mod redis;
mod sqlite;
