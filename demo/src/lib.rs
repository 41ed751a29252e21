//! The whole pipeline in one process: web side, relay, projector and worker, on one SQLite file or on real servers.

mod web_side;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::backends::{Backends, Log};
use common::event::UsernamePolicy;
use common::index::{AccountActivity, ActivityStore};
use common::settings::Connections;
use consumer::projector::{Projector, ProjectorReport, ProjectorSettings, ProjectorStatus};
use consumer::worker::{AccountOutcome, RunReport};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use producer::relay::{Relay, RelayReport, RelaySettings};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use web_side::{WebReport, WebSide};

/// How long the events may take to the index after the last cache write.
const TIME_TO_INDEX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How many rows the table shows.
const SAMPLE: usize = 10;

/// What to show.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// How many users sign in.
    pub users: u32,
    /// Where the ports are; whatever is not set is in one new SQLite file.
    pub connections: Connections,
    /// What is written of usernames.
    pub usernames: UsernamePolicy,
    /// Whether a progress bar is drawn on standard error.
    pub show_progress: bool,
}

/// What happened.
#[derive(Debug, Clone, Serialize)]
pub struct DemoReport {
    /// Users who signed in.
    pub users: u64,
    /// Token cache writes.
    pub cache_writes: u64,
    /// Events that were written with them.
    pub events_emitted: u64,
    /// Events that the projector applied to the index, those that were sent twice counted twice.
    pub events_projected: u64,
    /// Accounts of these users that the index lists.
    pub accounts_indexed: u64,
    /// Accounts whose tokens the worker refreshed, with an access token that the provider honours.
    pub hydrated: u64,
    /// Users who signed in and are not in the index.
    pub lost: u64,
    /// How long it took.
    pub seconds: f64,
    /// The log's address.
    pub log: String,
    /// The index's address.
    pub index: String,
    /// The token cache's address.
    pub cache: String,
    /// Some of the accounts, for the table.
    #[serde(skip)]
    pub sample: Vec<SampleRow>,
}

/// One account, for the table.
#[derive(Debug, Clone)]
pub struct SampleRow {
    /// Who.
    pub username: String,
    /// The cache key.
    pub cache_key: String,
    /// When the user was here.
    pub last_activity: String,
    /// When the worker refreshed their tokens, as the index has it from the event; else how the account stands.
    pub hydration: String,
}

/// Runs the demo from the first sign-in to the last hydration.
///
/// # Errors
/// A server that cannot be reached, or events that do not arrive in time.
pub async fn run(options: DemoOptions) -> anyhow::Result<DemoReport> {
    let started = Instant::now();
    let folder = tempfile::tempdir().context("no folder for temporary files can be made")?;
    let file = format!("sqlite://{}", folder.path().join("demo.sqlite").display());
    let backends = Backends::new(options.connections.or_all_in(&file));
    let since = Timestamp::now() - Duration::from_secs(600);

    backends.declare_log().await?;
    let (log, index, cache) = (backends.log().await?, backends.index().await?, backends.token_cache().await?);
    let movers = Movers::start(&log, &index, cache.outbox.clone());
    let web = Arc::new(WebSide::start(options.users, cache.store.clone(), options.usernames).await?);
    let bar = progress_bar(options.users, options.show_progress);
    let signed_in = web.sign_everybody_in(&bar).await?;
    bar.finish_and_clear();

    movers.projected(signed_in.cache_writes).await;
    wait_for_accounts(index.as_ref(), &web.tenant_id, since, signed_in.users).await?;
    let hydrations = worker::hydrate(index.clone(), cache, &web, since).await?;
    movers.projected(signed_in.cache_writes + hydrations.hydrated).await;
    let accounts = worker::find(index.as_ref(), &web.tenant_id, since).await?;
    let (_, projected) = movers.stop().await?;
    let mut report = report(signed_in, &projected, &hydrations, &accounts);
    let settings = backends.settings();
    report.seconds = started.elapsed().as_secs_f64();
    report.log = settings.log_url()?.to_string();
    report.index = settings.index_url()?.to_string();
    report.cache = settings.cache_url()?.to_string();
    Ok(report)
}

/// The relay and the projector, running.
struct Movers {
    shutdown: CancellationToken,
    progress: watch::Receiver<ProjectorStatus>,
    relay: JoinHandle<RelayReport>,
    projector: JoinHandle<Result<ProjectorReport, consumer::projector::ProjectorError>>,
}

impl Movers {
    fn start(log: &Log, index: &Arc<dyn ActivityStore>, outbox: Arc<dyn common::token_cache::Outbox>) -> Self {
        let shutdown = CancellationToken::new();
        let relay = Relay::new(outbox, log.log.clone(), RelaySettings::default());
        let projector =
            Projector::new(log.log.clone(), log.dead_letters.clone(), index.clone(), ProjectorSettings::default());
        Self {
            progress: projector.status(),
            relay: tokio::spawn(relay.run(shutdown.clone())),
            projector: tokio::spawn(projector.run(shutdown.clone())),
            shutdown,
        }
    }

    /// Waits until the projector has applied as many events, or for as long as that may take.
    async fn projected(&self, events: u64) {
        let applied = |status: &ProjectorStatus| status.partitions.values().map(|p| p.events_applied).sum::<u64>();
        let mut progress = self.progress.clone();
        // What is missing when the time is over, or the projector has ended, shows in the report.
        drop(timeout(TIME_TO_INDEX, progress.wait_for(|status| applied(status) >= events)).await);
    }

    async fn stop(self) -> anyhow::Result<(RelayReport, ProjectorReport)> {
        self.shutdown.cancel();
        Ok((self.relay.await?, self.projector.await??))
    }
}

/// Waits until the index lists as many accounts as signed in, or for as long as that may take.
async fn wait_for_accounts(
    index: &dyn ActivityStore,
    tenant_id: &str,
    since: Timestamp,
    wanted: u64,
) -> anyhow::Result<Vec<AccountActivity>> {
    let deadline = Instant::now() + TIME_TO_INDEX;
    loop {
        let found = worker::find(index, tenant_id, since).await?;
        if found.len() as u64 >= wanted || Instant::now() >= deadline {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn report(
    signed_in: WebReport,
    projected: &ProjectorReport,
    hydrations: &RunReport,
    accounts: &[AccountActivity],
) -> DemoReport {
    let indexed = accounts.len() as u64;
    DemoReport {
        users: signed_in.users,
        cache_writes: signed_in.cache_writes,
        events_emitted: signed_in.cache_writes + hydrations.hydrated,
        events_projected: projected.events_applied,
        accounts_indexed: indexed,
        hydrated: hydrations.count(AccountOutcome::Hydrated),
        lost: signed_in.users.saturating_sub(indexed),
        seconds: 0.0,
        log: String::new(),
        index: String::new(),
        cache: String::new(),
        sample: accounts.iter().take(SAMPLE).map(sample_row).collect(),
    }
}

fn sample_row(account: &AccountActivity) -> SampleRow {
    let username = account.details.as_ref().and_then(|details| details.value.username.as_ref());
    SampleRow {
        username: username.map_or_else(|| "-".to_owned(), ToString::to_string),
        cache_key: account.cache_key.to_string(),
        last_activity: account.last_activity.map_or_else(|| "-".to_owned(), |time| format!("{time:.3}")),
        hydration: account
            .last_hydration
            .map_or_else(|| "not refreshed".to_owned(), |time| format!("refreshed {time:.3}")),
    }
}

fn progress_bar(users: u32, is_shown: bool) -> ProgressBar {
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} users signed in");
    ProgressBar::with_draw_target(Some(u64::from(users)), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
