//! The worker: hydrates accounts of the index from their blobs, tells the log, and harms nobody.

mod cli;
mod due;
mod hydrate;
mod jobs;
mod msal_python;
pub(crate) mod rig;
mod tampered;
