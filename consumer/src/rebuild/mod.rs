//! The rebuild: makes a new generation of the index from the log beside the live one, and puts it in its place.
//!
//! ```text
//! begin ─▶ fold the log, in chunks ─▶ follow the log (─▶ seed) ─▶ compare ─▶ swap ─▶ follow a little longer ─▶ delete
//! ```
//!
//! - The new generation is built from the log alone, so it gets live events as the live one does: by reading on.
//! - Its checkpoints are stored with what they stand for, so a rebuild that is killed anywhere is gone on with.
//! - The builder gives signs of life. A second one refuses while they come and takes over when they have ended. Even
//!   two at a time would do no harm: both apply the same log to the same generation.

mod compare;
mod fold_in;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::backend::BackendError;
use common::index::{Building, DuePolicy, Generations, IndexGenerations, IndexUpkeep};
use common::log::{ActivityLog, DeadLetter, DeadLetterError, LogError, ParkLetters};
use common::retry::RetryDelays;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::compare::Comparison;
use crate::gap::{GapError, LogGap};
use crate::insist::insist;
use crate::progress::{Meter, Reporter};
use crate::projector::{Projector, ProjectorError, ProjectorSettings};
use crate::seed::Seeding;
use crate::span::ends;

/// How often it looks whether it has caught up.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it looks, while it has not, whether the log still goes so far.
const LOOK_FOR_THE_END_EVERY: Duration = Duration::from_secs(1);
/// How often it looks for a moment to swap in.
const MOST_LOOKS: usize = 100;

/// The first may have been on its way to the index when its builder died.
const SURE_SIGNS_OF_LIFE: u32 = 2;

/// How a rebuild works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildSettings {
    /// How many accounts are held in memory at once, about; each takes up to a kilobyte.
    pub accounts_at_once: usize,
    /// How many accounts of each generation are compared before the swap.
    pub compare: u64,
    /// How often the builder gives a sign of life.
    pub heartbeat: Duration,
    /// When no sign of life came for so long, a builder is taken for dead.
    pub dead_after: Duration,
    /// How long the new generation is followed after the swap, until projectors have noticed.
    pub grace: Duration,
    /// How long it waits before it tries again.
    pub retry: RetryDelays,
    /// What makes accounts due in the new generation; one that is gone on with keeps its own.
    pub due_policy: DuePolicy,
}

impl Default for RebuildSettings {
    fn default() -> Self {
        Self {
            accounts_at_once: 250_000,
            compare: 10_000,
            heartbeat: Duration::from_secs(1),
            dead_after: Duration::from_secs(10),
            grace: Duration::from_secs(3),
            retry: RetryDelays::default(),
            due_policy: DuePolicy::default(),
        }
    }
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RebuildReport {
    /// The generation that is live now.
    pub generation: u32,
    /// The one that was, kept for a rollback.
    pub replaced: u32,
    /// Whether it went on with what another rebuild had begun.
    pub is_resumed: bool,
    /// Events folded from the log, before it was followed.
    pub events: u64,
    /// Seconds from the begin to the swap.
    pub seconds: f64,
    /// Events folded per second, writing included.
    pub events_per_second: f64,
    /// What was different before the swap.
    pub comparison: Comparison,
}

/// A rebuild did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Another one gives signs of life.
    #[error(
        "another rebuild is at work since {begun_at} ({builder}); wait for it, or end it with `consumer rebuild --cancel`"
    )]
    AlreadyRunning {
        /// Who.
        builder: String,
        /// Since when.
        begun_at: Timestamp,
    },
    /// It was cancelled, or another one took it for dead.
    #[error("the rebuild was cancelled or taken over by another one; see `consumer rebuild --status`")]
    Lost,
    /// It was told to stop.
    #[error(
        "the rebuild was interrupted; `consumer rebuild` goes on where it was, `consumer rebuild --cancel` drops it"
    )]
    Interrupted,
    /// There is nothing to cancel.
    #[error("no rebuild is under way")]
    NoneUnderWay,
    /// There is nothing to go back to.
    #[error("no generation is kept for a rollback")]
    NothingKept,
    /// The generation to go back to cannot catch up.
    #[error("the generation that is kept cannot catch up: {0}")]
    KeptHasGap(Box<LogGap>),
    /// The log was cut while it was read.
    #[error("the log was cut while it was read; begin again: {0}")]
    Gap(Box<LogGap>),
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
    /// See [`BackendError`].
    #[error(transparent)]
    Index(#[from] BackendError),
}

impl From<GapError> for RebuildError {
    fn from(error: GapError) -> Self {
        match error {
            GapError::Log(error) => Self::Log(error),
            GapError::Index(error) => Self::Index(error),
        }
    }
}

