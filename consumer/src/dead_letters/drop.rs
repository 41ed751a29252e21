//! Dropping letters for good.

use common::log::{DeadLetterError, DeadLetters, LetterQueue};
use serde::Serialize;

use super::LetterFilter;
use super::walk::Walk;

/// What became of the letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DropReport {
    /// Letters that are gone, or would be.
    pub dropped: u64,
    /// Letters that were not meant.
    pub left: u64,
}

/// Whether letters are dropped, or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropping {
    /// They are dropped.
    ForGood,
    /// They are counted.
    Rehearsal,
}

/// Drops the letters that pass `filter`.
///
/// # Errors
/// [`DeadLetterError`]; some letters may be gone then.
pub async fn drop_letters(
    letters: &dyn DeadLetters,
    queue: LetterQueue,
    filter: &LetterFilter,
    dropping: Dropping,
) -> Result<DropReport, DeadLetterError> {
    let mut walk = Walk::begin(letters, queue).await?;
    let mut report = DropReport::default();
    while let Some((held, letter)) = walk.next().await? {
        if !filter.lets_through(&letter) {
            report.left += 1;
        } else {
            report.dropped += 1;
            if dropping == Dropping::ForGood {
                walk.take_out(held).await?;
            }
        }
        walk.refresh().await?;
    }
    walk.end().await?;
    Ok(report)
}
