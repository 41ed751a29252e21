//! What the tests and the demo stand on: a development identity provider, servers to test against, and faults to test with.
//!
//! | module | gives |
//! |---|---|
//! | [`conformance`] | what every backend of a port has to do |
//! | [`identity_provider`] | an OpenID provider that answers as Microsoft Entra ID does, with faults on demand |
//! | [`servers`] | the shared RabbitMQ and Redis (a vhost, a key prefix per test) and private ones that may be killed |
//! | [`certificates`] | a private certificate authority |
//! | [`fault_proxy`] | a TCP proxy that delays, stalls, resets, cuts |
//! | [`node`] | a certified OpenID provider and a headless browser, by Node.js |
//! | [`poison`] | messages of every kind that has to be refused |
//! | [`python`] | the interpreter with MSAL for Python, and users signed in by it |
//! | [`CapturedLog`] | what the test's own process logged |
//! | [`wait_until`], [`wait_for`] | waiting for a condition with a bound, instead of sleeping |
//!
//! Outside [`identity_provider`], failures are panics with a text that says what to do: a test without its server fails.
//!
//! The binary `testkit identity-provider` runs the provider on a port of its own.

mod captured_log;
pub mod certificates;
pub mod conformance;
mod environment;
pub mod fault_proxy;
pub mod identity_provider;
pub mod node;
pub mod poison;
pub mod python;
pub mod servers;
mod wait;

pub use captured_log::CapturedLog;
pub use wait::{wait_for, wait_until};