/// Makes generations of one index from one log.
#[derive(Debug)]
pub struct Rebuild {
    log: Arc<dyn ActivityLog>,
    generations: Arc<dyn IndexGenerations>,
    settings: RebuildSettings,
    seeding: Option<Seeding>,
    /// Who this is among the builders.
    builder: String,
}

/// What this builder works on.
struct Claimed {
    number: u32,
    is_resumed: bool,
}

impl Rebuild {
    /// A rebuild that does nothing yet.
    pub fn new(log: Arc<dyn ActivityLog>, generations: Arc<dyn IndexGenerations>, settings: RebuildSettings) -> Self {
        let builder = format!("process {} {}", std::process::id(), Uuid::now_v7());
        Self { log, generations, settings, seeding: None, builder }
    }

    /// Fills the new generation up from the token caches before it is compared and swapped: accounts whose events are
    /// older than the log stay known.
    #[must_use]
    pub fn with_seeding(self, seeding: Seeding) -> Self {
        Self { seeding: Some(seeding), ..self }
    }

    /// Builds a generation, or goes on with one whose builder died, and makes it the live one. The live one before is
    /// kept; the one kept before that is deleted.
    ///
    /// # Errors
    /// [`RebuildError`]; queries answer as before then.
    ///
    /// # Cancel safety
    /// When it is dropped, another one takes over once it is taken for dead; after `stop`, at once.
    pub async fn run(&self, report: Reporter<'_>, stop: CancellationToken) -> Result<RebuildReport, RebuildError> {
        let claimed = self.claim().await?;
        let built = tokio::select! {
            built = self.build(&claimed, report) => built,
            lost = self.give_signs_of_life(claimed.number) => Err(lost),
            () = stop.cancelled() => Err(RebuildError::Interrupted),
        };
        if let Err(RebuildError::Interrupted) = built {
            self.change(|from| self.is_mine(from).then(|| from.beaten(""))).await?;
        }
        self.delete_dropped().await?;
        built
    }

    /// Drops the generation that is being built. Whoever builds it ends.
    ///
    /// # Errors
    /// [`RebuildError::NoneUnderWay`], [`RebuildError::Index`].
    pub async fn cancel(&self) -> Result<(), RebuildError> {
        let changed = self.change(|from| from.building.is_some().then(|| from.cancelled())).await?;
        changed.ok_or(RebuildError::NoneUnderWay)?;
        self.delete_dropped().await
    }

    /// Makes the generation that is kept the live one, and keeps the one that was. Projectors bring it up to date.
    ///
    /// # Errors
    /// [`RebuildError::NothingKept`]; [`RebuildError::KeptHasGap`], where the log no longer has what it lacks.
    pub async fn roll_back(&self) -> Result<Generations, RebuildError> {
        let kept = self.generations.generations().await?.retired.ok_or(RebuildError::NothingKept)?;
        if let Some(gap) = self.gap_of(kept).await? {
            return Err(RebuildError::KeptHasGap(Box::new(gap)));
        }
        let changed = self.change(|from| (from.retired == Some(kept)).then(|| from.rolled_back())).await?;
        changed.ok_or(RebuildError::NothingKept)
    }

    /// Deletes the generation that is kept for a rollback.
    ///
    /// # Errors
    /// [`RebuildError::NothingKept`], [`RebuildError::Index`].
    pub async fn drop_kept(&self) -> Result<(), RebuildError> {
        let changed = self.change(|from| from.retired.is_some().then(|| from.without_retired())).await?;
        changed.ok_or(RebuildError::NothingKept)?;
        self.delete_dropped().await
    }

    async fn gap_of(&self, number: u32) -> Result<Option<LogGap>, RebuildError> {
        let generation = self.generations.generation(number);
        for partition in 0..self.log.partitions().await? {
            if let Some(gap) = LogGap::find(&*self.log, &*generation, partition).await? {
                return Ok(Some(gap));
            }
        }
        Ok(None)
    }

    /// Changes the generations as `how` says, which may see others' changes first, and may say no.
    async fn change(
        &self,
        how: impl Fn(&Generations) -> Option<Generations>,
    ) -> Result<Option<Generations>, BackendError> {
        loop {
            let from = self.generations.generations().await?;
            let Some(to) = how(&from) else { return Ok(None) };
            if self.generations.change(&from, &to).await? {
                return Ok(Some(to));
            }
        }
    }

    fn is_mine(&self, generations: &Generations) -> bool {
        generations.building.as_ref().is_some_and(|building| building.builder == self.builder)
    }

