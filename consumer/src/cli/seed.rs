//! `consumer seed`: fills the index up from the token caches.

use clap::Args;
use common::backends::Backends;
use common::event::UsernamePolicy;
use common::output;
use common::program::Outcome;
use consumer::seed::{SeedReport, Seeding};
use serde::Serialize;

use super::bar::Bar;
use super::project::accept_gaps;

/// Fill the index up from the token caches, and go on after a gap of the log; an event always beats what is seeded
#[derive(Args)]
pub(super) struct Seed {
    /// A JSON line each second, and one at the end, instead of a bar
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct View {
    #[serde(flatten)]
    report: SeedReport,
    /// The partitions whose gap was passed.
    gaps_accepted: Vec<u32>,
}

pub(super) async fn seeding(backends: &Backends, usernames: UsernamePolicy) -> anyhow::Result<Seeding> {
    let cache = backends.token_cache().await?;
    Ok(Seeding::new(cache.scan, backends.settings().cache_cipher()?, usernames))
}

impl Seed {
    pub(super) async fn run(self, backends: &Backends, usernames: UsernamePolicy) -> anyhow::Result<Outcome> {
        let seeding = seeding(backends, usernames).await?;
        let (log, index) = (backends.log().await?.log, backends.index().await?);
        let bar = Bar::new(self.json);
        let report = seeding.run(&*index, &|progress| bar.show(progress)).await;
        bar.done();
        let report = report?;
        let gaps_accepted = accept_gaps(&*log, backends).await?.iter().map(|gap| gap.partition).collect();
        let view = View { report, gaps_accepted };
        if self.json {
            output::json_line(&view)?;
        } else {
            view.print();
        }
        Ok(Outcome::Done)
    }
}

impl View {
    fn print(&self) {
        let SeedReport { caches, seeded, known, removed, of_nobody, unreadable } = self.report;
        output::fields(&[
            ("caches", caches.to_string()),
            ("seeded", seeded.to_string()),
            ("known by events", known.to_string()),
            ("removed", removed.to_string()),
            ("of nobody", of_nobody.to_string()),
            ("unreadable", unreadable.to_string()),
            ("gaps accepted", self.gaps_accepted.len().to_string()),
        ]);
    }
}
