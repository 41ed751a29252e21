//! A Redis of a test's own, to be killed, paused and restarted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use redis::{FromRedisValue, RedisResult};
use rustix::process::Signal;
use tempfile::TempDir;

use super::process::{ServerProcess, free_port};
use super::tls::ServerTls;

const BOOT: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(10);

/// Logged once the data is loaded. A `PING` would not tell: a server with a password refuses it before that as after.
const READY: &str = "Ready to accept connections";

/// How a private Redis is set up.
#[derive(Clone, Default)]
pub struct RedisOptions {
    /// Keep an append-only file, synced at every write.
    pub appendonly: bool,
    /// `maxmemory`, for instance `64mb`.
    pub maxmemory: Option<String>,
    /// The default user's password (`requirepass`).
    pub password: Option<String>,
    /// Lines of an ACL file, for instance `user worker on >secret ~app:* +@all`. Say `user default …` as well: an ACL
    /// file replaces `password`.
    pub acl: Vec<String>,
    /// A TLS listener.
    pub tls: Option<ServerTls>,
    /// Further lines of `redis.conf`.
    pub config_lines: Vec<String>,
    /// The port on which it speaks to the other nodes of a cluster, which the lines enable.
    pub cluster_port: Option<u16>,
}

/// A Redis in a directory of its own; killed and removed when dropped.
pub struct PrivateRedis {
    process: Option<ServerProcess>,
    options: RedisOptions,
    port: u16,
    tls_port: u16,
    directory: TempDir,
}

impl PrivateRedis {
    /// Starts a server; ready when this returns.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not come up.
    pub async fn start(options: RedisOptions) -> Self {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory for Redis: {error}"));
        let mut redis = Self { process: None, options, port: free_port(), tls_port: free_port(), directory };
        redis.write_configuration();
        redis.start_again().await;
        redis
    }

    /// Starts the stopped or killed server again, with the same data and port.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_again(&mut self) {
        let mut command = Command::new("redis-server");
        command.arg(self.file("redis.conf")).current_dir(self.directory.path());
        let process = self.process.insert(ServerProcess::start(&mut command, &self.directory.path().join("log")));
        let up = crate::wait::poll_within(BOOT, || {
            let ended = !process.is_running();
            let ready = process.log_tail().contains(READY);
            async move { (ended || ready).then_some(!ended) }
        });
        if up.await != Some(true) {
            panic!("a private Redis did not come up; its log ends:\n{}", process.log_tail());
        }
    }

    /// The URL of the plain listener, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.options.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{password}127.0.0.1:{}", self.port)
    }

    /// The URL of the TLS listener.
    ///
    /// # Panics
    /// When the options have no TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        assert!(self.options.tls.is_some(), "this private Redis was started without TLS");
        let password = self.options.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("rediss://{password}127.0.0.1:{}", self.tls_port)
    }

    /// The port of the plain listener.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port for the other nodes of its cluster; 0 where it is in none.
    pub(super) fn cluster_port(&self) -> u16 {
        self.options.cluster_port.unwrap_or_default()
    }

    /// Kills the server, as a crash would.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// Ends the server in good order.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(PATIENCE).await;
        }
    }

    /// Freezes the server: it accepts connections and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Runs one command over the plain listener, as `redis-cli` would: `redis.command::<usize>(&["DBSIZE"])`.
    ///
    /// # Errors
    /// When the server refuses it, or does not answer within ten seconds.
    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut connection = redis::Client::open(self.url())?.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let (name, arguments) = words.split_first().unwrap_or((&"PING", &[]));
        redis::cmd(name).arg(arguments).query(&mut connection)
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_configuration(&self) {
        write(&self.file("users.acl"), &self.options.acl);
        write(&self.file("redis.conf"), &self.configuration());
    }

    fn configuration(&self) -> Vec<String> {
        let options = &self.options;
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {}", self.port),
            format!("dir {}", self.directory.path().display()),
            "save \"\"".to_owned(),
            "daemonize no".to_owned(),
            "enable-debug-command yes".to_owned(),
        ];
        if options.appendonly {
            lines.extend(["appendonly yes".to_owned(), "appendfsync always".to_owned()]);
        }
        lines.extend(options.maxmemory.iter().map(|size| format!("maxmemory {size}")));
        match options.acl.is_empty() {
            true => lines.extend(options.password.iter().map(|password| format!("requirepass {password}"))),
            false => lines.push(format!("aclfile {}", self.file("users.acl").display())),
        }
        lines.extend(options.tls.iter().flat_map(|tls| self.tls_lines(tls)));
        lines.extend(options.config_lines.iter().cloned());
        lines
    }

    fn tls_lines(&self, tls: &ServerTls) -> Vec<String> {
        vec![
            format!("tls-port {}", self.tls_port),
            format!("tls-ca-cert-file {}", tls.authority.display()),
            format!("tls-cert-file {}", tls.files.certificate.display()),
            format!("tls-key-file {}", tls.files.key.display()),
            format!("tls-auth-clients {}", if tls.requires_client_certificate { "yes" } else { "no" }),
        ]
    }
}

fn write(path: &Path, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
}
