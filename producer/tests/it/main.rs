//! What `producer` does against real files and real servers. A test whose server is missing fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod adapter;
mod crash;
mod faults;
mod relay;
mod relay_servers;
mod rig;
mod web;
