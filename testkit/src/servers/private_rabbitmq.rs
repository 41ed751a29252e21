//! A RabbitMQ of a test's own, to be killed, paused and restarted.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::process::{ServerProcess, free_port};
use super::tls::ServerTls;
use crate::environment::variable;

const BOOT: Duration = Duration::from_secs(120);
const SHUTDOWN: Duration = Duration::from_secs(60);
const DEBIAN_LIBRARY: &str = "/usr/lib/rabbitmq/lib";

/// How a private RabbitMQ is set up.
#[derive(Debug, Clone, Default)]
pub struct RabbitMqOptions {
    /// A TLS listener.
    pub tls: Option<ServerTls>,
    /// Plugins to enable, for instance `rabbitmq_management`.
    pub plugins: Vec<String>,
    /// Further lines of `rabbitmq.conf`.
    pub config_lines: Vec<String>,
}

/// A RabbitMQ in a directory of its own, with the user `guest`; killed and removed when dropped.
///
/// Booting takes 5 s on an idle machine, so take one only for what the shared broker must not suffer.
pub struct PrivateRabbitMq {
    process: Option<ServerProcess>,
    scripts: PathBuf,
    node: String,
    port: u16,
    tls_port: u16,
    management_port: u16,
    distribution_port: u16,
    has_tls: bool,
    directory: TempDir,
}

impl PrivateRabbitMq {
    /// Starts a broker; ready when this returns.
    ///
    /// # Panics
    /// When RabbitMQ is not installed or does not come up.
    pub async fn start(options: RabbitMqOptions) -> Self {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory for RabbitMQ: {error}"));
        let mut broker = Self {
            process: None,
            scripts: find_scripts(),
            node: format!("testkit-{}@localhost", uuid::Uuid::now_v7().simple()),
            port: free_port(),
            tls_port: free_port(),
            management_port: free_port(),
            distribution_port: free_port(),
            has_tls: options.tls.is_some(),
            directory,
        };
        broker.write_configuration(&options);
        broker.start_again().await;
        broker
    }

    /// Starts the stopped or killed broker again, with the same data and port.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_again(&mut self) {
        let mut command = self.script("rabbitmq-server");
        let process = self.process.insert(ServerProcess::start(&mut command, &self.directory.path().join("output")));
        let port = self.port;
        let up = crate::wait::poll_within(BOOT, || {
            let ended = !process.is_running();
            async move { (ended || answers(port).await).then_some(!ended) }
        });
        if up.await != Some(true) {
            panic!("a private RabbitMQ did not come up; its output ends:\n{}", process.log_tail());
        }
    }

    /// The URL of the plain listener and the default vhost.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The URL of the TLS listener and the default vhost.
    ///
    /// # Panics
    /// When the options have no TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        assert!(self.has_tls, "this private RabbitMQ was started without TLS");
        format!("amqps://guest:guest@127.0.0.1:{}/%2f", self.tls_port)
    }

    /// The URL of the management HTTP API, with its user; answered when the plugin `rabbitmq_management` is enabled.
    #[must_use]
    pub fn management_url(&self) -> String {
        format!("http://guest:guest@127.0.0.1:{}", self.management_port)
    }

    /// The port of the plain listener.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory its streams are in.
    #[must_use]
    pub fn stream_files(&self) -> PathBuf {
        self.directory.path().join("mnesia").join(&self.node).join("stream")
    }

    /// Kills the broker, as a crash would.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// Ends the broker in good order.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(SHUTDOWN).await;
        }
    }

    /// Freezes the broker: it accepts connections and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen broker go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Makes what was declared survive a crash. RabbitMQ writes down half a second later which streams it leads; one that
    /// is killed before that leaves them down for good (seen with 3.10.8).
    pub async fn remember_what_was_declared(&self) {
        self.rabbitmqctl(&["eval", "[dets:sync(Table) || Table <- dets:all()]."]).await;
    }

    /// Runs `rabbitmqctl` on this broker, for instance `&["close_all_connections", "a test"]`; its standard output.
    ///
    /// # Panics
    /// When the command fails.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let mut command = self.script("rabbitmqctl");
        command.args(arguments).arg("--quiet");
        let ran = tokio::task::spawn_blocking(move || command.output()).await;
        let output = ran.unwrap_or_else(|error| panic!("rabbitmqctl was cut short: {error}"));
        printed(arguments, &output.unwrap_or_else(|error| panic!("rabbitmqctl does not start: {error}")))
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.scripts.join(name));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RABBITMQ_")) {
            command.env_remove(name);
        }
        let directory = self.directory.path();
        command
            .env("HOME", directory)
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", directory.join("log"))
            .env("RABBITMQ_CONF_ENV_FILE", directory.join("rabbitmq-env.conf"))
            .env("RABBITMQ_CONFIG_FILE", directory.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", directory.join("enabled_plugins"))
            .env("RABBITMQ_PID_FILE", directory.join("pid"));
        command
    }

    fn write_configuration(&self, options: &RabbitMqOptions) {
        let directory = self.directory.path();
        write(&directory.join("rabbitmq-env.conf"), "");
        write(&directory.join("enabled_plugins"), &format!("[{}].\n", options.plugins.join(",")));
        write(&directory.join("rabbitmq.conf"), &self.configuration(options));
    }

    fn configuration(&self, options: &RabbitMqOptions) -> String {
        let mut lines = vec![format!("listeners.tcp.default = 127.0.0.1:{}", self.port)];
        if let Some(tls) = &options.tls {
            lines.extend(self.tls_lines(tls));
        }
        if options.plugins.iter().any(|plugin| plugin == "rabbitmq_management") {
            lines.push("management.tcp.ip = 127.0.0.1".to_owned());
            lines.push(format!("management.tcp.port = {}", self.management_port));
        }
        lines.extend(options.config_lines.iter().cloned());
        lines.join("\n") + "\n"
    }

    fn tls_lines(&self, tls: &ServerTls) -> Vec<String> {
        let verify = if tls.requires_client_certificate { "verify_peer" } else { "verify_none" };
        vec![
            format!("listeners.ssl.default = 127.0.0.1:{}", self.tls_port),
            format!("ssl_options.cacertfile = {}", tls.authority.display()),
            format!("ssl_options.certfile = {}", tls.files.certificate.display()),
            format!("ssl_options.keyfile = {}", tls.files.key.display()),
            format!("ssl_options.verify = {verify}"),
            format!("ssl_options.fail_if_no_peer_cert = {}", tls.requires_client_certificate),
        ]
    }
}

/// Where the server's own scripts are: the packaged wrapper in the `PATH` changes user and insists on its own directories.
fn find_scripts() -> PathBuf {
    let packaged = std::fs::read_dir(DEBIAN_LIBRARY).into_iter().flatten().flatten();
    let packaged = packaged.map(|entry| entry.path().join("sbin"));
    let path = variable("PATH").unwrap_or_default();
    let found =
        packaged.chain(std::env::split_paths(&path)).find(|directory| directory.join("rabbitmq-server").is_file());
    found.unwrap_or_else(|| panic!("this test starts a RabbitMQ of its own: install the package rabbitmq-server"))
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
}

fn printed(arguments: &[&str], output: &Output) -> String {
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        panic!("rabbitmqctl {} failed: {}", arguments.join(" "), text.trim());
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// True when the broker answers a protocol header with `Connection.Start`, a method frame (type 1).
async fn answers(port: u16) -> bool {
    super::shared::say(port, b"AMQP\0\0\x09\x01").await.is_some_and(|answer| answer.first() == Some(&1))
}
