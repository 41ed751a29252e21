//! One claimed account: hydrated, worked on, and its claim settled.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use common::identity::AccessToken;
use common::index::{AccountActivity, Claim, Claims, Due, DueReason};
use common::retry::{Retry, RetryDelays};
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::guard::ClaimGuard;
use super::outcome::settlement;
use super::setback_of;
use super::status::DueWorkerStatus;
use crate::worker::AccountOutcome;
use crate::worker::account::{Hydration, Hydrator, Under};
use crate::worker::run::work;

/// What the task of one account needs.
pub(super) struct Task {
    pub(super) claims: Arc<dyn Claims>,
    pub(super) hydrator: Arc<Hydrator>,
    pub(super) lease: Duration,
    pub(super) status: watch::Sender<DueWorkerStatus>,
    pub(super) shutdown: CancellationToken,
}

impl Task {
    /// Works on the account of `claim`, which was asked for at `asked_at`.
    pub(super) async fn run<J, F, E>(self, claim: Claim, asked_at: Instant, job: Arc<J>)
    where
        J: Fn(Arc<AccountActivity>, AccessToken) -> F,
        F: Future<Output = Result<(), E>>,
        E: Display,
    {
        let Claim { held, due, account, .. } = claim;
        let guard = Arc::new(ClaimGuard::new(Arc::clone(&self.claims), held, self.lease, asked_at));
        let account = Arc::new(account);
        let hydration = self.guarded(&guard, due, Arc::clone(&account), job.as_ref()).await;
        self.settle(&guard, &account, &hydration).await;
        self.status.send_modify(|status| status.ended(account.cache_key.clone(), hydration));
    }

    /// Works while the claim is held. What a lost claim leaves half done is dropped; a refresh ends by itself, and its
    /// write is fenced.
    async fn guarded<J, F, E>(
        &self,
        guard: &Arc<ClaimGuard>,
        due: Due,
        account: Arc<AccountActivity>,
        job: &J,
    ) -> Hydration
    where
        J: Fn(Arc<AccountActivity>, AccessToken) -> F,
        F: Future<Output = Result<(), E>>,
        E: Display,
    {
        let key = account.cache_key.clone();
        // A refresh token that idles is renewed by being used, however long its access token is valid.
        let under = Under { claim: Some(Arc::clone(guard)), is_forced: due.reason == DueReason::RefreshTokenIdle };
        // Nothing of the account's work is shared with another one's.
        let work = AssertUnwindSafe(work(&self.hydrator, &under, account, job)).catch_unwind();
        tokio::select! {
            done = work => done.unwrap_or_else(|_| {
                tracing::error!(cache_key = %key, "the worker failed at an account");
                Hydration::without_token(AccountOutcome::Crashed)
            }),
            () = guard.keep() => Hydration::without_token(AccountOutcome::ClaimLost),
        }
    }

    /// Says what became of the account, again and again until the lease is over: what is not said is claimed by
    /// somebody else then.
    async fn settle(&self, guard: &ClaimGuard, account: &AccountActivity, hydration: &Hydration) {
        let settlement = settlement(hydration.outcome, hydration.until);
        let attempts = async {
            let mut retry = Retry::new(RetryDelays::default());
            while let Err(error) = settlement.apply(self.claims.as_ref(), guard.held(), account.tenant_id()).await {
                if error.is_lost() {
                    tracing::warn!(%error, cache_key = %account.cache_key, "a claim ended before its work");
                    return;
                }
                tracing::warn!(%error, cache_key = %account.cache_key, "an outcome is not said yet");
                sleep(retry.delay_after(&setback_of(&error))).await;
            }
        };
        // Who is told to stop has no more than the grace period, which ends this task too.
        let patience = if self.shutdown.is_cancelled() { self.lease.min(RETRY_AT_SHUTDOWN) } else { self.lease };
        if timeout(patience, attempts).await.is_err() {
            tracing::warn!(cache_key = %account.cache_key, "an outcome was not said; the claim ends by itself");
        }
    }
}

/// How long a worker that was told to stop tries to say what became of an account.
const RETRY_AT_SHUTDOWN: Duration = Duration::from_secs(5);
