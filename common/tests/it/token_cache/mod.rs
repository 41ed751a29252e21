//! The token cache on each of its backends.

mod redis;
mod refresh_lock;
mod sqlite;
