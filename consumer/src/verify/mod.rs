//! The check that the index is the fold of the log, while both move; and the cure where it is not.
//!
//! The log is folded in memory, a share of the accounts at a time: accounts fall into as many shares as it takes by a
//! hash of their keys, and each share is one pass over the log and the index. That bounds the memory and needs no disk;
//! an index that fits in memory, as most do, takes one pass. A sample is one of the shares.

mod fold_of;
mod judge;
mod settle;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use common::account::{CacheKey, TenantId};
use common::backend::BackendError;
use common::index::{AccountActivity, Checkpoint, IndexGenerations, IndexUpkeep, Seed};
use common::log::{ActivityLog, Bounds, LogError};
use common::retry::RetryDelays;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use self::fold_of::FoldOf;
use self::settle::Settling;
use crate::gap::{LogGap, first_message};
use crate::insist::insist;
use crate::progress::{Meter, Reporter};
use crate::resume::{Resumed, resume};

/// How many accounts are read from the index together.
const PAGE: usize = 1_000;
/// How many accounts are looked at again together.
const SETTLED_AT_ONCE: usize = 5_000;
/// How many differences a report lists.
const MOST_LISTED: usize = 1_000;
/// By how much an event may come later to the log than its time says: what waited in an outbox.
const LATE: SignedDuration = SignedDuration::from_mins(10);

/// What is checked, and what is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifySettings {
    /// About how many accounts are checked; all without it.
    pub sample: Option<u64>,
    /// Only accounts of this tenant.
    pub tenant: Option<TenantId>,
    /// Whether what is wrong is put right.
    pub repair: bool,
    /// Whether what is older than the log counts as wrong.
    pub drop_older: bool,
    /// How many accounts are held in memory at once, about; each takes up to a kilobyte.
    pub accounts_at_once: usize,
    /// How long it waits before it tries again.
    pub retry: RetryDelays,
}

impl Default for VerifySettings {
    fn default() -> Self {
        Self {
            sample: None,
            tenant: None,
            repair: false,
            drop_older: false,
            accounts_at_once: 250_000,
            retry: RetryDelays::default(),
        }
    }
}

/// How an account differs from the fold of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The log names it and the index does not have it.
    Missing,
    /// The index has it and the log never named it.
    Extra,
    /// Fields differ.
    Different,
}

/// One account that is not as the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub cache_key: CacheKey,
    /// How.
    pub kind: Kind,
    /// The fields, by name.
    pub fields: Vec<String>,
    /// Whether it was put right.
    pub is_repaired: bool,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The generation that was checked.
    pub generation: u32,
    /// Accounts that were checked.
    pub checked: u64,
    /// Accounts the index lacks.
    pub missing: u64,
    /// Accounts that only the index has.
    pub extra: u64,
    /// Accounts with wrong fields.
    pub different: u64,
    /// How often each field was wrong.
    pub fields: BTreeMap<String, u64>,
    /// Accounts that were put right.
    pub repaired: u64,
    /// Accounts with something that is older than the log, which is no difference.
    pub older_than_log: u64,
    /// Of them, those with something that was seeded.
    pub seeded: u64,
    /// Each account that differs, up to a thousand of them.
    #[serde(skip)]
    pub differences: Vec<Difference>,
}

impl VerifyReport {
    /// How many accounts differ, put right or not.
    pub fn found(&self) -> u64 {
        self.missing + self.extra + self.different
    }

    fn note(&mut self, difference: Difference) {
        match difference.kind {
            Kind::Missing => self.missing += 1,
            Kind::Extra => self.extra += 1,
            Kind::Different => self.different += 1,
        }
        for field in &difference.fields {
            *self.fields.entry(field.clone()).or_default() += 1;
        }
        self.repaired += u64::from(difference.is_repaired);
        if self.differences.len() < MOST_LISTED {
            self.differences.push(difference);
        }
    }
}

/// The check did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The index cannot be the fold of a log that lacks part of what it stands on.
    #[error("{0}")]
    Gap(Box<LogGap>),
    /// A rebuild or a rollback came between.
    #[error("another generation of the index became live meanwhile; check again")]
    Swapped,
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
    /// See [`BackendError`].
    #[error(transparent)]
    Index(#[from] BackendError),
}

/// Checks the live generation of an index against a log.
#[derive(Debug)]
pub struct Verify {
    log: Arc<dyn ActivityLog>,
    generations: Arc<dyn IndexGenerations>,
    settings: VerifySettings,
}

