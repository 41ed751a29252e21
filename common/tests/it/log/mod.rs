//! The log on both of its backends.

mod sqlite;
