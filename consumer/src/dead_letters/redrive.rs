//! Redrive: reads each letter again by the rules of today, and brings what is now good back into the log.
//!
//! The events go into the log and not straight into the index, because the index is the fold of the log: a rebuild has
//! to find them. They keep their ids and times, so an event that is there twice is there once.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use common::event::{ActivityEvent, ContractError};
use common::log::{ActivityLog, AppendError, DeadLetterError, DeadLetters, LetterQueue, LogError, ParkedLetter};
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::LetterFilter;
use super::walk::{Held, Walk};

/// Letters whose events are appended together.
const GROUP: usize = 100;
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// Letters whose fate a report tells one by one.
const TOLD: usize = 10_000;

/// Which letters are redriven, and how.
#[derive(Debug, Clone)]
pub struct RedriveSettings {
    /// Of which queue.
    pub queue: LetterQueue,
    /// Which of them.
    pub filter: LetterFilter,
    /// How many letters are read again at most.
    pub limit: Option<u64>,
    /// How many letters per second at most.
    pub rate: Option<NonZeroU32>,
    /// Whether it is only told what would become of them.
    pub is_rehearsal: bool,
}

/// What became of the letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RedriveReport {
    /// Letters whose events are all in the log now, and that are taken out.
    pub redriven: u64,
    /// The events that were appended.
    pub events: u64,
    /// Letters that stay because something in them is still refused, by today's reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Letters that were not meant, or are beyond the limit.
    pub left: u64,
    /// What became of each letter that was meant, for the first 10,000.
    pub letters: Vec<LetterFate>,
    /// Whether it ended at the limit, with more letters behind.
    pub is_limited: bool,
}

/// What became of one letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LetterFate {
    /// Its id.
    pub id: String,
    /// Its events that went into the log.
    pub events: usize,
    /// Why it stays, where it does.
    pub refused: Option<String>,
}

/// A redrive broke off. What was not redriven is where it was.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// See [`DeadLetterError`].
    #[error("the redrive broke off after {redriven} letters")]
    Letters {
        /// How many were redriven by then.
        redriven: u64,
        /// What happened.
        #[source]
        source: DeadLetterError,
    },
    /// See [`AppendError`].
    #[error("the redrive broke off after {redriven} letters")]
    Append {
        /// How many were redriven by then.
        redriven: u64,
        /// What happened.
        #[source]
        source: AppendError,
    },
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Redrives letters. A letter is taken out after the log has confirmed all that is in it.
///
/// A batch of which a part is still refused stays; what is good of it is in the log all the same.
///
/// # Errors
/// [`RedriveError`].
pub async fn redrive(
    log: &dyn ActivityLog,
    letters: &dyn DeadLetters,
    settings: &RedriveSettings,
) -> Result<RedriveReport, RedriveError> {
    let partitions = log.partitions().await?.max(1);
    let walk = Walk::begin(letters, settings.queue).await.map_err(|e| broke_off(0, e))?;
    let mut redrive = Redrive {
        log,
        walk,
        settings,
        partitions,
        pending: Vec::new(),
        pending_bytes: 0,
        began: Instant::now(),
        meant: 0,
        report: RedriveReport::default(),
    };
    let done = redrive.run().await;
    // Also what breaks off puts the letters back by itself, rather than leave that to the end of its connection.
    let ended = redrive.walk.end().await;
    done?;
    ended.map_err(|e| broke_off(redrive.report.redriven, e))?;
    Ok(redrive.report)
}

struct Redrive<'a> {
    log: &'a dyn ActivityLog,
    walk: Walk<'a>,
    settings: &'a RedriveSettings,
    partitions: u32,
    pending: Vec<Pending>,
    pending_bytes: usize,
    began: Instant,
    meant: u64,
    report: RedriveReport,
}

/// A letter whose events are to be appended.
struct Pending {
    held: Held,
    partition: u32,
    events: Vec<ActivityEvent>,
    is_whole: bool,
}

