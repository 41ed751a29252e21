//! The read side: what brings the log to the index, and what the index is asked.

pub mod projector;
pub mod worker;
