//! What a projector is doing, for a status page, for metrics, and for a readiness probe.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::backend::BackendError;
use common::log::LogMessage;
use common::retry::Setback;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::ProjectorReport;
use super::batch::Done;
use crate::gap::LogGap;
use crate::resume::LostEnd;

/// What a projector is doing and has done since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectorStatus {
    /// Each partition it follows, or has followed.
    pub partitions: BTreeMap<u32, PartitionStatus>,
    /// Why the partitions are not known, while they are not.
    pub trouble: Option<String>,
    /// How it shares the partitions with others, where it does and has tried to look at the leases.
    pub sharing: Option<Sharing>,
}

/// How the partitions are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sharing {
    /// The partitions that are this projector's. None where others have them all: then it is a standby.
    pub mine: BTreeSet<u32>,
    /// How many projectors there are, this one included; 0 while it never could ask.
    pub members: usize,
    /// Why the leases cannot be asked, while they cannot. It goes on with what it has.
    pub trouble: Option<String>,
}

impl Sharing {
    pub(super) fn looked(&mut self, members: Result<usize, BackendError>) {
        let trouble = members.as_ref().err().map(|error| Setback::from(error).why);
        if self.trouble.is_none()
            && let Some(why) = &trouble
        {
            tracing::warn!(%why, "the leases of partitions cannot be asked; going on with what there is");
        }
        self.trouble = trouble;
        self.members = members.unwrap_or(self.members);
    }
}

impl ProjectorStatus {
    /// Whether all partitions are followed that are its own.
    pub fn is_ready(&self) -> bool {
        self.trouble.is_none()
            && (self.sharing.is_some() || !self.partitions.is_empty())
            && self.followed().all(|(_, partition)| partition.state == PartitionState::Following)
    }

    /// Whether it waits for a partition, and others have them all.
    pub fn is_standby(&self) -> bool {
        self.sharing.as_ref().is_some_and(|sharing| sharing.mine.is_empty())
    }

    /// The partitions it has not ceded.
    pub fn followed(&self) -> impl Iterator<Item = (u32, &PartitionStatus)> {
        let partitions = self.partitions.iter().map(|(number, partition)| (*number, partition));
        partitions.filter(|(_, partition)| partition.state != PartitionState::Ceded)
    }

    pub(super) fn report(&self, is_complete: bool) -> ProjectorReport {
        let mut refused = BTreeMap::new();
        for (code, count) in self.partitions.values().flat_map(|partition| &partition.refused) {
            *refused.entry(*code).or_default() += count;
        }
        let next_offsets = self.partitions.iter().map(|(number, partition)| (*number, partition.next_offset));
        let events_applied = self.partitions.values().map(|partition| partition.events_applied).sum();
        ProjectorReport { events_applied, refused, next_offsets: next_offsets.collect(), is_complete }
    }
}

/// What a projector is doing with one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionStatus {
    /// What it is doing.
    pub state: PartitionState,
    /// The offset after the last message that is applied; the stored checkpoint.
    pub next_offset: u64,
    /// Events applied, those that were read again included.
    pub events_applied: u64,
    /// Batches applied.
    pub batches: u64,
    /// Events and messages parked in the dead letters, by [`common::event::ContractError::code`].
    pub refused: BTreeMap<&'static str, u64>,
    /// The time of the newest event that is applied.
    pub newest_event: Option<Timestamp>,
    /// Whether the log had nothing more when it was last asked.
    pub is_caught_up: bool,
    /// How long it is until the log's retention reaches what is not applied, if nothing more is applied. Nothing where
    /// the log was never cut.
    pub headroom: Option<SignedDuration>,
    /// What is missing, once it has ended for that.
    pub gap: Option<LogGap>,
    /// How often the log was found to have lost its end, and was read again from further back.
    pub lost_ends: u64,
    /// Bytes of message bodies that are read and not yet applied.
    pub held_bytes: usize,
    /// What failed last, at any time.
    pub last_error: Option<String>,
}

