//! What `common` does against real servers and real files. A test whose server is missing fails.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod log;
