//! Takes an account out of the letters, and nobody else with it.

use common::event::{ActivityEvent, Refused};
use common::log::{ActivityLog, DeadLetter, DeadLetterError, DeadLetters, LetterQueue, ParkedLetter};
use serde::Serialize;

use super::walk::Walk;

/// What became of the letters that named an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Letters that are gone.
    pub letters: u64,
    /// Letters that hold events of others too, which could not be brought to safety; by id.
    pub left: Vec<String>,
}

/// Deletes the letters that have one of `names` in them. What else is in such a letter is brought into the log, or
/// parked by itself.
///
/// # Errors
/// [`DeadLetterError`]; some letters may be gone then.
pub async fn erase_letters(
    log: &dyn ActivityLog,
    letters: &dyn DeadLetters,
    queue: LetterQueue,
    names: &[String],
) -> Result<Erased, DeadLetterError> {
    let mut walk = Walk::begin(letters, queue).await?;
    let mut erased = Erased::default();
    while let Some((held, letter)) = walk.next().await? {
        if names_one_of(&letter.raw, names) {
            if save_others(log, letters, &letter, names).await? {
                walk.take_out(held).await?;
                erased.letters += 1;
            } else {
                erased.left.push(letter.id);
            }
        }
        walk.refresh().await?;
    }
    walk.end().await?;
    Ok(erased)
}

fn names_one_of(body: &[u8], names: &[String]) -> bool {
    names.iter().any(|name| body.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name.as_bytes())))
}

/// Brings to safety what a batch holds of others. Says whether all of it is.
async fn save_others(
    log: &dyn ActivityLog,
    letters: &dyn DeadLetters,
    letter: &ParkedLetter,
    names: &[String],
) -> Result<bool, DeadLetterError> {
    let (mut good, mut parked): (Vec<ActivityEvent>, Vec<DeadLetter>) = (Vec::new(), Vec::new());
    for event in letter.events() {
        match event {
            Ok(event) if !names_one_of(&common::event::encode(&event).body, names) => good.push(event),
            Err(refused) if !names_one_of(&refused.raw, names) => parked.push(part_of(letter, refused)),
            _ => {}
        }
    }
    if !good.is_empty() {
        let partitions = log.partitions().await?.max(1);
        if let Err(error) = log.append(letter.partition % partitions, &good).await {
            tracing::warn!(%error, letter = letter.id, "what a letter holds of others could not be appended");
            return Ok(false);
        }
    }
    letters.park(&parked).await?;
    Ok(true)
}

fn part_of(letter: &ParkedLetter, refused: Refused) -> DeadLetter {
    DeadLetter {
        partition: letter.partition,
        offset: letter.offset,
        content_type: letter.content_type.clone(),
        refused,
    }
}
