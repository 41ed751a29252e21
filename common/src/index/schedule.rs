//! What a job asks for.

use jiff::Timestamp;

use crate::account::identifier;

identifier!(
    /// Why a job wants an account: one line for whoever looks at what is due. No personal data and no secret: it is shown.
    JobReason,
    256
);

/// That an account is due at a time, for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// When.
    pub at: Timestamp,
    /// Why, where it is said.
    pub reason: Option<JobReason>,
}

impl Schedule {
    /// A time alone.
    pub fn at(at: Timestamp) -> Self {
        Self { at, reason: None }
    }
}