/// What stays the same during a check.
struct Ground {
    number: u32,
    store: Arc<dyn IndexUpkeep>,
    /// The checkpoints of the index when the check began; further back where the log has lost its end since.
    checkpoints: Vec<(u32, Checkpoint)>,
    horizon: i64,
}

impl Ground {
    fn ends(&self) -> Vec<(u32, u64)> {
        self.checkpoints.iter().map(|(partition, checkpoint)| (*partition, checkpoint.next_offset)).collect()
    }

    fn messages(&self) -> u64 {
        self.checkpoints.iter().map(|(_, checkpoint)| checkpoint.next_offset).sum()
    }
}

/// Which accounts a pass is about.
#[derive(Clone, Copy)]
struct Share {
    number: u64,
    of: u64,
}

impl Share {
    fn has(self, key: &CacheKey) -> bool {
        let mut hasher = DefaultHasher::new();
        key.as_str().hash(&mut hasher);
        hasher.finish() % self.of == self.number
    }
}

/// The accounts of a share are more than were thought.
struct TooMany;

impl Verify {
    /// A check that does nothing yet.
    pub fn new(log: Arc<dyn ActivityLog>, generations: Arc<dyn IndexGenerations>, settings: VerifySettings) -> Self {
        Self { log, generations, settings }
    }

    /// Checks, and repairs where that is set.
    ///
    /// # Errors
    /// [`VerifyError`].
    ///
    /// # Cancel safety
    /// Cancel safe; what was repaired is repaired.
    pub async fn run(&self, report: Reporter<'_>) -> Result<VerifyReport, VerifyError> {
        let ground = self.ground().await?;
        let mut meter = Meter::new(report);
        let mut shares = self.shares(&*ground.store).await?;
        loop {
            if let Ok(found) = self.passes(&ground, shares, &mut meter).await? {
                return self.still_live(&ground, found).await;
            }
            shares *= 2;
        }
    }

