//! More partitions for a log that is in use.

use super::{LogError, MAX_PARTITIONS};

/// What growing a log came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// How many partitions there were.
    pub before: u32,
    /// How many there are.
    pub partitions: u32,
}

/// The log was not grown, or only in part; growing it again is right.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// Partitions are never taken away: they hold events.
    #[error("the log has {there} partitions, and none is ever taken away")]
    Fewer {
        /// How many there are.
        there: u32,
    },
    /// More than a log may have.
    #[error("a log has {MAX_PARTITIONS} partitions at most")]
    TooMany,
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Whether a log of `there` partitions may have `asked`.
pub(super) fn check(there: u32, asked: u32) -> Result<(), GrowError> {
    if asked > MAX_PARTITIONS {
        return Err(GrowError::TooMany);
    }
    if asked < there {
        return Err(GrowError::Fewer { there });
    }
    Ok(())
}
