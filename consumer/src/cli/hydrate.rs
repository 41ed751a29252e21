//! `consumer hydrate`: has a token for accounts whose users are away, and writes their caches back.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::Duration;

use clap::{Args, Subcommand};
use common::account::{CacheKey, Username};
use common::backends::Backends;
use common::event::{EventSource, FailureReason, UsernamePolicy};
use common::identity::{IdentityClient, SilentOptions};
use common::index::{AccountState, Query};
use common::output;
use common::program::Outcome;
use common::settings::{IdentityProviderSettings, moment, span};
use consumer::worker::{AccountOutcome, RunReport, Selection, Skipped, Worker, WorkerSettings};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::pick::{FilterArgs, looked_up};

/// Acquire tokens for accounts whose users are away, and keep their caches alive
///
/// Exit code 0: every account has what it needs. 3: some have no token, and the table says why. 1: no account could
/// be worked on, because a server or the identity provider was not available, or the run ended early.
#[derive(Args)]
pub(super) struct Hydrate {
    #[command(subcommand)]
    what: What,
    /// One JSON document instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Accounts whose user has not been here for a while, longest idle first
    Idle {
        /// How long (2h, 7d)
        #[arg(long = "for", value_parser = span, value_name = "DURATION")]
        duration: Duration,
        #[command(flatten)]
        list: ListArgs,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Accounts whose user was here since a time, newest first
    Active {
        /// A time (2026-11-22T10:00:00Z), or how long ago (2h, 7d)
        #[arg(long, value_parser = moment)]
        since: Timestamp,
        #[command(flatten)]
        list: ListArgs,
        #[command(flatten)]
        how: HowArgs,
    },
    /// The accounts of a username, also those that wait for their user
    User {
        /// The username, plain; it is looked up as the setting --usernames writes it
        username: Username,
        #[command(flatten)]
        list: ListArgs,
        #[command(flatten)]
        how: HowArgs,
    },
    /// One account, also if it waits for its user
    Account {
        /// The cache key: the home account id of a signed-in user
        cache_key: CacheKey,
        #[command(flatten)]
        how: HowArgs,
    },
}

#[derive(Args)]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many accounts at most [default: all of them]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Args)]
struct HowArgs {
    /// How many accounts at once, 1 to 256
    #[arg(long, env = "HYDRATE_CONCURRENCY", default_value_t = 16, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// How long a token has still to be valid to need no refresh (5m, 1h)
    #[arg(long, env = "HYDRATE_MIN_VALID", default_value = "5m", value_parser = span, value_name = "DURATION")]
    min_valid: Duration,
    /// Refresh also tokens that are valid
    #[arg(long)]
    force: bool,
    /// The `source` of the worker's events
    #[arg(long, env = "HYDRATE_SOURCE", default_value = "/workers/hydrate")]
    source: EventSource,
    #[command(flatten)]
    provider: IdentityProviderSettings,
}

impl Hydrate {
    pub(super) async fn run(
        self,
        backends: &Backends,
        usernames: &UsernamePolicy,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Outcome> {
        let (selection, how) = self.what.meaning(usernames)?;
        let provider = how.provider.provider()?;
        let (index, cache) = (backends.index().await?, backends.token_cache().await?);
        let client = IdentityClient::discover(provider).await?;
        let mut worker = Worker::new(index, cache, client, how.settings(&selection));
        let progress = worker.progress();
        let ended = watched(worker.hydrate(&selection, shutdown), progress).await;
        let report = match &ended {
            Ok(report) => report,
            Err(error) => &error.report,
        };
        if self.json {
            output::json(report)?
        } else {
            print(report)
        }
        let report = ended?;
        anyhow::ensure!(!is_in_vain(&report), "no account could be worked on: see the outcomes, and --logs info");
        Ok(if report.failed == 0 { Outcome::Done } else { Outcome::Difference })
    }
}

impl What {
    fn meaning(self, usernames: &UsernamePolicy) -> anyhow::Result<(Selection, HowArgs)> {
        Ok(match self {
            Self::Idle { duration, list, how } => (list.narrow(Selection::idle_for(duration)), how),
            Self::Active { since, list, how } => (list.narrow(Selection::active_since(since)), how),
            Self::User { username, list, how } => (list.narrow(Selection::user(looked_up(&username, usernames)?)), how),
            Self::Account { cache_key, how } => (Selection::One(cache_key), how),
        })
    }
}

impl ListArgs {
    fn narrow(self, selection: Selection) -> Selection {
        let limit = self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        selection.narrowed(self.filter.filter(), limit)
    }
}

impl HowArgs {
    fn settings(&self, selection: &Selection) -> WorkerSettings {
        WorkerSettings {
            source: self.source.clone(),
            silent: SilentOptions { force_refresh: self.force, min_remaining: self.min_valid },
            concurrency: NonZeroUsize::new(usize::from(self.concurrency)).unwrap_or(NonZeroUsize::MIN),
            tries_parked: names_parked(selection),
            ..WorkerSettings::default()
        }
    }
}

/// Whether accounts that wait for their user were asked for: by name, or by state.
fn names_parked(selection: &Selection) -> bool {
    match selection {
        Selection::One(_) | Selection::Listed { query: Query::User(_), .. } => true,
        Selection::Listed { filter, .. } => filter.state == Some(AccountState::Parked),
    }
}

/// Shows on a terminal how far the run is.
async fn watched<T>(run: impl Future<Output = T>, mut progress: watch::Receiver<RunReport>) -> T {
    let style = ProgressStyle::with_template("{spinner} {pos} accounts  {msg}");
    let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let mut run = pin!(run);
    let ended = loop {
        tokio::select! {
            ended = &mut run => break ended,
            Ok(()) = progress.changed() => {
                let report = progress.borrow_and_update();
                bar.set_position(report.accounts);
                bar.set_message(format!("{} hydrated, {} failed", report.hydrated, report.failed));
            }
        }
    };
    bar.finish_and_clear();
    ended
}

fn print(report: &RunReport) {
    let rows = report.outcomes.iter().map(|(outcome, accounts)| vec![in_words(outcome), accounts.to_string()]);
    output::table(&["OUTCOME", "ACCOUNTS"], rows);
    if !report.examples.is_empty() {
        output::line("");
        let rows = report.examples.iter().map(|failed| {
            vec![failed.cache_key.to_string(), in_words(failed.outcome), failed.detail.clone().unwrap_or_default()]
        });
        output::table(&["FAILED, SUCH AS", "OUTCOME", "WHY"], rows);
    }
    if report.is_cut_short {
        output::line("stopped before the end; what was begun is done");
    }
    if report.untold > 0 {
        output::line(&format!("{} failures could not be written to the outbox", report.untold));
    }
}

fn in_words(outcome: &str) -> String {
    outcome.replace('_', " ")
}

/// Whether every account that was tried failed for want of a server.
fn is_in_vain(report: &RunReport) -> bool {
    let away = [FailureReason::StoreUnavailable, FailureReason::IdentityProviderUnavailable];
    let in_vain: u64 = away.iter().map(|reason| report.count(AccountOutcome::NoToken(*reason))).sum();
    let skipped: u64 = Skipped::ALL.iter().map(|skipped| report.count(AccountOutcome::Skipped(*skipped))).sum();
    in_vain > 0 && in_vain == report.accounts - skipped
}
