//! `consumer work`: hydrates accounts that are due, for ever, beside any number of others.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use common::account::TenantId;
use common::backends::Backends;
use common::event::EventSource;
use common::identity::{IdentityClient, SilentOptions};
use common::index::{ClaimRates, ClaimRequest, DuePolicy, WorkerId};
use common::output;
use common::program::Outcome;
use common::settings::{IdentityProviderSettings, span};
use consumer::worker::{DueWorker, DueWorkerSettings, DueWorkerStatus, WorkerSettings};
use tokio_util::sync::CancellationToken;

use super::exec::Exec;
use super::health;

/// Hydrate accounts that are due, for ever
///
/// Any number of these may run: each account is one worker's at a time. On SIGTERM nothing more is claimed, what is
/// under way has the grace period, and the claims of what is not done then are given back.
#[derive(Args)]
pub(super) struct Work {
    /// The worker's name, one per process [default: the host's name and the process id]
    #[arg(long, env = "WORKER_NAME", value_name = "NAME")]
    name: Option<WorkerId>,
    /// How many accounts at once, 1 to 256
    #[arg(long, env = "WORKER_CONCURRENCY", default_value_t = 16, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// For how long an account is claimed, and so how soon a dead worker's accounts are taken by others; 1s to 1h
    #[arg(long, env = "WORKER_LEASE", default_value = "60s", value_parser = lease, value_name = "DURATION")]
    lease: Duration,
    /// How long to wait, at least, before asking again when nothing was due
    #[arg(long, env = "WORKER_POLL", default_value = "1s", value_parser = span, value_name = "DURATION")]
    poll: Duration,
    /// How long what is under way may go on after SIGTERM
    #[arg(long, env = "WORKER_GRACE", default_value = "25s", value_parser = span, value_name = "DURATION")]
    grace: Duration,
    /// How long one account's job may take
    #[arg(long, env = "WORKER_JOB_TIME_LIMIT", default_value = "5m", value_parser = span, value_name = "DURATION")]
    job_time_limit: Duration,
    /// Only accounts of this home tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    /// The most accounts of one tenant per minute, over all workers, which are set alike
    #[arg(long, env = "WORKER_RATE_PER_TENANT", value_name = "N")]
    rate_per_tenant: Option<NonZeroU32>,
    /// The most accounts per minute, over all workers, which are set alike
    #[arg(long, env = "WORKER_RATE", value_name = "N")]
    rate: Option<NonZeroU32>,
    /// A program to run for each account: it gets the account and an access token as JSON on its standard input, and
    /// exit code 0 means done
    #[arg(long, env = "WORKER_EXEC", value_name = "FILE")]
    exec: Option<PathBuf>,
    /// The `source` of the worker's events
    #[arg(long, env = "WORKER_SOURCE", default_value = "/workers/hydrate")]
    source: EventSource,
    /// Answer /livez, /readyz and /metrics there, such as 127.0.0.1:9465
    #[arg(long, env = "WORKER_HEALTH_LISTEN", value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
    /// One JSON document at the end instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    provider: IdentityProviderSettings,
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = span(text).map_err(|error| error.to_string())?;
    let is_sound = (ClaimRequest::MIN_LEASE..=ClaimRequest::MAX_LEASE).contains(&lease);
    is_sound.then_some(lease).ok_or_else(|| "give 1s to 1h".to_owned())
}

impl Work {
    pub(super) async fn run(self, backends: &Backends, shutdown: CancellationToken) -> anyhow::Result<Outcome> {
        let provider = self.provider.provider()?;
        let (claims, cache) = (backends.claims().await?, backends.token_cache().await?);
        let generations = backends.index_generations().await?;
        let live = generations.generations().await?.live;
        let policy = generations.due_policy(live, &DuePolicy::default()).await?;
        let client = IdentityClient::discover(provider).await?;
        let worker = DueWorker::new(claims, cache, client, self.settings(&policy));
        let _health = match self.health_listen {
            Some(address) => Some(health::listen(address, Arc::new(worker.status()), shutdown.clone()).await?),
            None => None,
        };
        let status = match self.exec {
            None => worker.hydrate(shutdown).await,
            Some(program) => {
                let exec = Arc::new(Exec::new(program)?);
                let job = move |account, token| {
                    let exec = Arc::clone(&exec);
                    async move { exec.run(account, token).await }
                };
                worker.run(shutdown, job).await
            }
        };
        if self.json {
            output::json(&status.report)?;
        } else {
            print(&status);
        }
        Ok(Outcome::Done)
    }

    fn settings(&self, policy: &DuePolicy) -> DueWorkerSettings {
        let horizon = Duration::from_secs(policy.horizon_seconds.unwrap_or_default().into());
        let silent = SilentOptions::default();
        // What is due has to be refreshed: a token that makes its account due is not valid for long enough.
        let min_remaining = horizon.max(silent.min_remaining);
        let hydration = WorkerSettings {
            source: self.source.clone(),
            silent: SilentOptions { min_remaining, ..silent },
            concurrency: NonZeroUsize::new(usize::from(self.concurrency)).unwrap_or(NonZeroUsize::MIN),
            job_time_limit: self.job_time_limit,
            ..WorkerSettings::default()
        };
        DueWorkerSettings {
            lease: self.lease,
            poll: self.poll,
            shutdown_grace: self.grace,
            tenant: self.tenant.clone(),
            rates: ClaimRates { per_tenant: self.rate_per_tenant, overall: self.rate },
            hydration,
            ..DueWorkerSettings::new(self.name.clone().unwrap_or_else(own_name))
        }
    }
}

/// The host and the process: another one on the same host has another id.
fn own_name() -> WorkerId {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = format!("{host}-{}", std::process::id());
    WorkerId::new(name).unwrap_or_else(|_| WorkerId::of_process(std::process::id()))
}

fn print(status: &DueWorkerStatus) {
    let rows =
        status.report.outcomes.iter().map(|(outcome, accounts)| vec![outcome.replace('_', " "), accounts.to_string()]);
    output::table(&["OUTCOME", "ACCOUNTS"], rows);
    if status.released > 0 {
        output::line(&format!("{} accounts were given back undone", status.released));
    }
    if status.report.untold > 0 {
        output::line(&format!("{} failures could not be written to the outbox", status.report.untold));
    }
}
