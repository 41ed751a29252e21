//! The whole pipeline, end to end. A test whose server is missing fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod broker_down;
mod due;
mod fleet;
mod grow;
mod msal_python;
mod pipeline;
mod program;
mod secrets;
mod web_app;
