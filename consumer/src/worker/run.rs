//! A run: as many accounts at once as are allowed, each a task of its own, until the walk or the time is over.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use common::account::CacheKey;
use common::identity::AccessToken;
use common::index::{AccountActivity, ListError};
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::account::{Hydration, Hydrator, Under};
use super::job;
use super::report::{AccountOutcome, RunReport};
use super::selection::Walk;
use super::settings::MOST_CONCURRENT;

/// What a run is made of.
pub(super) struct Run<'a, J> {
    pub(super) hydrator: &'a Arc<Hydrator>,
    pub(super) progress: &'a watch::Sender<RunReport>,
    pub(super) job: Arc<J>,
}

/// How the task of one account ended.
struct Ended {
    key: CacheKey,
    hydration: Hydration,
}

impl<J, F, E> Run<'_, J>
where
    J: Fn(Arc<AccountActivity>, AccessToken) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + 'static,
{
    /// Goes over the accounts. What was begun is ended, whatever ends the walk.
    pub(super) async fn over(&self, mut walk: Walk<'_>, shutdown: &CancellationToken) -> Result<(), ListError> {
        let most = self.hydrator.settings.concurrency.get().min(MOST_CONCURRENT);
        let mut tasks = JoinSet::new();
        let ended = loop {
            while tasks.len() >= most {
                self.join(&mut tasks).await;
            }
            let next = tokio::select! {
                biased;
                () = shutdown.cancelled() => Ok(None),
                next = walk.next() => next,
            };
            match next {
                Ok(Some(account)) => drop(tasks.spawn(self.task(account))),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        while !tasks.is_empty() {
            self.join(&mut tasks).await;
        }
        ended
    }

    fn task(&self, account: AccountActivity) -> impl Future<Output = Ended> + Send + 'static {
        let (hydrator, job) = (Arc::clone(self.hydrator), Arc::clone(&self.job));
        let account = Arc::new(account);
        async move {
            let key = account.cache_key.clone();
            // Nothing of the account's work is shared with another one's.
            let under = Under::default();
            let work = AssertUnwindSafe(work(&hydrator, &under, account, job.as_ref())).catch_unwind();
            let hydration = work.await.unwrap_or_else(|_| {
                tracing::error!(cache_key = %key, "the worker failed at an account");
                Hydration::without_token(AccountOutcome::Crashed)
            });
            Ended { key, hydration }
        }
    }

    async fn join(&self, tasks: &mut JoinSet<Ended>) {
        // A task neither panics nor is aborted while the run is there to join it.
        if let Some(Ok(Ended { key, hydration })) = tasks.join_next().await {
            self.progress.send_modify(|report| report.add(key, hydration));
        }
    }
}

/// Has a token for one account, and does the job with it.
pub(super) async fn work<J, F, E>(
    hydrator: &Hydrator,
    under: &Under,
    account: Arc<AccountActivity>,
    job: &J,
) -> Hydration
where
    J: Fn(Arc<AccountActivity>, AccessToken) -> F,
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let mut hydration = hydrator.hydrate(&account, under).await;
    if let Some(token) = hydration.token.take() {
        let begin = |token| job(Arc::clone(&account), token);
        let trouble = job::run(&account.cache_key, token, hydrator.settings.job_time_limit, begin).await;
        hydration.outcome = trouble.unwrap_or(hydration.outcome);
    }
    hydration
}
