//! What `common` does against real servers and real files. A test whose server is missing fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod asyncapi;
mod event;
mod identity;
mod index;
mod log;
pub(crate) mod token_cache;
