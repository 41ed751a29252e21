//! The web side: what writes the token cache, and what brings its events to the log.

pub mod adapter;
pub mod relay;
pub mod simulate;
pub mod web;
