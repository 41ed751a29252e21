//! The worker that runs for ever: claims accounts that are due, has a token for each, does its job, and says what came
//! of it.
//!
//! Many of these share the accounts of one index by [`Claims`]: each account is one worker's at a time. Right before a
//! refresh token is redeemed the claim is renewed, so a worker that was asleep for longer than its lease redeems
//! nothing; what it writes carries the claim's fence, so it overwrites nothing either.
//!
//! What became of an account, and what that leads to, is one table: [`outcome`].

mod guard;
mod health;
mod outcome;
mod settings;
mod settle;
mod status;
mod task;

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use common::backends::TokenCache;
use common::identity::{AccessToken, IdentityClient};
use common::index::{AccountActivity, Claim, ClaimError, ClaimRequest, Claims, HeldClaim};
use common::retry::{Retry, RetryDelays, Setback};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::account::Hydrator;
use task::Task;

pub(super) use guard::ClaimGuard;
pub(crate) use outcome::settlement;
pub(crate) use settle::pause;

pub use settings::DueWorkerSettings;
pub use status::{DueWorkerStatus, NotReady};

/// Works on accounts that are due, until it is told to stop.
#[derive(Debug)]
pub struct DueWorker {
    claims: Arc<dyn Claims>,
    hydrator: Arc<Hydrator>,
    settings: DueWorkerSettings,
    status: watch::Sender<DueWorkerStatus>,
}

/// The accounts that are under way.
struct UnderWay {
    tasks: JoinSet<()>,
    held: Vec<(Id, HeldClaim)>,
}

impl DueWorker {
    /// A worker on the due accounts of one app, which `client` is, and on their blobs in `cache`.
    pub fn new(
        claims: Arc<dyn Claims>,
        cache: TokenCache,
        client: IdentityClient,
        settings: DueWorkerSettings,
    ) -> Self {
        let settings = settings.within_bounds();
        let hydrator = Arc::new(Hydrator { client, cache, settings: settings.hydration.clone() });
        let status = watch::Sender::new(DueWorkerStatus::new(&settings));
        Self { claims, hydrator, settings, status }
    }

    /// What it is doing, for as long as somebody wants to know.
    pub fn status(&self) -> watch::Receiver<DueWorkerStatus> {
        self.status.subscribe()
    }

    /// Hydrates accounts that are due, and does nothing else with their tokens.
    pub async fn hydrate(self, shutdown: CancellationToken) -> DueWorkerStatus {
        self.run(shutdown, |_, _| async { Ok::<(), std::convert::Infallible>(()) }).await
    }

