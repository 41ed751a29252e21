//! Logs: to standard error, as text for people or JSON for machines.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How the program logs.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Logs")]
pub struct LogSettings {
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,common=debug
    #[arg(long = "logs", env = "LOGS", default_value = "warn", value_name = "FILTER", global = true)]
    filter: String,
    /// How it is written
    #[arg(long = "log-format", env = "LOG_FORMAT", default_value = "text", global = true)]
    format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

/// The filter is not one.
#[derive(Debug, thiserror::Error)]
#[error("--logs (LOGS) is not a filter such as info or info,common=debug")]
pub struct InvalidFilter(#[source] tracing_subscriber::filter::ParseError);

impl LogSettings {
    /// Starts logging to standard error. Later calls in one process change nothing.
    ///
    /// # Errors
    /// [`InvalidFilter`].
    pub fn start(&self) -> Result<(), InvalidFilter> {
        let filter = EnvFilter::builder().parse(self.quietened()).map_err(InvalidFilter)?;
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        let started = match self.format {
            LogFormat::Text => lines.try_init(),
            LogFormat::Json => lines.json().flatten_event(true).try_init(),
        };
        // The one error is that a subscriber is set already, by a host program or an earlier call.
        drop(started);
        Ok(())
    }

    /// The AMQP library logs as errors what is handled here, and its traces hold the login: it speaks only when named.
    fn quietened(&self) -> String {
        if self.filter.contains("lapin") { self.filter.clone() } else { format!("{},lapin=off", self.filter) }
    }
}
