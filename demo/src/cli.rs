//! What was typed, and what is shown.

use clap::{Args, Parser, Subcommand};
use common::output;
use common::program::Outcome;
use common::settings::{Connections, UsernameSettings};
use common::telemetry::LogSettings;
use demo::{DemoOptions, DemoReport};

/// The whole pipeline in one process.
#[derive(Parser)]
#[command(name = "demo", version, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connections: Connections,
    #[command(flatten)]
    usernames: UsernameSettings,
    #[command(flatten)]
    logs: LogSettings,
}

#[derive(Subcommand)]
enum Command {
    /// Sign users in, let the events flow, and find every cache again
    Demo(Demo),
}

#[derive(Args)]
struct Demo {
    /// How many users sign in
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    users: u32,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<Outcome> {
        self.logs.start()?;
        let Command::Demo(command) = self.command;
        let options = DemoOptions {
            users: command.users,
            connections: self.connections,
            usernames: self.usernames.policy()?,
            show_progress: !command.json,
        };
        let report = demo::run(options).await?;
        if command.json {
            output::json(&report)?
        } else {
            print(&report)
        }
        anyhow::ensure!(report.lost == 0, "{} users signed in and are not in the index", report.lost);
        Ok(Outcome::Done)
    }
}

fn print(report: &DemoReport) {
    let rows = report
        .sample
        .iter()
        .map(|row| vec![row.username.clone(), row.cache_key.clone(), row.last_activity.clone(), row.hydration.clone()]);
    output::table(&["USER", "CACHE KEY", "LAST ACTIVITY", "WORKER"], rows);
    output::line("");
    output::fields(&[
        ("users signed in", report.users.to_string()),
        ("cache writes", report.cache_writes.to_string()),
        ("events emitted", report.events_emitted.to_string()),
        ("events projected", report.events_projected.to_string()),
        ("accounts indexed", report.accounts_indexed.to_string()),
        ("caches hydrated", report.hydrated.to_string()),
        ("lost", report.lost.to_string()),
        ("seconds", format!("{:.1}", report.seconds)),
        ("log", report.log.clone()),
        ("index", report.index.clone()),
        ("token cache", report.cache.clone()),
    ]);
}
