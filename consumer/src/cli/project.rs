//! `consumer project`: follows the log until told to stop.

use clap::Args;
use common::backends::Backends;
use common::output;
use common::program::Outcome;
use consumer::projector::{Projector, ProjectorReport, ProjectorSettings};
use tokio_util::sync::CancellationToken;

/// Follow the log and keep the index up to date
#[derive(Args)]
pub(super) struct Project {}

impl Project {
    pub(super) async fn run(self, backends: &Backends, shutdown: CancellationToken) -> anyhow::Result<Outcome> {
        let log = backends.log().await?;
        let index = backends.index().await?;
        let projector = Projector::new(log.log, log.dead_letters, index, ProjectorSettings::default());
        let report = projector.run(shutdown).await?;
        print(&report);
        Ok(Outcome::Done)
    }
}

fn print(report: &ProjectorReport) {
    let refused: u64 = report.refused.values().sum();
    output::fields(&[("events applied", report.events_applied.to_string()), ("dead letters", refused.to_string())]);
}
