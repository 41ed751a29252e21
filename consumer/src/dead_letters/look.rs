//! Looking at letters: how many there are for which reason, the first of them, one of them.

use std::collections::BTreeMap;

use common::log::{DeadLetterError, DeadLetters, LetterQueue, ParkedLetter};
use jiff::Timestamp;
use serde::Serialize;

use super::LetterFilter;
use super::walk::Walk;

/// Reasons that are told apart. This project has fewer; another program may park letters too.
const MOST_REASONS: usize = 100;
const OTHER_REASONS: &str = "(others)";

/// What is in a queue of letters. Each letter is counted once, however often it was parked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many letters there are.
    pub letters: u64,
    /// How many of them were parked again on top of that.
    pub copies: u64,
    /// By reason, the most frequent first.
    pub reasons: Vec<ReasonSummary>,
    /// False where there are more letters than one look can tell apart: a million.
    pub is_complete: bool,
}

/// The letters with one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReasonSummary {
    /// [`common::event::ContractError::code`], or `unrouted`.
    pub reason: String,
    /// How many there are.
    pub letters: u64,
    /// How long their bodies are together.
    pub bytes: u64,
    /// When the first was parked.
    pub oldest: Option<Timestamp>,
    /// When the last was parked.
    pub newest: Option<Timestamp>,
    /// The id of the last one.
    pub newest_id: String,
}

/// Counts the letters by reason.
///
/// # Errors
/// [`DeadLetterError`].
pub async fn summarize(letters: &dyn DeadLetters, queue: LetterQueue) -> Result<Summary, DeadLetterError> {
    let mut walk = Walk::begin(letters, queue).await?;
    let mut reasons = BTreeMap::new();
    while let Some((_, letter)) = walk.next().await? {
        add(&mut reasons, letter);
        walk.refresh().await?;
    }
    let (copies, is_complete) = (walk.copies, !walk.is_cut);
    walk.end().await?;
    let mut reasons: Vec<ReasonSummary> = reasons.into_values().collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.letters));
    Ok(Summary { letters: reasons.iter().map(|reason| reason.letters).sum(), copies, reasons, is_complete })
}

fn add(reasons: &mut BTreeMap<String, ReasonSummary>, letter: ParkedLetter) {
    let is_new = !reasons.contains_key(&letter.reason);
    let reason = if is_new && reasons.len() >= MOST_REASONS { OTHER_REASONS.to_owned() } else { letter.reason };
    let summary = reasons.entry(reason.clone()).or_insert_with(|| ReasonSummary {
        reason,
        letters: 0,
        bytes: 0,
        oldest: letter.parked_at,
        newest: None,
        newest_id: String::new(),
    });
    summary.letters += 1;
    summary.bytes += u64::try_from(letter.raw.len()).unwrap_or_default();
    summary.oldest = [summary.oldest, letter.parked_at].into_iter().flatten().min();
    summary.newest = summary.newest.max(letter.parked_at);
    summary.newest_id = letter.id;
}

/// The `limit` letters that pass and were parked first, oldest first, without their bodies; with each the length of its
/// body.
///
/// # Errors
/// [`DeadLetterError`].
pub async fn first(
    letters: &dyn DeadLetters,
    queue: LetterQueue,
    filter: &LetterFilter,
    limit: usize,
) -> Result<Vec<(ParkedLetter, usize)>, DeadLetterError> {
    let mut walk = Walk::begin(letters, queue).await?;
    // By age, and then as they came.
    let (mut oldest, mut number) = (BTreeMap::new(), 0_u64);
    while let Some((_, letter)) = walk.next().await? {
        if filter.lets_through(&letter) {
            let bytes = letter.raw.len();
            oldest.insert((letter.parked_at, number), (ParkedLetter { raw: Vec::new(), ..letter }, bytes));
            number += 1;
        }
        if oldest.len() > limit {
            oldest.pop_last();
        }
        walk.refresh().await?;
    }
    walk.end().await?;
    Ok(oldest.into_values().collect())
}

/// The letter with this id.
///
/// # Errors
/// [`DeadLetterError`].
pub async fn find(
    letters: &dyn DeadLetters,
    queue: LetterQueue,
    id: &str,
) -> Result<Option<ParkedLetter>, DeadLetterError> {
    let mut walk = Walk::begin(letters, queue).await?;
    let mut found = None;
    while found.is_none()
        && let Some((_, letter)) = walk.next().await?
    {
        found = Some(letter).filter(|letter| letter.id == id);
        walk.refresh().await?;
    }
    walk.end().await?;
    Ok(found)
}
