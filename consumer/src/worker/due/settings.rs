//! How a worker on due accounts works.

use std::num::NonZeroUsize;
use std::time::Duration;

use common::account::TenantId;
use common::index::{ClaimRates, ClaimRequest, WorkerId};

use crate::worker::{MOST_CONCURRENT, WorkerSettings};

/// How a [`DueWorker`](super::DueWorker) works.
#[derive(Debug, Clone)]
pub struct DueWorkerSettings {
    /// Its name, one per process.
    pub worker: WorkerId,
    /// For how long an account is claimed; it is renewed at a third of that while the account is worked on. After so
    /// long the accounts of a worker that died are taken by others.
    pub lease: Duration,
    /// How long to wait before asking again when nothing was due; up to as much again is added at random.
    pub poll: Duration,
    /// How long what is under way may go on after the worker was told to stop.
    pub shutdown_grace: Duration,
    /// Only accounts of this home tenant.
    pub tenant: Option<TenantId>,
    /// How many accounts may be claimed per minute, by all workers together. Workers of one index give the same.
    pub rates: ClaimRates,
    /// How an account is hydrated, and how many at once.
    pub hydration: WorkerSettings,
}

impl DueWorkerSettings {
    /// A lease of 60 s, a poll each 1 to 2 s, 25 s of grace, all tenants, no rates.
    pub fn new(worker: WorkerId) -> Self {
        Self {
            worker,
            lease: Duration::from_secs(60),
            poll: Duration::from_secs(1),
            shutdown_grace: Duration::from_secs(25),
            tenant: None,
            rates: ClaimRates::default(),
            hydration: WorkerSettings::default(),
        }
    }

    pub(super) fn within_bounds(mut self) -> Self {
        self.lease = self.lease.clamp(ClaimRequest::MIN_LEASE, ClaimRequest::MAX_LEASE);
        self.poll = self.poll.max(Duration::from_millis(10));
        let most = NonZeroUsize::new(MOST_CONCURRENT).unwrap_or(NonZeroUsize::MIN);
        self.hydration.concurrency = self.hydration.concurrency.min(most);
        self
    }

    pub(super) fn concurrency(&self) -> usize {
        self.hydration.concurrency.get()
    }

    pub(super) fn jittered_poll(&self) -> Duration {
        self.poll + self.poll.mul_f64(rand::random::<f64>())
    }
}
