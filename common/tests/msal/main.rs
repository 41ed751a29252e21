//! MSAL's unified cache: what real libraries wrote is read, changed and merged by the rules.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod golden;
mod merge;
mod properties;
mod read;
mod rules;
mod support;