impl PartitionStatus {
    /// How far the index is behind at `now`: the age of the newest event that is applied, 0 where the log has no more.
    pub fn lag(&self, now: Timestamp) -> SignedDuration {
        match self.newest_event {
            Some(newest) if !self.is_caught_up => now.duration_since(newest).max(SignedDuration::ZERO),
            _ => SignedDuration::ZERO,
        }
    }
}

/// What a projector is doing with one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PartitionState {
    /// It is about to read.
    #[default]
    Opening,
    /// It reads and applies.
    Following,
    /// It keeps its place and tries again.
    Paused {
        /// What has to come back.
        why: String,
    },
    /// It has ended here, and goes on with another projector.
    Ceded,
    /// It has ended.
    Stopped {
        /// What somebody has to decide; nothing where it was told to end.
        why: Option<String>,
    },
}

/// Where one partition's status is noted.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    pub(super) partition: u32,
    pub(super) status: watch::Sender<ProjectorStatus>,
}

impl Noted {
    fn modify(&self, change: impl FnOnce(&mut PartitionStatus)) {
        self.status.send_modify(|status| change(status.partitions.entry(self.partition).or_default()));
    }

    pub(super) fn starting(&self) {
        self.modify(|status| status.state = PartitionState::Opening);
    }

    pub(super) fn ceded(&self) {
        self.modify(|status| status.state = PartitionState::Ceded);
    }

    pub(super) fn opening(&self) {
        self.modify(|status| {
            status.is_caught_up = false;
            status.held_bytes = 0;
        });
    }

    pub(super) fn following_from(&self, next_offset: u64) {
        // A generation that becomes live may stand before the one that was.
        self.modify(|status| status.next_offset = next_offset);
        self.following();
    }

    pub(super) fn lost_end(&self, lost: LostEnd) {
        tracing::warn!(partition = self.partition, %lost, "the log has lost messages that were read");
        self.modify(|status| {
            status.lost_ends += 1;
            status.last_error = Some(lost.to_string());
        });
    }

    pub(super) fn following(&self) {
        self.modify(|status| {
            if let PartitionState::Paused { .. } = status.state {
                tracing::info!(partition = self.partition, "following again");
            }
            status.state = PartitionState::Following;
        });
    }

    pub(super) fn paused(&self, setback: &Setback) {
        let why = setback.why.clone();
        self.modify(|status| {
            let paused = PartitionState::Paused { why: why.clone() };
            if status.state != paused {
                tracing::warn!(partition = self.partition, %why, "paused; it keeps its place and tries again");
            }
            status.state = paused;
            status.last_error = Some(why);
        });
    }

    pub(super) fn stopped(&self, why: Option<String>) {
        self.modify(|status| {
            status.last_error = why.clone().or(status.last_error.take());
            status.state = PartitionState::Stopped { why };
        });
    }

    pub(super) fn stopped_at(&self, gap: &LogGap) {
        self.stopped(Some(gap.to_string()));
        self.modify(|status| status.gap = Some(gap.clone()));
    }

    pub(super) fn headroom(&self, headroom: Option<SignedDuration>, warning: Duration) {
        self.modify(|status| {
            let is_short = headroom.is_some_and(|headroom| headroom.unsigned_abs() < warning);
            if is_short && !status.is_caught_up {
                let seconds = headroom.unwrap_or_default().as_secs();
                tracing::warn!(
                    partition = self.partition,
                    seconds,
                    "the log's retention comes near what is not applied"
                );
            }
            status.headroom = headroom;
        });
    }

    pub(super) fn read(&self, messages: &[LogMessage]) {
        let bytes: usize = messages.iter().map(LogMessage::body_bytes).sum();
        self.modify(|status| {
            status.held_bytes += bytes;
            status.is_caught_up = messages.is_empty();
        });
    }

    pub(super) fn done(&self, done: &Done) {
        self.modify(|status| {
            status.next_offset = status.next_offset.max(done.next_offset);
            status.events_applied += done.events;
            status.batches += 1;
            status.held_bytes = status.held_bytes.saturating_sub(done.bytes);
            status.newest_event = status.newest_event.max(done.newest_event);
            for (code, count) in &done.refused {
                *status.refused.entry(code).or_default() += count;
            }
        });
    }
}
