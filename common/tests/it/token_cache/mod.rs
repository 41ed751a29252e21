//! The token cache on each of its backends, and what wraps it.

mod decorated;
mod encryption;
mod key_files;
mod redis;
mod refresh_lock;
mod rewrap;
mod sqlite;
