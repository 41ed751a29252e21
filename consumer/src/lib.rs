//! The read side: what brings the log to the index, and what the index is asked.

mod insist;
pub mod doctor;
pub mod gap;
pub mod health;
pub mod progress;
pub mod projector;
<<<<<<< HEAD
pub mod rewrap;
=======
pub mod rebuild;
pub mod replay;
mod span;
pub mod verify;
>>>>>>> main
pub mod worker;
