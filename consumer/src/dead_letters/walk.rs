//! A walk through all letters of a queue: in rounds that are short enough for a broker, each letter once.

use std::collections::HashMap;
use std::time::Duration;

use common::log::{DeadLetterError, DeadLetters, LetterQueue, LetterRound, LetterTicket, ParkedLetter};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// How long letters are held before they are put back and the walk goes on. RabbitMQ calls back what is held for 30
/// minutes.
const LONGEST_ROUND: Duration = Duration::from_mins(10);
/// The most letters of one walk, about 40 MB to remember.
const MOST: usize = 1_000_000;

type Fingerprint = [u8; 16];

/// Walks through the letters.
pub(super) struct Walk<'a> {
    letters: &'a dyn DeadLetters,
    queue: LetterQueue,
    round: Box<dyn LetterRound>,
    began: Instant,
    is_first_round: bool,
    met: HashMap<Fingerprint, Fate>,
    /// Of letters of this round that are kept so far.
    held_copies: HashMap<Fingerprint, Vec<LetterTicket>>,
    /// Letters that were met twice.
    pub(super) copies: u64,
    /// Whether there are more letters than one walk remembers.
    pub(super) is_cut: bool,
}

/// A letter of the present round.
#[derive(Clone, Copy)]
pub(super) struct Held {
    ticket: LetterTicket,
    fingerprint: Fingerprint,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    TakenOut,
}

impl<'a> Walk<'a> {
    pub(super) async fn begin(letters: &'a dyn DeadLetters, queue: LetterQueue) -> Result<Self, DeadLetterError> {
        let round = letters.open(queue).await?;
        Ok(Self {
            letters,
            queue,
            round,
            began: Instant::now(),
            is_first_round: true,
            met: HashMap::new(),
            held_copies: HashMap::new(),
            copies: 0,
            is_cut: false,
        })
    }

    /// The next letter that was not met yet; `None` after the last. A copy of one that was taken out is taken out.
    pub(super) async fn next(&mut self) -> Result<Option<(Held, ParkedLetter)>, DeadLetterError> {
        while let Some((ticket, letter)) = self.round.next().await? {
            let held = Held { ticket, fingerprint: fingerprint(&letter) };
            let Some(fate) = self.met.get(&held.fingerprint).copied() else {
                self.is_cut = self.met.len() >= MOST;
                if self.is_cut {
                    return Ok(None);
                }
                self.met.insert(held.fingerprint, Fate::Kept);
                return Ok(Some((held, letter)));
            };
            self.copies += u64::from(self.is_first_round);
            match fate {
                Fate::TakenOut => self.round.take_out(ticket).await?,
                Fate::Kept => self.held_copies.entry(held.fingerprint).or_default().push(ticket),
            }
        }
        Ok(None)
    }

    /// Takes a letter of the present round out, with its copies, also those that are still to come.
    pub(super) async fn take_out(&mut self, held: Held) -> Result<(), DeadLetterError> {
        self.round.take_out(held.ticket).await?;
        for copy in self.held_copies.remove(&held.fingerprint).unwrap_or_default() {
            self.round.take_out(copy).await?;
        }
        self.met.insert(held.fingerprint, Fate::TakenOut);
        Ok(())
    }

    /// Where the round has lasted long, puts back what is held and goes on in a new one. What was held before can be
    /// taken out no more.
    pub(super) async fn refresh(&mut self) -> Result<(), DeadLetterError> {
        if self.began.elapsed() < LONGEST_ROUND {
            return Ok(());
        }
        // The letters are put back before they are asked for again.
        self.round.close().await?;
        self.round = self.letters.open(self.queue).await?;
        self.held_copies.clear();
        self.began = Instant::now();
        self.is_first_round = false;
        Ok(())
    }

    pub(super) async fn end(&mut self) -> Result<(), DeadLetterError> {
        self.round.close().await
    }
}

fn fingerprint(letter: &ParkedLetter) -> Fingerprint {
    let digest = Sha256::new().chain_update(&letter.id).chain_update([0]).chain_update(&letter.raw).finalize();
    std::array::from_fn(|place| digest[place])
}
