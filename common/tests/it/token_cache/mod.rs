//! The token cache on each of its backends, and what wraps it.

mod decorated;
pub(crate) mod encryption;
mod key_files;
mod l1;
mod redis;
mod refresh_lock;
mod rewrap;
mod sqlite;
