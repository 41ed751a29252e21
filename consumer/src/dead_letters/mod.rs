//! Dead letters: looked at, sent again, dropped.
//!
//! - Everything here goes through the letters one by one; how many there are, and how long they are, does not matter.
//! - The same letter parked twice (a projector died between parking and its checkpoint) is shown once and dealt with
//!   once: a letter is known by its id and its bytes.
//! - A letter is taken out only after what it held is confirmed by the log, or on an operator's word. Whatever dies in
//!   between, it is dealt with again; events are the same events then, so that is harmless.

mod drop;
mod erase;
mod filter;
mod look;
mod mask;
mod redrive;
mod walk;

pub use drop::{DropReport, Dropping, drop_letters};
pub use erase::{Erased, erase_letters};
pub use filter::LetterFilter;
pub use look::{ReasonSummary, Summary, find, first, summarize};
pub use mask::{masked, readable};
pub use redrive::{LetterFate, RedriveError, RedriveReport, RedriveSettings, redrive};
