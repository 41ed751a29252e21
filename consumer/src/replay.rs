//! The replay: applies part of the log to the live index again, beside whoever follows it.
//!
//! Applying is idempotent, so it changes nothing that is right, and moves no checkpoint.

use std::sync::Arc;

use common::account::{CacheKey, TenantId};
use common::backend::BackendError;
use common::event::ActivityEvent;
use common::index::{AccountActivity, ActivityStore, fold};
use common::log::{ActivityLog, Bounds, LogError, Position};
use common::retry::RetryDelays;
use jiff::Timestamp;
use serde::Serialize;

use crate::insist::insist;
use crate::progress::{Meter, Reporter};
use crate::span::Span;

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the first message of each partition.
    First,
    /// At this offset, or the first one after it that the log still has.
    Offset(u64),
    /// At the first message that arrived at this time or later.
    Time(Timestamp),
}

/// Where a replay ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// With the last message there is when it begins.
    End,
    /// Before this offset.
    Offset(u64),
    /// With the last event of this time; later ones are passed over.
    Time(Timestamp),
}

/// What is applied again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySettings {
    /// Where it begins.
    pub from: From,
    /// Where it ends.
    pub until: Until,
    /// Only this partition.
    pub partition: Option<u32>,
    /// Only events that name this tenant.
    pub tenant: Option<TenantId>,
    /// Only events about this account.
    pub account: Option<CacheKey>,
    /// How long it waits before it tries again.
    pub retry: RetryDelays,
}

impl Default for ReplaySettings {
    fn default() -> Self {
        let retry = RetryDelays::default();
        Self { from: From::First, until: Until::End, partition: None, tenant: None, account: None, retry }
    }
}

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Messages read.
    pub messages: u64,
    /// Events applied again.
    pub applied: u64,
    /// Events that were not asked for.
    pub passed_over: u64,
    /// Events that cannot be applied. They were parked when they were first read.
    pub refused: u64,
}

/// A replay did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
    /// See [`BackendError`].
    #[error(transparent)]
    Index(#[from] BackendError),
}

/// Applies part of a log to an index again.
#[derive(Debug)]
pub struct Replay {
    log: Arc<dyn ActivityLog>,
    store: Arc<dyn ActivityStore>,
    settings: ReplaySettings,
}

/// A stretch of one partition.
struct Stretch {
    partition: u32,
    position: Position,
    until: u64,
    messages: u64,
}

impl Replay {
    /// A replay that does nothing yet.
    pub fn new(log: Arc<dyn ActivityLog>, store: Arc<dyn ActivityStore>, settings: ReplaySettings) -> Self {
        Self { log, store, settings }
    }

    /// Replays.
    ///
    /// # Errors
    /// [`ReplayError`]; part of it may be applied then, and all again is right.
    ///
    /// # Cancel safety
    /// Cancel safe in the same sense.
    pub async fn run(&self, report: Reporter<'_>) -> Result<ReplayReport, ReplayError> {
        let mut meter = Meter::new(report);
        let mut done = ReplayReport::default();
        let stretches = self.stretches().await?;
        meter.begin("replaying", Some(stretches.iter().map(|stretch| stretch.messages).sum()));
        for Stretch { partition, position, until, .. } in stretches {
            let mut span = Span::new(&*self.log, partition, position, until, self.settings.retry);
            while let Some(messages) = span.next().await? {
                let events = || messages.iter().flat_map(|message| &message.events);
                let applied = self.apply(events().flatten(), &mut done).await?;
                done.refused += events().filter(|event| event.is_err()).count() as u64;
                done.messages += messages.len() as u64;
                meter.add(messages.len() as u64, applied);
            }
        }
        Ok(done)
    }

    async fn apply<'a>(
        &self,
        events: impl Iterator<Item = &'a ActivityEvent>,
        done: &mut ReplayReport,
    ) -> Result<u64, BackendError> {
        let now = Timestamp::now();
        let (good, refused): (Vec<_>, Vec<_>) = events.partition(|event| event.check_time(now).is_ok());
        let (asked, rest): (Vec<_>, Vec<_>) = good.into_iter().partition(|event| self.is_asked_for(event));
        let changes: Vec<AccountActivity> = fold(asked.iter().copied()).into_values().collect();
        insist(self.settings.retry, async || self.store.apply(&changes).await).await?;
        done.refused += refused.len() as u64;
        done.passed_over += rest.len() as u64;
        done.applied += asked.len() as u64;
        Ok(asked.len() as u64)
    }

    /// An event that names no tenant may be about one of this tenant's accounts: to leave a removal out would bring the
    /// account back, and to apply another account's again does no harm.
    fn is_asked_for(&self, event: &ActivityEvent) -> bool {
        let ReplaySettings { tenant, account, until, .. } = &self.settings;
        let is_in_time = !matches!(until, Until::Time(until) if event.time > *until);
        is_in_time
            && account.as_ref().is_none_or(|account| event.subject == *account)
            && tenant.as_ref().is_none_or(|tenant| event.activity.tenant_id().is_none_or(|own| own == tenant))
    }

    async fn stretches(&self) -> Result<Vec<Stretch>, LogError> {
        let mut stretches = Vec::new();
        for partition in 0..self.log.partitions().await? {
            if self.settings.partition.is_some_and(|asked| asked != partition) {
                continue;
            }
            let Bounds { first, next } = self.log.bounds(partition).await?;
            let until = match self.settings.until {
                Until::Offset(until) => until.min(next),
                Until::End | Until::Time(_) => next,
            };
            let (position, from) = match self.settings.from {
                From::First => (Position::Offset(first), first),
                From::Offset(from) => (Position::Offset(from.max(first)), from.max(first)),
                From::Time(time) => (Position::Time(time), first),
            };
            if from < until {
                stretches.push(Stretch { partition, position, until, messages: until - from });
            }
        }
        Ok(stretches)
    }
}
