//! Runs the program `consumer` as a user would.

use std::process::{Output, Stdio};

use common::log::{DeadLetters as _, ParkedLetter, RabbitMqLog, RabbitMqOptions};
use serde_json::Value;
use tokio::process::{Child, Command};

/// The servers a test's commands are pointed at; only what is set is given.
#[derive(Clone, Default)]
pub(crate) struct Servers {
    pub(crate) log: Option<String>,
    pub(crate) index: Option<String>,
    pub(crate) index_prefix: Option<String>,
}

impl Servers {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consumer"));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        for (variable, value) in [
            ("ACTIVITY_LOG_URL", &self.log),
            ("ACTIVITY_INDEX_URL", &self.index),
            ("ACTIVITY_INDEX_PREFIX", &self.index_prefix),
        ] {
            command.env_remove(variable);
            command.envs(value.as_ref().map(|value| (variable, value)));
        }
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Runs a command that has to succeed, and reads the one JSON document on its standard output.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts a command that goes on until the child is dropped or told to stop.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).spawn().unwrap()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The dead letters on a broker, oldest first.
pub(crate) async fn parked(broker: &str) -> Vec<ParkedLetter> {
    let log = RabbitMqLog::connect(&RabbitMqOptions::new(broker.parse().unwrap())).unwrap();
    log.peek(100).await.unwrap()
}
