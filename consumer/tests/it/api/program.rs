//! The program `consumer serve`, as an operator runs it.

use std::path::Path;
use std::process::{Output, Stdio};

use consumer::api::Scope;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::site::entry;
use crate::program::text;
use crate::rig::PATIENCE;

pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consumer"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    for variable in ["ACTIVITY_LOG_URL", "ACTIVITY_INDEX_URL", "TOKEN_CACHE_URL"] {
        command.env(variable, format!("sqlite://{}/all.db", folder.display()));
    }
    command
}

/// A server that listens where its first line says.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) url: String,
    _stdout: BufReader<ChildStdout>,
}

impl Serving {
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        tokio::time::timeout(PATIENCE, stdout.read_line(&mut url)).await.unwrap().unwrap();
        assert!(url.starts_with("http://"), "it did not start");
        Self { child, url: url.trim().to_owned(), _stdout: stdout }
    }

    pub(crate) async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

fn complaint(output: &Output) -> String {
    text(&output.stderr)
}

async fn get(url: &str, token: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).bearer_auth(token).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn it_serves_for_a_token_made_by_command_and_ends_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let new = ["api-token", "new", "--name", "ops", "--scopes", "read,claim", "--file", "tokens"];
    let output = command(folder.path(), &new).output().await.unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    let token = text(&output.stdout).trim().to_owned();
    let file = std::fs::read_to_string(folder.path().join("tokens")).unwrap();
    assert!(token.starts_with("tca_") && !file.contains(&token) && file.contains("\"ops\""), "{file}");

    let health = format!("127.0.0.1:{}", free_port());
    let flags = ["serve", "--api-listen", "127.0.0.1:0", "--api-tokens-file", "tokens", "--health-listen", &health];
    let serving = Serving::start(command(folder.path(), &flags)).await;
    let (status, counts) = get(&format!("{}/v1/counts", serving.url), &token).await;
    assert_eq!((status, counts.contains("\"listed\":0")), (200, true), "{counts}");
    assert_eq!(get(&format!("http://{health}/readyz"), "").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&format!("http://{health}/livez"), "").await, (200, "ok\n".to_owned()));
    let (_, metrics) = get(&format!("http://{health}/metrics"), "").await;
    let line = "api_requests_total{method=\"GET\",route=\"/v1/counts\",status=\"200\"} 1";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    assert!(!metrics.contains(&token));
    serving.stop().await;
}

/// Below the ports that outgoing connections are given.
fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(20_000..32_768)).find(is_free).unwrap()
}

#[tokio::test]
async fn a_token_without_a_file_is_shown_with_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let new = ["api-token", "new", "--name", "eu", "--scopes", "read", "--tenants", "contoso,fabrikam"];
    let output = command(folder.path(), &new).output().await.unwrap();
    let said = text(&output.stdout);
    let entry = said.lines().find_map(|line| line.strip_prefix("entry")).unwrap().trim();
    let entry: serde_json::Value = serde_json::from_str(entry).unwrap();
    assert_eq!(entry["tenants"], serde_json::json!(["contoso", "fabrikam"]));
    assert!(said.lines().any(|line| line.starts_with("token") && line.contains("tca_")), "{said}");
}

#[tokio::test]
async fn wrong_settings_are_refused_in_one_line_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (_, line) = entry("a", &[Scope::Read], &[]);
    std::fs::write(folder.path().join("good"), &line).unwrap();
    std::fs::write(folder.path().join("bad"), format!("{line}tca_a-token-by-mistake\n")).unwrap();
    std::fs::write(folder.path().join("empty"), "# none yet\n").unwrap();
    let serve = |flags: &'static [&'static str]| [&["serve", "--api-listen", "127.0.0.1:0"], flags].concat();
    for (flags, expected) in [
        (serve(&[]), "--api-tokens-file"),
        (serve(&["--api-tokens-file", "nowhere"]), "nowhere cannot be read"),
        (serve(&["--api-tokens-file", "bad"]), "line 2 of the token file is not JSON"),
        (serve(&["--api-tokens-file", "empty"]), "consumer api-token new"),
        (serve(&["--api-tokens-file", "good", "--api-rate", "0"]), "--api-rate"),
        (serve(&["--api-tokens-file", "good", "--api-request-time", "0s"]), "more than 0s"),
        (serve(&["--api-tokens-file", "good", "--hand-out-tokens"]), "IDP_CLIENT_ID"),
        (vec!["api-token", "new", "--name", "a", "--scopes", "root"], "read, claim, admin or token"),
        (vec!["api-token", "new", "--name", "a", "--scopes", "read", "--file", "good"], "stands there already"),
    ] {
        let output = command(folder.path(), &flags).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", complaint(&output));
        let said = complaint(&output);
        assert!(said.contains(expected) && !said.contains("by-mistake"), "{flags:?}: {said}");
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("good")).unwrap(), line, "it is left as it was");
}
