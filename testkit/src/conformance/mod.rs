//! What every implementation of a port has to do, as suites that any backend can run, a user's own included.

pub mod index;
pub mod log;
pub mod token_cache;
