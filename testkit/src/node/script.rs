//! One of the scripts under `testkit/node`, running: a line out, a line in.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::environment::variable;

/// How long a line may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running script. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Script {
    name: &'static str,
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Script {
    /// Starts `testkit/node/{name}` with one argument.
    pub(super) fn start(name: &'static str, argument: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node").join(name);
        let mut command = Command::new(needed("TEST_NODE"));
        command.arg(script).arg(argument).env("TEST_NODE_MODULES", needed("TEST_NODE_MODULES"));
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let started = piped.kill_on_drop(true).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("Node.js does not run: {error}"));
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            panic!("Node.js runs without its pipes");
        };
        Self { name, _child: child, input, output: BufReader::new(output).lines() }
    }

    pub(super) async fn tell(&mut self, line: &impl Serialize) {
        let mut text = serde_json::to_string(line).unwrap_or_else(|error| panic!("no line of JSON: {error}"));
        text.push('\n');
        if let Err(error) = self.input.write_all(text.as_bytes()).await {
            panic!("{} listens no more: {error}", self.name);
        }
    }

    pub(super) async fn hear<T: DeserializeOwned>(&mut self) -> T {
        let name = self.name;
        let Ok(Ok(Some(line))) = tokio::time::timeout(PATIENCE, self.output.next_line()).await else {
            panic!("{name} said nothing within {PATIENCE:?}, or has ended: try it by hand, as its first lines tell");
        };
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name} said no such line: {error}"))
    }
}

/// What `scripts/test` sets up and tells by a variable.
pub(super) fn needed(name: &str) -> PathBuf {
    let path = variable(name).map(PathBuf::from);
    path.unwrap_or_else(|| panic!("this test needs {name}: run it by scripts/test, which installs what it names"))
}