    async fn claim(&self) -> Result<Claimed, RebuildError> {
        let mut signs_of_life = 0;
        loop {
            let found = self.generations.generations().await?.building;
            let Some(building) = found else {
                if let Some(claimed) = self.begin(None).await? {
                    return Ok(claimed);
                }
                continue;
            };
            if !building.builder.is_empty() && self.is_alive(&building).await? {
                signs_of_life += 1;
                if signs_of_life < SURE_SIGNS_OF_LIFE {
                    continue;
                }
                return Err(RebuildError::AlreadyRunning { builder: building.builder, begun_at: building.begun_at });
            }
            let claimed = match self.gap_of(building.number).await? {
                None => self.take_over(&building).await?,
                Some(_) => self.begin(Some(&building)).await?,
            };
            if let Some(claimed) = claimed {
                return Ok(claimed);
            }
        }
    }

    /// Begins a generation where `instead_of` is what is being built; nothing if it is not.
    async fn begin(&self, instead_of: Option<&Building>) -> Result<Option<Claimed>, RebuildError> {
        let mut log = BTreeMap::new();
        for partition in 0..self.log.partitions().await? {
            log.insert(partition, self.log.bounds(partition).await?);
        }
        let begun = |from: &Generations| {
            let is_as_seen = from.building.as_ref() == instead_of;
            is_as_seen.then(|| from.begun(&self.builder, log.clone(), Timestamp::now()))
        };
        let number = self.change(begun).await?.map(|to| to.newest);
        if let Some(number) = number {
            self.generations.due_policy(number, &self.settings.due_policy).await?;
        }
        Ok(number.map(|number| Claimed { number, is_resumed: false }))
    }

    async fn take_over(&self, dead: &Building) -> Result<Option<Claimed>, RebuildError> {
        let taken = |from: &Generations| (from.building.as_ref() == Some(dead)).then(|| from.beaten(&self.builder));
        let is_taken = self.change(taken).await?.is_some();
        Ok(is_taken.then_some(Claimed { number: dead.number, is_resumed: true }))
    }

    async fn is_alive(&self, building: &Building) -> Result<bool, BackendError> {
        sleep(self.settings.dead_after).await;
        Ok(self.generations.generations().await?.building.as_ref() != Some(building))
    }

    /// Returns when this builder has lost its work.
    async fn give_signs_of_life(&self, number: u32) -> RebuildError {
        loop {
            sleep(self.settings.heartbeat).await;
            match self.change(|from| self.is_mine(from).then(|| from.beaten(&self.builder))).await {
                Ok(Some(_)) => {}
                Ok(None) if self.is_swapped(number).await => std::future::pending().await,
                Ok(None) => return RebuildError::Lost,
                Err(error) => tracing::warn!(%error, "no sign of life could be given; trying again"),
            }
        }
    }

    async fn is_swapped(&self, number: u32) -> bool {
        self.generations.generations().await.is_ok_and(|generations| generations.live == number)
    }

    async fn build(&self, claimed: &Claimed, report: Reporter<'_>) -> Result<RebuildReport, RebuildError> {
        let mut meter = Meter::new(report);
        let generation = self.generations.generation(claimed.number);
        self.fold(&*generation, &mut meter).await?;
        let folding = meter.elapsed().as_secs_f64();
        let follower = CancellationToken::new();
        let _ends_when_dropped = follower.clone().drop_guard();
        let following = Projector::new(
            Arc::clone(&self.log),
            Arc::new(ParkedBefore),
            Arc::clone(&generation) as _,
            ProjectorSettings { retry: self.settings.retry, ..ProjectorSettings::default() },
        )
        .run(follower);
        let (replaced, comparison, seconds) = tokio::select! {
            finished = self.finish(claimed.number, &*generation, &mut meter) => finished?,
            ended = following => return Err(ended_early(ended)),
        };
        let events_per_second = meter.events as f64 / folding.max(1e-3);
        Ok(RebuildReport {
            generation: claimed.number,
            replaced,
            is_resumed: claimed.is_resumed,
            events: meter.events,
            seconds,
            events_per_second,
            comparison,
        })
    }

    async fn fold(&self, generation: &dyn IndexUpkeep, meter: &mut Meter<'_>) -> Result<(), RebuildError> {
        let Self { log, settings, .. } = self;
        let ends = self.ends().await?;
        let mut total = 0;
        for &(partition, end) in &ends {
            let from = match insist(settings.retry, async || generation.checkpoint(partition).await).await? {
                Some(checkpoint) => checkpoint.next_offset,
                None => insist(settings.retry, async || log.bounds(partition).await).await?.first,
            };
            total += end.saturating_sub(from);
        }
        meter.begin("folding", Some(total));
        fold_in::fold_in(log, generation, &ends, settings.accounts_at_once, settings.retry, meter).await
    }

