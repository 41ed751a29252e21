//! The commands of `producer`: what was typed becomes what is meant, and each command is a file.

mod relay;
mod simulate;
mod web;

use clap::{Parser, Subcommand};
use common::backends::Backends;
use common::program::{self, Outcome};
use common::settings::{Connections, UsernameSettings};
use common::telemetry::LogSettings;

/// The web side: a web app that signs users in, the mover of the token cache's events, and load to try it with.
#[derive(Parser)]
#[command(name = "producer", version, subcommand_required = true, arg_required_else_help = true)]
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
    /// Move events from the outbox to the log, until told to stop
    Relay(relay::Relay),
    /// Write realistic caches through the real adapter
    Simulate(simulate::Simulate),
    /// Sign users in, keep their tokens through the adapter, and act for them on a page
    Web(Box<web::Web>),
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<Outcome> {
        self.logs.start()?;
        let backends = Backends::new(self.connections);
        let shutdown = program::shutdown_on_signals()?;
        match self.command {
            Command::Relay(command) => command.run(&backends, shutdown).await,
            Command::Simulate(command) => command.run(&backends, self.usernames.policy()?, shutdown).await,
            Command::Web(command) => command.run(&backends, self.usernames.policy()?, shutdown).await,
        }
    }
}
