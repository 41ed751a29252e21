//! What a relay is doing, for a status page and for metrics.

use common::retry::Setback;
use common::token_cache::Backlog;
use jiff::Timestamp;
use tokio::sync::watch;

/// What a relay is doing and has done since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// Whether the log takes events.
    pub log: Reachability,
    /// Whether the outbox answers.
    pub outbox: Reachability,
    /// Events the log has confirmed, those that were sent again included.
    pub events_published: u64,
    /// Appends the log has confirmed.
    pub batches: u64,
    /// Calls of the log or the outbox that failed.
    pub failures: u64,
    /// How often confirmed entries were sent again because the log may have lost them.
    pub rewinds: u64,
    /// Entries forgotten after the grace period.
    pub trimmed: u64,
    /// Appends the log has not answered yet.
    pub outstanding_batches: usize,
    /// Events in memory. Looked at once a second.
    pub held_events: usize,
    /// What waits in the outbox. Looked at once a second.
    pub backlog: Backlog,
    /// What failed last, at any time.
    pub last_error: Option<String>,
}

/// Whether a server does what it is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reachability {
    /// It has not been asked yet.
    #[default]
    Unknown,
    /// The last answer was good.
    Up,
    /// It is tried again and again.
    Down {
        /// Since when.
        since: Timestamp,
        /// What it last said.
        why: String,
    },
}

impl Reachability {
    /// Whether the last answer was good.
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }

    /// Whether the last call failed.
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Down { .. })
    }

    fn went_down(&mut self, setback: &Setback, server: &str) {
        let why = setback.why.clone();
        match self {
            Self::Down { why: known, .. } if *known == why => {}
            Self::Down { since, .. } => {
                tracing::warn!(server, %why, "still failing, otherwise");
                *self = Self::Down { since: *since, why };
            }
            Self::Unknown | Self::Up => {
                tracing::warn!(server, %why, "the relay keeps what it has and tries again");
                *self = Self::Down { since: Timestamp::now(), why };
            }
        }
    }

    fn came_up(&mut self, server: &str) {
        if let Self::Down { since, .. } = self {
            let seconds = Timestamp::now().duration_since(*since).as_secs();
            tracing::info!(server, after_seconds = seconds, "back");
        }
        *self = Self::Up;
    }
}

/// Which of its two servers a relay speaks of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Server {
    Log,
    Outbox,
}

impl RelayStatus {
    pub(super) fn report(&self, left: usize) -> RelayReport {
        let Self { events_published, batches, failures, .. } = *self;
        RelayReport { events_published, batches, failures, left }
    }

    fn place_of(&mut self, server: Server) -> (&mut Reachability, &'static str) {
        match server {
            Server::Log => (&mut self.log, "log"),
            Server::Outbox => (&mut self.outbox, "outbox"),
        }
    }
}

pub(super) fn note_failure(status: &watch::Sender<RelayStatus>, server: Server, setback: &Setback) {
    status.send_modify(|status| {
        status.failures += 1;
        status.last_error = Some(setback.why.clone());
        let (place, name) = status.place_of(server);
        place.went_down(setback, name);
    });
}

pub(super) fn note_success(status: &watch::Sender<RelayStatus>, server: Server) {
    status.send_if_modified(|status| {
        let (place, name) = status.place_of(server);
        let was_up = place.is_up();
        place.came_up(name);
        !was_up
    });
}

/// What a relay did in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayReport {
    /// Events the log has confirmed.
    pub events_published: u64,
    /// Appends the log has confirmed.
    pub batches: u64,
    /// Calls of the log or the outbox that failed.
    pub failures: u64,
    /// Events it had taken and could not finish within the grace period. They come back to the outbox by themselves.
    pub left: usize,
}
