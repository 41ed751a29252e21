//! What the read side does against real servers and real files. A test whose server is missing fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod api;
mod cli;
mod dead_letters;
mod erase;
mod faults;
mod foreign_client;
mod gap;
mod keys;
mod killed;
mod lost_end;
mod program;
mod projector;
mod projector_servers;
mod rebuild;
mod replay;
mod retention;
mod rig;
mod seed;
mod sharing;
mod snapshot;
mod verify;
mod worker;