    /// Makes one account what the log says, what is older than the log aside, and says what was wrong with it.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub async fn rebuild_account(
        &self,
        key: &CacheKey,
        report: Reporter<'_>,
    ) -> Result<Option<Difference>, VerifyError> {
        let ground = self.ground().await?;
        let mut meter = Meter::new(report);
        meter.begin("folding", Some(ground.messages()));
        let mut fold = FoldOf::new(&*self.log, self.settings.retry);
        fold.read_to(&ground.ends(), &mut meter, |subject| subject == key).await?;
        let lower = fold.fold.by_key();
        let mut found = VerifyReport::default();
        let settings = VerifySettings { repair: true, tenant: None, ..self.settings.clone() };
        self.settling(&ground, &settings, &lower).run(vec![key.clone()], &mut found).await?;
        Ok(self.still_live(&ground, found).await?.differences.into_iter().next())
    }

    async fn ground(&self) -> Result<Ground, VerifyError> {
        let number = self.generations.generations().await?.live;
        let store = self.generations.generation(number);
        let (mut checkpoints, mut horizon) = (Vec::new(), Seed::NEWEST_MICROS);
        for partition in 0..self.log.partitions().await? {
            if let Some(checkpoint) = store.checkpoint(partition).await? {
                checkpoints.push((partition, self.stand(&*store, partition, checkpoint).await?));
            }
            if !self.settings.drop_older {
                horizon = horizon.max(self.cut_until(partition).await?);
            }
        }
        Ok(Ground { number, store, checkpoints, horizon })
    }

    /// What of the log the index has to have: what is before its checkpoint, unless the log has lost its end since.
    async fn stand(
        &self,
        store: &dyn IndexUpkeep,
        partition: u32,
        checkpoint: Checkpoint,
    ) -> Result<Checkpoint, VerifyError> {
        match resume(&*self.log, partition, checkpoint).await {
            Ok(Resumed { lost: None, .. }) => Ok(checkpoint),
            Ok(Resumed { next_offset, .. }) => {
                Ok(Checkpoint { newest_event: checkpoint.newest_event, ..Checkpoint::at(next_offset) })
            }
            Err(LogError::Gap { asked, first, next, .. }) => {
                let gap = LogGap::look(&*self.log, store, partition, asked, Bounds { first, next }).await;
                Err(VerifyError::Gap(Box::new(gap)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Up to when events may have been cut off the partition.
    async fn cut_until(&self, partition: u32) -> Result<i64, LogError> {
        let first = first_message(&*self.log, partition).await?;
        let next = match &first {
            Some(_) => 0,
            None => self.log.bounds(partition).await?.next,
        };
        // An empty partition that once had messages was cut until now.
        let until = match first {
            Some(first) if first.offset > 0 => {
                first.events.iter().flatten().map(|event| event.time).max().unwrap_or(Timestamp::MAX)
            }
            None if next > 0 => Timestamp::now(),
            _ => return Ok(i64::MIN),
        };
        Ok(until.checked_add(LATE).unwrap_or(until).as_microsecond())
    }

    async fn shares(&self, store: &dyn IndexUpkeep) -> Result<u64, BackendError> {
        let states = store.counts(None).await?.by_state;
        let accounts = states.ready + states.backing_off + states.parked + states.removed;
        let for_memory = accounts.div_ceil(self.settings.accounts_at_once.max(1) as u64);
        let for_sample = self.settings.sample.map_or(1, |sample| accounts / sample.max(1));
        Ok(for_memory.max(for_sample).max(1))
    }

    async fn passes(
        &self,
        ground: &Ground,
        of: u64,
        meter: &mut Meter<'_>,
    ) -> Result<Result<VerifyReport, TooMany>, VerifyError> {
        let mut found = VerifyReport { generation: ground.number, ..VerifyReport::default() };
        let chosen = (Uuid::now_v7().as_u128() % u128::from(of)) as u64;
        for number in 0..of {
            if self.settings.sample.is_some() && number != chosen {
                continue;
            }
            let Ok(lower) = self.fold_share(ground, Share { number, of }, meter).await? else {
                return Ok(Err(TooMany));
            };
            self.compare(ground, Share { number, of }, lower, &mut found, meter).await?;
        }
        Ok(Ok(found))
    }

    async fn fold_share(
        &self,
        ground: &Ground,
        share: Share,
        meter: &mut Meter<'_>,
    ) -> Result<Result<HashMap<CacheKey, AccountActivity>, TooMany>, VerifyError> {
        meter.begin("folding", Some(ground.messages()));
        let mut fold = FoldOf::new(&*self.log, self.settings.retry);
        fold.most_accounts = 2 * self.settings.accounts_at_once;
        let is_whole = fold.read_to(&ground.ends(), meter, |key| share.has(key)).await?;
        Ok(if is_whole { Ok(fold.fold.by_key()) } else { Err(TooMany) })
    }

    async fn compare(
        &self,
        ground: &Ground,
        share: Share,
        lower: HashMap<CacheKey, AccountActivity>,
        found: &mut VerifyReport,
        meter: &mut Meter<'_>,
    ) -> Result<(), VerifyError> {
        meter.begin("comparing", Some(lower.len() as u64));
        let mut settling = self.settling(ground, &self.settings, &lower);
        let mut unseen: std::collections::HashSet<&CacheKey> = lower.keys().collect();
        let mut suspects = Vec::new();
        let mut cursor = None;
        loop {
            let scan = async || ground.store.scan(cursor.as_ref(), PAGE).await;
            let page = insist(self.settings.retry, scan).await?;
            for account in page.accounts.iter().filter(|account| share.has(&account.cache_key)) {
                let said = lower.get(&account.cache_key);
                let is_first_sight = unseen.remove(&account.cache_key) || said.is_none();
                if is_first_sight && said != Some(account) {
                    suspects.push(account.cache_key.clone());
                } else if is_first_sight && self.is_asked_for(account) {
                    found.checked += 1;
                }
                meter.add(u64::from(is_first_sight), 0);
            }
            if suspects.len() >= SETTLED_AT_ONCE {
                settling.run(std::mem::take(&mut suspects), found).await?;
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        suspects.extend(unseen.into_iter().cloned());
        suspects.sort_unstable();
        suspects.dedup();
        for suspects in suspects.chunks(SETTLED_AT_ONCE) {
            settling.run(suspects.to_vec(), found).await?;
        }
        Ok(())
    }

    fn is_asked_for(&self, account: &AccountActivity) -> bool {
        self.settings.tenant.is_none() || account.tenant_id() == self.settings.tenant.as_ref()
    }

    fn settling<'a>(
        &'a self,
        ground: &'a Ground,
        settings: &VerifySettings,
        lower: &'a HashMap<CacheKey, AccountActivity>,
    ) -> Settling<'a> {
        Settling { log: &*self.log, ground, settings: settings.clone(), lower }
    }

    async fn still_live(&self, ground: &Ground, found: VerifyReport) -> Result<VerifyReport, VerifyError> {
        match self.generations.generations().await?.live {
            live if live == ground.number => Ok(found),
            _ => Err(VerifyError::Swapped),
        }
    }
}
