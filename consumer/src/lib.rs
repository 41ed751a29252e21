//! The read side: what brings the log to the index, and what the index is asked.

pub mod dead_letters;
pub mod projector;
