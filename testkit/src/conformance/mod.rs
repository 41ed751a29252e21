//! What every implementation of a port has to do, as suites that any backend can run, a user's own included.

#[expect(clippy::expect_used, reason = "a backend that fails is a test that fails")]
pub mod claims;
#[expect(clippy::expect_used, reason = "a backend that fails is a test that fails")]
pub mod index;
pub mod leases;
pub mod log;
pub mod token_cache;
