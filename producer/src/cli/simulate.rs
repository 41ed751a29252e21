//! `producer simulate`: load through the real adapter, with a progress bar.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use common::backends::Backends;
use common::event::{EventSource, UsernamePolicy};
use common::output;
use common::program::Outcome;
use indicatif::{ProgressBar, ProgressStyle};
use producer::adapter::{AdapterSettings, TokenCacheAdapter};
use producer::simulate::{Load, LoadReport, Population, Progress, run};
use tokio_util::sync::CancellationToken;

/// Write realistic caches through the real adapter
#[derive(Args)]
pub(super) struct Simulate {
    /// How many users there are
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// How many cache writes in all [default: one for each user]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    writes: Option<u64>,
    /// Writes per second [default: as fast as possible]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// How many tenants the users are spread over
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    tenants: u32,
    /// How many writes may be under way at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// Another seed gives other users
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The `source` of the events
    #[arg(long, default_value = "/apps/simulation", env = "EVENT_SOURCE")]
    source: EventSource,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

impl Simulate {
    pub(super) async fn run(
        self,
        backends: &Backends,
        usernames: UsernamePolicy,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Outcome> {
        let cache = backends.token_cache().await?;
        let mut settings = AdapterSettings::new(self.source.clone());
        settings.usernames = usernames;
        let adapter = TokenCacheAdapter::new(cache.store, settings);
        let report = self.with_progress(adapter, shutdown).await;
        if self.json {
            output::json(&report)?
        } else {
            print(&report)
        }
        if let Some(error) = report.first_error {
            anyhow::bail!("{} of {} writes failed; the first: {error}", report.failed, report.failed + report.writes);
        }
        Ok(Outcome::Done)
    }

    fn load(&self) -> Load {
        Load {
            users: self.users,
            writes: self.writes.unwrap_or(self.users),
            rate: self.rate,
            concurrency: usize::from(self.concurrency),
            population: Population {
                seed: self.seed,
                tenants: self.tenants,
                access_token_lifetime: Duration::from_secs(3600),
            },
        }
    }

    async fn with_progress(&self, adapter: TokenCacheAdapter, shutdown: CancellationToken) -> LoadReport {
        let load = self.load();
        let bar = ProgressBar::new(load.writes).with_style(style());
        let progress = Arc::new(Progress::default());
        let drawing = tokio::spawn(draw(bar.clone(), progress.clone()));
        let report = run(load, adapter, &progress, shutdown).await;
        drawing.abort();
        bar.finish_and_clear();
        report
    }
}

async fn draw(bar: ProgressBar, progress: Arc<Progress>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        bar.set_position(progress.done());
    }
}

fn style() -> ProgressStyle {
    let template = "{wide_bar} {pos}/{len} writes  {per_sec}  {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn print(report: &LoadReport) {
    output::fields(&[
        ("users", report.users.to_string()),
        ("writes", report.writes.to_string()),
        ("failed", report.failed.to_string()),
        ("seconds", format!("{:.2}", report.seconds)),
        ("writes per second", format!("{:.0}", report.rate)),
        ("p50", format!("{:.2} ms", report.p50_ms)),
        ("p99", format!("{:.2} ms", report.p99_ms)),
    ]);
}