    /// Does `job` with an access token of each account that is due, several at once, each a task of its own.
    ///
    /// A job's error, panic or time-out is the account's outcome: it is tried again after a while, and the others go
    /// on. A server that is away is waited for. When `shutdown` is cancelled, nothing more is claimed, and what is
    /// under way has [`DueWorkerSettings::shutdown_grace`] to end; what has not ended then is dropped, and its claims
    /// are given back. Returns what was done.
    ///
    /// # Cancel safety
    /// A dropped run drops its jobs; their claims end by themselves. A refresh that was under way ends by itself and
    /// is written back.
    pub async fn run<J, F, E>(self, shutdown: CancellationToken, job: J) -> DueWorkerStatus
    where
        J: Fn(Arc<AccountActivity>, AccessToken) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let job = Arc::new(job);
        let mut under_way = UnderWay { tasks: JoinSet::new(), held: Vec::new() };
        self.claim_until(&shutdown, &job, &mut under_way).await;
        self.drain(under_way).await;
        self.status.borrow().clone()
    }

    async fn claim_until<J, F, E>(&self, shutdown: &CancellationToken, job: &Arc<J>, under_way: &mut UnderWay)
    where
        J: Fn(Arc<AccountActivity>, AccessToken) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let mut retry = Retry::new(RetryDelays::default());
        let mut claim_at = Instant::now();
        let mut asked_at = None;
        loop {
            let free = self.settings.concurrency().saturating_sub(under_way.tasks.len());
            // A claim for each hand that gets free would ask the index once for each account.
            let is_worth_it = free >= self.settings.concurrency().div_ceil(4);
            let at = if is_worth_it {
                claim_at
            } else {
                asked_at.map_or(claim_at, |asked| claim_at.max(asked + self.settings.poll))
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(ended) = under_way.tasks.join_next_with_id() => under_way.forget(&ended),
                () = sleep_until(at), if free > 0 => {
                    asked_at = Some(Instant::now());
                    let wait = self.claim(free, shutdown, job, under_way, &mut retry).await;
                    claim_at = Instant::now() + wait;
                }
            }
        }
    }

    /// Claims as many accounts as there are hands free, and begins them. Says when to ask again: at once while there
    /// is more, later where there was none.
    async fn claim<J, F, E>(
        &self,
        free: usize,
        shutdown: &CancellationToken,
        job: &Arc<J>,
        under_way: &mut UnderWay,
        retry: &mut Retry,
    ) -> Duration
    where
        J: Fn(Arc<AccountActivity>, AccessToken) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let asked_at = Instant::now();
        match self.claims.claim(&self.request(free)).await {
            Ok(claims) => {
                retry.reset();
                let wait = if claims.len() < free { self.settings.jittered_poll() } else { Duration::ZERO };
                self.status.send_modify(|status| status.claimed(claims.len()));
                self.begin(claims, asked_at, shutdown, job, under_way);
                wait
            }
            Err(error) => {
                let setback = setback_of(&error);
                tracing::warn!(%error, "no accounts could be claimed; trying again");
                self.status.send_modify(|status| status.trouble = Some(setback.why.clone()));
                retry.delay_after(&setback)
            }
        }
    }

    fn request(&self, limit: usize) -> ClaimRequest {
        ClaimRequest {
            worker: self.settings.worker.clone(),
            limit: limit.min(ClaimRequest::MAX_LIMIT),
            lease: self.settings.lease,
            tenant: self.settings.tenant.clone(),
            client: Some(self.hydrator.client.client_id().clone()),
            rates: self.settings.rates,
        }
    }

    fn begin<J, F, E>(
        &self,
        claims: Vec<Claim>,
        asked_at: Instant,
        shutdown: &CancellationToken,
        job: &Arc<J>,
        under_way: &mut UnderWay,
    ) where
        J: Fn(Arc<AccountActivity>, AccessToken) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        for claim in claims {
            let held = claim.held.clone();
            let task = Task {
                claims: Arc::clone(&self.claims),
                hydrator: Arc::clone(&self.hydrator),
                lease: self.settings.lease,
                status: self.status.clone(),
                shutdown: shutdown.clone(),
            };
            let handle = under_way.tasks.spawn(task.run(claim, asked_at, Arc::clone(job)));
            under_way.held.push((handle.id(), held));
        }
    }

    /// Gives what is under way its grace; then the claims of the rest back.
    async fn drain(&self, mut under_way: UnderWay) {
        let until = Instant::now() + self.settings.shutdown_grace;
        while let Ok(Some(ended)) = timeout_at(until, under_way.tasks.join_next_with_id()).await {
            under_way.forget(&ended);
        }
        under_way.tasks.shutdown().await;
        if under_way.held.is_empty() {
            return;
        }
        let held: Vec<HeldClaim> = under_way.held.into_iter().map(|(_, held)| held).collect();
        tracing::warn!(accounts = held.len(), "not done within the grace period; their claims are given back");
        match self.claims.release(&held).await {
            Ok(released) => self.status.send_modify(|status| status.released += released as u64),
            Err(error) => tracing::warn!(%error, "the claims end by themselves"),
        }
    }
}

impl UnderWay {
    fn forget(&mut self, ended: &Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.held.retain(|(held, _)| *held != id);
    }
}

fn setback_of(error: &ClaimError) -> Setback {
    Setback { why: common::program::one_line(error), is_transient: error.is_transient() }
}