impl Redrive<'_> {
    async fn run(&mut self) -> Result<(), RedriveError> {
        while self.step().await? {}
        self.flush().await
    }

    /// Says whether there may be more.
    async fn step(&mut self) -> Result<bool, RedriveError> {
        if self.is_group_full() {
            self.flush().await?;
        }
        let next = self.walk.next().await.map_err(|e| self.broke_off(e))?;
        let Some((held, letter)) = next else { return Ok(false) };
        let is_meant = self.settings.filter.lets_through(&letter);
        let is_beyond = is_meant && self.settings.limit.is_some_and(|limit| self.meant >= limit);
        self.report.is_limited |= is_beyond;
        if !is_meant || is_beyond {
            // The walk goes on to its end all the same: copies of what is redriven may be behind.
            self.report.left += 1;
            return Ok(true);
        }
        self.meant += 1;
        self.read_again(held, letter);
        Ok(true)
    }

    fn read_again(&mut self, held: Held, letter: ParkedLetter) {
        let (events, refused) = by_the_rules_of_today(&letter, Timestamp::now());
        if let Some(error) = &refused {
            *self.report.refused.entry(error.code()).or_default() += 1;
        }
        if self.report.letters.len() < TOLD {
            let refused = refused.as_ref().map(|error| format!("{}: {error}", error.code()));
            self.report.letters.push(LetterFate { id: letter.id, events: events.len(), refused });
        }
        if !events.is_empty() || refused.is_none() {
            self.pending_bytes += letter.raw.len();
            let partition = letter.partition % self.partitions;
            self.pending.push(Pending { held, partition, events, is_whole: refused.is_none() });
        }
    }

    fn is_group_full(&self) -> bool {
        let most = self.settings.rate.map_or(GROUP, |rate| GROUP.min(usize::try_from(rate.get()).unwrap_or(GROUP)));
        self.pending.len() >= most || self.pending_bytes >= GROUP_BYTES
    }

    /// Appends what is pending, then takes the letters out.
    async fn flush(&mut self) -> Result<(), RedriveError> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if !self.settings.is_rehearsal {
            self.append(&pending).await?;
        }
        for letter in &pending {
            self.report.events += u64::try_from(letter.events.len()).unwrap_or_default();
            if !letter.is_whole {
                continue;
            }
            if !self.settings.is_rehearsal {
                self.walk.take_out(letter.held).await.map_err(|e| self.broke_off(e))?;
            }
            self.report.redriven += 1;
        }
        self.walk.refresh().await.map_err(|e| self.broke_off(e))?;
        self.keep_to_the_rate().await;
        Ok(())
    }

    async fn append(&self, pending: &[Pending]) -> Result<(), RedriveError> {
        let mut by_partition: BTreeMap<u32, Vec<ActivityEvent>> = BTreeMap::new();
        for letter in pending {
            by_partition.entry(letter.partition).or_default().extend(letter.events.iter().cloned());
        }
        for (partition, events) in by_partition {
            let redriven = self.report.redriven;
            let appended = self.log.append(partition, &events).await;
            appended.map_err(|source| RedriveError::Append { redriven, source })?;
        }
        Ok(())
    }

    async fn keep_to_the_rate(&self) {
        if let Some(rate) = self.settings.rate {
            let due = Duration::from_secs_f64(self.meant as f64 / f64::from(rate.get()));
            sleep_until(self.began + due).await;
        }
    }

    fn broke_off(&self, source: DeadLetterError) -> RedriveError {
        broke_off(self.report.redriven, source)
    }
}

fn broke_off(redriven: u64, source: DeadLetterError) -> RedriveError {
    RedriveError::Letters { redriven, source }
}

/// What is good in the letter, and the first reason why something is not.
fn by_the_rules_of_today(letter: &ParkedLetter, now: Timestamp) -> (Vec<ActivityEvent>, Option<ContractError>) {
    let (mut good, mut refused) = (Vec::new(), None);
    for event in letter.events() {
        let checked = event.map_err(|refused| refused.error).and_then(|event| event.check_time(now).map(|()| event));
        match checked {
            Ok(event) => good.push(event),
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    (good, refused)
}
