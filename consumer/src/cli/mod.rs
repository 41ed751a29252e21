//! The commands of `consumer`: what was typed becomes what is meant, and each command is a file.

mod account;
mod api_token;
mod bar;
mod dead;
mod doctor;
mod due;
mod erase;
mod exec;
mod health;
mod hydrate;
mod keys;
mod openapi;
mod pick;
mod project;
mod query;
mod rebuild;
mod replay;
mod seed;
mod serve;
mod snapshot;
mod topology;
mod verify;
mod work;

use clap::{Parser, Subcommand};
use common::backends::Backends;
use common::program::{self, Outcome};
use common::settings::{Connections, UsernameSettings};
use common::telemetry::LogSettings;

/// The read side: projects the log of activity events into an index, and answers from it.
#[derive(Parser)]
#[command(name = "consumer", version, subcommand_required = true, arg_required_else_help = true)]
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
    /// Follow the log and keep the index up to date
    Project(project::Project),
    /// Make the index anew from the log, beside the live one, and swap it in
    Rebuild(rebuild::Rebuild),
    /// Apply part of the log to the live index again
    Replay(replay::Replay),
    /// Fill the index up from the token caches, and go on after a gap of the log
    Seed(seed::Seed),
    /// Hold the index against the log, and put right what differs
    Verify(verify::Verify),
    /// List accounts of the index
    Query(query::Query),
    /// Look at one account, or find out why it has no token
    Account(account::Account),
    /// Answer the HTTP API: accounts and claims for workers in any language
    Serve(Box<serve::Serve>),
    /// The tokens that the HTTP API is asked with
    ApiToken(api_token::ApiTokens),
    /// Print the OpenAPI document of the HTTP API
    #[command(name = "openapi")]
    OpenApi,
    /// The keys that blobs are encrypted under
    Keys(keys::Keys),
    /// Acquire tokens for accounts whose users are away, and keep their caches alive
    Hydrate(Box<hydrate::Hydrate>),
    /// Hydrate accounts that are due, for ever, beside any number of others
    Work(Box<work::Work>),
    /// Look at events that could not be applied, send them again, or drop them
    Dead(dead::Dead),
    /// Write the index to one file, or restore it from one
    Snapshot(snapshot::Snapshot),
    /// Show the exchange, streams and queues of the log, or declare them
    Topology(topology::Topology),
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<Outcome> {
        self.logs.start()?;
        let backends = Backends::new(self.connections);
        match self.command {
            Command::Project(command) => command.run(&backends, program::shutdown_on_signals()?).await,
            Command::Rebuild(command) => {
                command.run(&backends, self.usernames.policy()?, program::shutdown_on_signals()?).await
            }
            Command::Seed(command) => command.run(&backends, self.usernames.policy()?).await,
            Command::Replay(command) => command.run(&backends).await,
            Command::Verify(command) => command.run(&backends).await,
            Command::Query(command) => command.run(&backends, &self.usernames.policy()?).await,
            Command::Account(command) => command.run(&backends, &self.usernames.policy()?).await,
            Command::Serve(command) => {
                command.run(&backends, self.usernames.policy()?, program::shutdown_on_signals()?).await
            }
            Command::ApiToken(command) => command.run(),
            Command::OpenApi => openapi::run(),
            Command::Keys(command) => command.run(&backends, program::shutdown_on_signals()?).await,
            Command::Hydrate(command) => {
                command.run(&backends, &self.usernames.policy()?, program::shutdown_on_signals()?).await
            }
            Command::Work(command) => command.run(&backends, program::shutdown_on_signals()?).await,
            Command::Dead(command) => command.run(&backends).await,
            Command::Snapshot(command) => command.run(&backends).await,
            Command::Topology(command) => command.run(&backends).await,
        }
    }
}