    /// Waits until the generation has caught up, compares, swaps, and stays a little longer.
    async fn finish(
        &self,
        number: u32,
        generation: &dyn IndexUpkeep,
        meter: &mut Meter<'_>,
    ) -> Result<(u32, Comparison, f64), RebuildError> {
        meter.begin("catching up", None);
        self.caught_up(generation).await?;
        if let Some(seeding) = &self.seeding {
            seeding.seed(generation, meter).await?;
        }
        meter.begin("comparing", None);
        let retry = self.settings.retry;
        let live = insist(retry, async || self.generations.generations().await).await?.live;
        let before = self.generations.generation(live);
        let compare = async || compare::compare(&*before, generation, self.settings.compare).await;
        let comparison = insist(retry, compare).await?;
        meter.begin("swapping", None);
        self.caught_up(generation).await?;
        self.not_behind(generation, &*before).await?;
        let swap = async || self.change(|from| self.is_mine(from).then(|| from.swapped())).await;
        // A swap that was answered by a lost connection may have happened.
        let swapped = match insist(retry, swap).await? {
            Some(swapped) => swapped,
            None => self.generations.generations().await?,
        };
        if swapped.live != number {
            return Err(RebuildError::Lost);
        }
        let replaced = swapped.retired.unwrap_or(live);
        tracing::info!(generation = number, replaced, "the new generation of the index is live");
        let seconds = meter.elapsed().as_secs_f64();
        sleep(self.settings.grace).await;
        Ok((replaced, comparison, seconds))
    }

    /// Returns when all that is in the log now is in the generation. A broker may lose the log's end meanwhile.
    async fn caught_up(&self, generation: &dyn IndexUpkeep) -> Result<(), RebuildError> {
        for (partition, mut end) in self.ends().await? {
            let mut asked = Instant::now();
            while end > 0 && !self.has_reached(generation, partition, end).await? {
                sleep(LOOK_EVERY).await;
                if asked.elapsed() >= LOOK_FOR_THE_END_EVERY {
                    let bounds = insist(self.settings.retry, async || self.log.bounds(partition).await).await?;
                    end = end.min(bounds.next);
                    asked = Instant::now();
                }
            }
        }
        Ok(())
    }

    /// Returns in a moment in which the generation is nowhere behind the live one, so that no checkpoint steps back at
    /// the swap; or, under traffic that leaves no such moment, a little later. Either is right.
    async fn not_behind(&self, generation: &dyn IndexUpkeep, live: &dyn IndexUpkeep) -> Result<(), RebuildError> {
        let retry = self.settings.retry;
        let offset = async |store: &dyn IndexUpkeep, partition| {
            let checkpoint = insist(retry, async || store.checkpoint(partition).await).await?;
            Ok::<_, BackendError>(checkpoint.map(|checkpoint| checkpoint.next_offset))
        };
        let partitions = insist(retry, async || self.log.partitions().await).await?;
        for _ in 0..MOST_LOOKS {
            let mut is_behind = false;
            for partition in 0..partitions {
                let reached = offset(live, partition).await?;
                is_behind |= offset(generation, partition).await? < reached;
            }
            if !is_behind {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Whether the generation has all of the partition before `end` that the log still has.
    async fn has_reached(&self, generation: &dyn IndexUpkeep, partition: u32, end: u64) -> Result<bool, RebuildError> {
        let retry = self.settings.retry;
        match insist(retry, async || generation.checkpoint(partition).await).await? {
            Some(checkpoint) if checkpoint.next_offset >= end => Ok(true),
            Some(_) => Ok(false),
            None => Ok(insist(retry, async || self.log.bounds(partition).await).await?.first >= end),
        }
    }

    async fn ends(&self) -> Result<Vec<(u32, u64)>, RebuildError> {
        Ok(insist(self.settings.retry, async || ends(&*self.log).await).await?)
    }

    async fn delete_dropped(&self) -> Result<(), RebuildError> {
        for number in self.generations.generations().await?.dropping {
            self.generations.delete(number).await?;
            self.change(|from| from.dropping.contains(&number).then(|| from.deleted(number))).await?;
        }
        Ok(())
    }
}

fn ended_early<T>(ended: Result<T, ProjectorError>) -> RebuildError {
    match ended {
        Err(ProjectorError::Gap(gap)) => RebuildError::Gap(gap),
        Ok(_) => RebuildError::Lost,
    }
}

/// The dead letters of a rebuild: what is refused was parked when the log was first applied.
#[derive(Debug)]
struct ParkedBefore;

#[async_trait]
impl ParkLetters for ParkedBefore {
    async fn park(&self, _: &[DeadLetter]) -> Result<(), DeadLetterError> {
        Ok(())
    }
}
