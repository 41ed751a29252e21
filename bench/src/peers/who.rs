//! Who the peers are, and whether they are here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Serialize;
use tokio::process::Command;

/// A projector in another language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    AioPika,
    FastStream,
    Amqplib,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// As the libraries' own documentation leads to: one event at a time, and what arrives is overwritten.
    Defaults,
    /// Prefetch 500, batches, pipelines, multiple acks; times are compared, the offset is kept.
    Tuned,
}

impl Peer {
    pub(super) const ALL: [Self; 3] = [Self::AioPika, Self::FastStream, Self::Amqplib];

    fn name(self) -> &'static str {
        match self {
            Self::AioPika => "aio-pika and redis-py",
            Self::FastStream => "FastStream and redis-py",
            Self::Amqplib => "amqplib and ioredis",
        }
    }

    /// The command that runs it.
    pub(super) fn command(self, folder: &Path) -> Command {
        let (mut command, script) = match self {
            Self::AioPika => (Command::new(python(folder)), "aio_pika_peer.py"),
            Self::FastStream => (Command::new(python(folder)), "faststream_peer.py"),
            Self::Amqplib => (Command::new("node"), "amqplib_peer.mjs"),
        };
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script));
        command.env("PEER_NODE_MODULES", node_modules(folder)).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Whether its interpreter runs and finds its packages.
    pub(super) async fn is_here(self, folder: &Path) -> bool {
        let has_package = |name: &str| node_modules(folder).join(name).join("package.json").is_file();
        match self {
            Self::AioPika => {
                succeeds(Command::new(python(folder)).args(["-c", "import aio_pika, hiredis, redis"])).await
            }
            Self::FastStream => {
                succeeds(Command::new(python(folder)).args(["-c", "import faststream.rabbit, hiredis, redis"])).await
            }
            Self::Amqplib => {
                has_package("amqplib")
                    && has_package("ioredis")
                    && succeeds(Command::new("node").arg("--version")).await
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Defaults => "at its defaults",
            Self::Tuned => "tuned",
        })
    }
}

fn python(folder: &Path) -> PathBuf {
    folder.join("python/bin/python")
}

fn node_modules(folder: &Path) -> PathBuf {
    folder.join("node/node_modules")
}

async fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.kill_on_drop(true).status().await.is_ok_and(|status| status.success())
}
