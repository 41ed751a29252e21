//! The command line.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

#[tokio::test]
async fn the_identity_provider_runs_from_the_command_line_and_says_how_to_reach_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testkit"));
    command.args(["identity-provider", "--port", "0", "--user", "ada@contoso.com"]);
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = HashMap::new();
    while told.len() < 6 {
        let line = lines.next_line().await.unwrap().unwrap();
        let (name, value) = line.split_once("  ").unwrap();
        told.insert(name.to_owned(), value.trim().to_owned());
    }
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &told["client id"]),
        ("client_secret", &told["client secret"]),
        ("scope", "https://graph.microsoft.com/.default"),
    ];
    let url = format!("{}/oauth2/v2.0/token", told["authority"]);
    let answer = reqwest::Client::new().post(url).form(&form).send().await.unwrap();
    assert!(answer.status().is_success());
}
