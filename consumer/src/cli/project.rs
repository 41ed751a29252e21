//! `consumer project`: follows the log until told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use common::backends::Backends;
use common::index::DuePolicy;
use common::log::ActivityLog;
use common::output;
use common::program::Outcome;
use common::settings::span;
use consumer::gap::LogGap;
use consumer::projector::{Projector, ProjectorReport, ProjectorSettings};
use tokio_util::sync::CancellationToken;

use super::due::DuePolicyArgs;
use super::health;

/// Follow the log and keep the index up to date
#[derive(Args)]
pub(super) struct Project {
    /// Go on where the log now begins if part of it is gone; what it said there stays unknown
    #[arg(long)]
    accept_gap: bool,
    /// Answer /livez, /readyz and /metrics there, such as 127.0.0.1:9464
    #[arg(long, env = "PROJECTOR_HEALTH_LISTEN", value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
    /// Warn when the log will keep what is not applied for less than this
    #[arg(long, env = "PROJECTOR_HEADROOM_WARNING", value_parser = span, default_value = "6h", value_name = "DURATION")]
    headroom_warning: Duration,
    /// How soon after a projector died the others take over what it followed, about
    #[arg(long, env = "PROJECTOR_LEASE", value_parser = lease, default_value = "10s", value_name = "DURATION")]
    lease: Duration,
    #[command(flatten)]
    due: DuePolicyArgs,
}

/// Shorter, and a busy machine looks like a dead one; longer, and nobody takes over.
fn lease(text: &str) -> Result<Duration, String> {
    let lease = span(text).map_err(|error| error.to_string())?;
    let is_sound = (Duration::from_secs(1)..=Duration::from_hours(1)).contains(&lease);
    is_sound.then_some(lease).ok_or_else(|| "give 1s to 1h".to_owned())
}

impl Project {
    pub(super) async fn run(self, backends: &Backends, shutdown: CancellationToken) -> anyhow::Result<Outcome> {
        let log = backends.log().await?;
        let index = backends.index().await?;
        agree_on_due_policy(backends, &self.due.policy()).await?;
        if self.accept_gap {
            accept_gaps(log.log.as_ref(), backends).await?;
        }
        let settings = ProjectorSettings { headroom_warning: self.headroom_warning, ..ProjectorSettings::default() };
        let leases = backends.partition_leases().await?;
        let projector = Projector::new(log.log, log.dead_letters, index, settings).sharing(leases, self.lease);
        let _health = match self.health_listen {
            Some(address) => Some(health::listen(address, Arc::new(projector.status()), shutdown.clone()).await?),
            None => None,
        };
        let report = projector.run(shutdown).await?;
        print(&report);
        Ok(Outcome::Done)
    }
}

/// Fills the live generation by `wanted`, if nothing was written to it yet; else says that it was built otherwise.
async fn agree_on_due_policy(backends: &Backends, wanted: &DuePolicy) -> anyhow::Result<()> {
    let generations = backends.index_generations().await?;
    let live = generations.generations().await?.live;
    let built_by = generations.due_policy(live, wanted).await?;
    if built_by != *wanted {
        tracing::warn!(
            ?built_by,
            ?wanted,
            "the index was built by other due times and keeps them; run `consumer rebuild`"
        );
    }
    Ok(())
}

/// Moves the checkpoint of every partition that has a gap to the first message of the log, and says so.
pub(super) async fn accept_gaps(log: &dyn ActivityLog, backends: &Backends) -> anyhow::Result<Vec<LogGap>> {
    let generations = backends.index_generations().await?;
    let live = generations.generation(generations.generations().await?.live);
    let mut accepted = Vec::new();
    for partition in 0..log.partitions().await? {
        if let Some(gap) = LogGap::find(log, &*live, partition).await? {
            gap.accept(&*live).await?;
            tracing::warn!(%gap, "accepted");
            accepted.push(gap);
        }
    }
    Ok(accepted)
}

fn print(report: &ProjectorReport) {
    let refused: u64 = report.refused.values().sum();
    output::fields(&[("events applied", report.events_applied.to_string()), ("dead letters", refused.to_string())]);
}
