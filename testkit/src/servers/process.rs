//! A server process with its children: started, signalled and waited for as one group.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Ports from 32768 on are handed to outgoing connections: a client that reconnects over loopback to a server that is
/// away may be given the server's own port, connects to itself, and the server cannot come back.
const PORTS: std::ops::Range<u16> = 20_000..32_768;
const PORT_TRIES: usize = 200;
const LOG_TAIL_BYTES: usize = 4_000;

/// A running server. Dropping it kills the whole group.
#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl ServerProcess {
    /// Starts `command` in a process group of its own, with its output in `log`.
    pub(super) fn start(command: &mut Command, log: &Path) -> Self {
        let output = File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = output.unwrap_or_else(|error| panic!("no log file for a private server: {error}"));
        let spawned = command.process_group(0).stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        let child = spawned
            .unwrap_or_else(|error| panic!("{} does not start: {error}: install it", command.get_program().display()));
        Self { group: Pid::from_child(&child), child, log: log.to_owned() }
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Signals the group; a group that is gone already is fine.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }

    /// Asks the first process to end and waits for it.
    pub(super) async fn terminate(&mut self, limit: Duration) {
        let _ = kill_process(self.group, Signal::TERM);
        let ended = crate::wait::poll_within(limit, || {
            let running = self.is_running();
            async move { (!running).then_some(()) }
        });
        if ended.await.is_none() {
            panic!("a private server did not end within {limit:?}; its log ends:\n{}", self.log_tail());
        }
    }

    /// Ends the group at once.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    pub(super) fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port nobody listens on now, below the range of outgoing connections; each is given once in a process.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let free = (0..PORT_TRIES)
        .map(|_| rand::random_range(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok() && given.insert(*port));
    free.unwrap_or_else(|| panic!("no free port in {PORTS:?}"))
}
