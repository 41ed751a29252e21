//! `consumer keys`: the keys that blobs are encrypted under.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use common::backends::Backends;
use common::output;
use common::program::Outcome;
use common::token_cache::encryption::{KeyId, KeyText, RewrapOptions, add_fresh_key};
use consumer::rewrap::{RewrapReport, count_blobs, rewrap_all};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

/// The keys that blobs are encrypted under
#[derive(Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make a key: a line of a key file, on standard output or added to a file
    New {
        /// The file to add it to; made where there is none. It is active in a new file, inactive among others
        #[arg(long)]
        file: Option<PathBuf>,
        /// What it is called [default: today and eight random digits]
        #[arg(long)]
        id: Option<KeyId>,
    },
    /// Encrypt every blob under the active key, while the apps go on; may be stopped and begun again
    Rewrap(RewrapArgs),
}

#[derive(Args)]
struct RewrapArgs {
    /// Encrypt plain text caches too: the way from a cache that was not encrypted
    #[arg(long)]
    from_plaintext: bool,
    /// Write nothing, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

impl Keys {
    pub(super) async fn run(self, backends: &Backends, shutdown: CancellationToken) -> anyhow::Result<Outcome> {
        match self.what {
            What::New { file, id } => new(file, id),
            What::Rewrap(arguments) => arguments.run(backends, &shutdown).await,
        }
    }
}

fn new(file: Option<PathBuf>, id: Option<KeyId>) -> anyhow::Result<Outcome> {
    let id = id.unwrap_or_else(KeyId::of_today);
    match file {
        None => output::line(KeyText::fresh(id, true)?.expose()),
        Some(file) => {
            let state = if add_fresh_key(&file, id.clone())? { "active" } else { "inactive" };
            output::line(&format!("{state} key {id} added to {}", file.display()));
        }
    }
    Ok(Outcome::Done)
}

impl RewrapArgs {
    async fn run(self, backends: &Backends, shutdown: &CancellationToken) -> anyhow::Result<Outcome> {
        let options = RewrapOptions { takes_plaintext: self.from_plaintext, is_dry_run: self.dry_run };
        let rewrap = backends.rewrap(options).await?;
        let bar = progress_bar();
        if std::io::stderr().is_terminal() {
            let count = shutdown.run_until_cancelled(count_blobs(&rewrap)).await.transpose()?;
            bar.set_length(count.unwrap_or_default());
        }
        let outcome = rewrap_all(&rewrap, shutdown, || bar.inc(1)).await;
        bar.finish_and_clear();
        let report = outcome?;
        if self.json {
            output::json(&report)?;
        } else {
            self.print(&report);
        }
        let is_good = if self.dry_run { report.was_all_done() } else { report.is_all_done() };
        Ok(if is_good { Outcome::Done } else { Outcome::Difference })
    }

    fn print(&self, report: &RewrapReport) {
        let done = if self.dry_run { "to be rewrapped" } else { "rewrapped" };
        let encrypted = if self.dry_run { "to be encrypted" } else { "encrypted" };
        let rows = [
            (done, report.rewrapped),
            (encrypted, report.encrypted),
            ("already active", report.already_active),
            ("plain text", report.plain_text),
            ("undecryptable", report.undecryptable),
            ("unreadable", report.unreadable + report.unreadable_names),
            ("contended", report.contended),
            ("vanished", report.vanished),
        ];
        output::table(&["BLOBS", ""], rows.map(|(name, count)| vec![name.to_owned(), count.to_string()]));
        if !report.problems.is_empty() {
            output::line("");
            let rows = report.problems.iter().map(|problem| vec![problem.cache_key.to_string(), problem.why.clone()]);
            output::table(&["CACHE KEY", "WHY NOT"], rows);
        }
        if !report.is_complete {
            output::line("stopped before the end; run it again to go on");
        }
    }
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} blobs  {per_sec}  {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
