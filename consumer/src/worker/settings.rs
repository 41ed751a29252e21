//! How a worker works.

use std::num::NonZeroUsize;
use std::time::Duration;

use common::event::EventSource;
use common::identity::{Scopes, SilentOptions};

/// The most accounts that may be under way at once: each may hold a connection to the provider and to the store.
pub const MOST_CONCURRENT: usize = 256;

/// How a [`Worker`](super::Worker) works.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The `source` of its events.
    pub source: EventSource,
    /// What access tokens are asked for. Where there are none: the scopes of the provider's settings, and where there
    /// are none either, those of the newest access token in the account's blob.
    pub scopes: Scopes,
    /// How long tokens have still to be valid, and whether to refresh in any case.
    pub silent: SilentOptions,
    /// How many accounts are under way at once, at most [`MOST_CONCURRENT`].
    pub concurrency: NonZeroUsize,
    /// How long a job may take.
    pub job_time_limit: Duration,
    /// Whether accounts that wait for their user are tried all the same.
    pub tries_parked: bool,
}

impl Default for WorkerSettings {
    /// `/workers/hydrate`, no scopes, tokens valid for five minutes, 16 accounts at once, 5 minutes for a job,
    /// parked accounts left alone.
    fn default() -> Self {
        Self {
            source: EventSource::of_workers(),
            scopes: Scopes::default(),
            silent: SilentOptions::default(),
            concurrency: const { NonZeroUsize::new(16).unwrap() },
            job_time_limit: Duration::from_secs(300),
            tries_parked: false,
        }
    }
}
