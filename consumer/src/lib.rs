//! The read side: what brings the log to the index, and what the index is asked.

pub mod api;
pub mod dead_letters;
pub mod doctor;
pub mod erase;
pub mod gap;
pub mod health;
mod insist;
pub mod progress;
pub mod projector;
pub mod rebuild;
pub mod replay;
mod resume;
pub mod rewrap;
pub mod seed;
pub mod snapshot;
mod span;
pub mod verify;
pub mod view;
pub mod worker;
