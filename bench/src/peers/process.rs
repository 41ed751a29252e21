//! A peer as a process: what it is told, what it says, and its end, which is always a kill.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::who::{Mode, Peer};

/// For an interpreter to start and to connect.
const START_LIMIT: Duration = Duration::from_secs(30);
/// For a run; what was applied until then is counted.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// What is kept of standard error, in lines: the last ones.
const COMPLAINT_LINES: usize = 20;

/// What a peer is to do.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) peer: Peer,
    pub(super) mode: Mode,
    /// Where its packages are.
    pub(super) folder: &'a Path,
    pub(super) amqp_url: &'a str,
    pub(super) redis_url: &'a str,
    /// Of all its keys.
    pub(super) prefix: &'a str,
    pub(super) stream: &'a str,
    /// How many of the stream's first events it applies.
    pub(super) events: usize,
}

/// How far a peer came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) applied: usize,
    pub(super) is_done: bool,
    /// From the start of consuming; the interpreter's start is no part of it.
    pub(super) events_per_second: f64,
}

/// Runs a peer until it is done, or the limit has passed.
pub(super) async fn run(task: Task<'_>) -> anyhow::Result<Outcome> {
    let mut running = Running::start(task).await?;
    let begun = Instant::now();
    let is_done = running.read_until(|said| said == Said::Done).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let applied = if is_done { task.events } else { running.applied };
    running.kill().await?;
    Ok(Outcome { applied, is_done, events_per_second: applied as f64 / seconds })
}

/// Kills a peer when it has applied half of its events, and runs it again.
pub(super) async fn run_killed_half_way(task: Task<'_>) -> anyhow::Result<Outcome> {
    let mut running = Running::start(task).await?;
    // Who does not come so far within the limit will not do the whole either, which the second run tells.
    let is_half = |said| matches!(said, Said::Applied(events) if events >= task.events / 2) || said == Said::Done;
    running.read_until(is_half).await?;
    running.kill().await?;
    run(task).await
}

/// What a peer says, a line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It begins to consume.
    Connected,
    /// So many of the stream's first events are applied.
    Applied(usize),
    /// All are.
    Done,
}

struct Running {
    name: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    complaint: Option<JoinHandle<Vec<String>>>,
    applied: usize,
}

impl Running {
    /// Starts the process and waits until it is connected.
    async fn start(task: Task<'_>) -> anyhow::Result<Self> {
        let name = format!("{}, {}", task.peer, task.mode);
        let mut command = command(task);
        let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let complaint = tokio::spawn(last_lines(child.stderr.take().context("no standard error")?));
        let mut running = Self { name, child, lines, complaint: Some(complaint), applied: 0 };
        match timeout(START_LIMIT, running.said()).await {
            Ok(Ok(Said::Connected)) => Ok(running),
            Ok(Ok(said)) => anyhow::bail!("{} began with {said:?}", running.name),
            Ok(Err(error)) => Err(error),
            Err(_) => anyhow::bail!("{} did not connect within {START_LIMIT:?}", running.name),
        }
    }

    /// Whether it said so before the limit.
    async fn read_until(&mut self, is_it: impl Fn(Said) -> bool) -> anyhow::Result<bool> {
        let reading = async {
            while !is_it(self.said().await?) {}
            Ok(())
        };
        match timeout(RUN_LIMIT, reading).await {
            Ok(read) => read.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Passes over what the libraries log to standard output.
    async fn said(&mut self) -> anyhow::Result<Said> {
        while let Some(line) = self.lines.next_line().await? {
            match line.split_once(' ') {
                None if line == "connected" => return Ok(Said::Connected),
                None if line == "done" => return Ok(Said::Done),
                Some(("applied", number)) => {
                    self.applied = number.parse().with_context(|| format!("{} said '{line}'", self.name))?;
                    return Ok(Said::Applied(self.applied));
                }
                _ => {}
            }
        }
        let complaint = match self.complaint.take() {
            Some(reading) => reading.await?.join("\n"),
            None => String::new(),
        };
        anyhow::bail!("{} ended before it was done\n{complaint}", self.name)
    }

    /// `kill -9`, and waits for the process to be gone.
    async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// With its settings in the environment: addresses may hold passwords, and arguments are seen by everybody.
fn command(task: Task<'_>) -> Command {
    let mut command = task.peer.command(task.folder);
    command.env("PEER_AMQP_URL", task.amqp_url).env("PEER_REDIS_URL", task.redis_url);
    command.env("PEER_PREFIX", task.prefix).env("PEER_STREAM", task.stream);
    command.env("PEER_EVENTS", task.events.to_string());
    command.env("PEER_MODE", if task.mode == Mode::Tuned { "tuned" } else { "defaults" });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Reads all, so that who writes never waits, and keeps the end.
async fn last_lines(output: impl AsyncRead + Unpin) -> Vec<String> {
    let mut lines = BufReader::new(output).lines();
    let mut last = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if last.len() == COMPLAINT_LINES {
            last.remove(0);
        }
        last.push(line);
    }
    last
}
