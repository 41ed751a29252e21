//! `producer relay`: moves events until told to stop.

use clap::Args;
use common::backends::Backends;
use common::output;
use common::program::Outcome;
use common::settings::span;
use producer::relay::{Relay as EventRelay, RelayReport, RelaySettings};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Move events from the outbox to the log, until told to stop
#[derive(Args)]
pub(super) struct Relay {
    /// How long confirmed events stay in the outbox, to be sent again after a crash of the broker
    #[arg(long, env = "OUTBOX_GRACE", default_value = "10m", value_parser = span, value_name = "DURATION")]
    grace: Duration,
}

impl Relay {
    pub(super) async fn run(self, backends: &Backends, shutdown: CancellationToken) -> anyhow::Result<Outcome> {
        let outbox = backends.token_cache().await?.outbox;
        let log = backends.log().await?.log;
        let settings = RelaySettings { grace: self.grace, ..RelaySettings::default() };
        let report = EventRelay::new(outbox, log, settings).run(shutdown).await;
        print(&report);
        Ok(Outcome::Done)
    }
}

fn print(report: &RelayReport) {
    output::fields(&[
        ("events published", report.events_published.to_string()),
        ("messages", report.batches.to_string()),
        ("given back to the outbox", report.left.to_string()),
    ]);
}
