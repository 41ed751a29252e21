//! The worker: takes accounts from the index, has an access token for each without the user, and tells the log.
//!
//! 1. [`Selection`] says which accounts; they are listed page by page, so an index of any size will do.
//! 2. For each account, the token is acquired silently: from the blob where it is good enough, else by a refresh that
//!    is written back by compare-and-set, with the expiry the web app gave it. Home account, tenant and client are
//!    those of the index entry; a blob that is another account's is refused.
//! 3. A refresh leaves a `hydrated` event, in the same atomic operation as the blob. No token leaves an
//!    `acquisition-failed` event with the reason. A token that was valid anyway leaves nothing.
//! 4. The token goes to the job, where there is one.
//!
//! ```no_run
//! # async fn example(index: std::sync::Arc<dyn common::index::ActivityStore>, cache: common::backends::TokenCache,
//! #     client: common::identity::IdentityClient, api: std::sync::Arc<dyn Fn(&str) + Send + Sync>,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use consumer::worker::{Selection, Worker, WorkerSettings};
//! use tokio_util::sync::CancellationToken;
//!
//! let mut worker = Worker::new(index, cache, client, WorkerSettings::default());
//! let idle = Selection::idle_for(Duration::from_secs(7 * 24 * 3600));
//! let report = worker
//!     .for_each(&idle, CancellationToken::new(), move |account, token| {
//!         let api = api.clone();
//!         async move {
//!             api(token.expose());
//!             println!("{} is done", account.cache_key);
//!             Ok::<(), std::io::Error>(())
//!         }
//!     })
//!     .await?;
//! println!("{} accounts, {} hydrated", report.accounts, report.hydrated);
//! # Ok(())
//! # }
//! ```

mod account;
mod due;
mod elsewhere;
mod job;
mod plan;
mod report;
mod run;
mod selection;
mod settings;
mod writer;

use std::future::Future;
use std::sync::Arc;

use common::backends::TokenCache;
use common::identity::{AccessToken, IdentityClient};
use common::index::{AccountActivity, ActivityStore, ListError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use due::{pause, settlement};
pub(crate) use elsewhere::{Elsewhere, HandedOver, NoToken};

pub use due::{DueWorker, DueWorkerSettings, DueWorkerStatus, NotReady};
pub use report::{AccountOutcome, Example, RunReport, Skipped};
pub use selection::Selection;
pub use settings::{MOST_CONCURRENT, WorkerSettings};

use account::Hydrator;
use run::Run;

/// Hydrates the token caches of accounts, and works with their tokens.
#[derive(Debug)]
pub struct Worker {
    index: Arc<dyn ActivityStore>,
    hydrator: Arc<Hydrator>,
    progress: watch::Sender<RunReport>,
}

/// A run ended before all its accounts were listed.
#[derive(Debug, thiserror::Error)]
#[error("the index gave no further accounts")]
pub struct RunError {
    /// What was done until then. What was under way was ended properly.
    pub report: Box<RunReport>,
    /// Why.
    #[source]
    pub source: ListError,
}

impl Worker {
    /// A worker on the accounts of `index` and their blobs in `cache`, for the app that `client` is.
    pub fn new(
        index: Arc<dyn ActivityStore>,
        cache: TokenCache,
        client: IdentityClient,
        settings: WorkerSettings,
    ) -> Self {
        let hydrator = Arc::new(Hydrator { client, cache, settings });
        Self { index, hydrator, progress: watch::Sender::default() }
    }

    /// What the run that is under way has done so far.
    pub fn progress(&self) -> watch::Receiver<RunReport> {
        self.progress.subscribe()
    }

    /// Hydrates the caches of the selected accounts.
    ///
    /// # Errors
    /// [`RunError`]. That an account has no token is an outcome in the report, and ends nothing.
    ///
    /// # Cancel safety
    /// As [`for_each`](Self::for_each).
    pub async fn hydrate(&mut self, selection: &Selection, shutdown: CancellationToken) -> Result<RunReport, RunError> {
        self.for_each(selection, shutdown, |_, _| async { Ok::<(), std::convert::Infallible>(()) }).await
    }

    /// Does `job` with an access token of each of the selected accounts, several at once, each a task of its own.
    ///
    /// A job's error, panic or time-out is the account's outcome, and the others go on. When `shutdown` is cancelled,
    /// no further account is begun; refreshes that are under way are ended and written back, and jobs that were
    /// begun have the rest of their time.
    ///
    /// # Errors
    /// [`RunError`].
    ///
    /// # Cancel safety
    /// A dropped run drops its jobs. A refresh that was under way ends by itself and is written back.
    pub async fn for_each<J, F, E>(
        &mut self,
        selection: &Selection,
        shutdown: CancellationToken,
        job: J,
    ) -> Result<RunReport, RunError>
    where
        J: Fn(Arc<AccountActivity>, AccessToken) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + 'static,
    {
        self.progress.send_replace(RunReport::default());
        let run = Run { hydrator: &self.hydrator, progress: &self.progress, job: Arc::new(job) };
        let ended = run.over(selection.walk(self.index.as_ref()), &shutdown).await;
        let report = self.progress.borrow().clone();
        match ended {
            Ok(()) => Ok(RunReport { is_cut_short: shutdown.is_cancelled(), ..report }),
            Err(source) => Err(RunError { report: Box::new(report), source }),
        }
    }
}
