//! The program `producer web`, as an operator runs it.

use std::process::{Output, Stdio};

use common::sqlite::Database;
use common::token_cache::msal::TokenCacheBlob;
use common::token_cache::{SqliteTokenCache, SqliteTokenCacheOptions, TokenCacheStore as _};
use testkit::identity_provider::{Client, IdentityProvider, Options, User};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::site::{ADA, Browser, CLIENT, SECRET, TENANT, key_of, parameter, with};
use crate::rig::PATIENCE;

/// `producer web` with these flags, on a token cache in `folder`.
fn command(folder: &std::path::Path, authority: &str, flags: &[&str]) -> Command {
    let file = format!("sqlite://{}/all.db", folder.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_producer"));
    command.arg("web").args(flags).env_clear().env("WEB_LISTEN", "127.0.0.1:0");
    command.envs([("TOKEN_CACHE_URL", &*file), ("ACTIVITY_LOG_URL", &*file), ("IDP_AUTHORITY", authority)]);
    command.envs([("IDP_TENANT", TENANT), ("IDP_CLIENT_ID", CLIENT), ("IDP_CLIENT_SECRET", SECRET)]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn provider() -> IdentityProvider {
    let provider = IdentityProvider::start(Options::default()).await.unwrap();
    provider.register_client(Client::confidential(CLIENT, SECRET));
    provider
}

/// Its first line: where browsers find it.
async fn address(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn it_says_where_it_is_serves_there_and_stops_when_told() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), provider().await);
    let mut child = command(folder.path(), provider.base_url(), &["--relay"]).stdout(Stdio::piped()).spawn().unwrap();
    let url = address(&mut child).await;
    assert!(url.starts_with("http://localhost:"), "{url}");
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    assert_eq!(browser.get(format!("{url}/livez")).send().await.unwrap().status(), 200);
    let begun = browser.get(format!("{url}/sign-in")).send().await.unwrap();
    let location = begun.headers()["location"].to_str().unwrap();
    assert!(location.starts_with(provider.base_url()), "{location}");

    stop(&mut child).await;
}

async fn stop(child: &mut Child) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").arg(&pid).status().await.unwrap().success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn not_even_the_most_talkative_log_holds_a_secret() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), provider().await);
    provider.register_user(User::new(TENANT, ADA, "Ada"));
    let mut command = command(folder.path(), provider.base_url(), &["--logs", "trace"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = tokio::spawn(read_all(child.stderr.take().unwrap()));

    let mut ada = Browser::new(&address(&mut child).await);
    let asked = ada.begin("/sign-in").await;
    let state = parameter(&asked, "state").unwrap();
    let (nonce, back) = (parameter(&asked, "nonce").unwrap(), ada.at_provider(asked, ADA).await);
    let code = back.split_once("code=").unwrap().1.split('&').next().unwrap();
    assert_eq!(ada.get(&back).await.status, 303);
    let form_token = ada.get("/account").await.form_token().to_owned();
    let asked = ada.begin("/sign-in").await;
    let refused = ada.at_provider(with(&asked, "nonce", "another"), ADA).await;
    assert_eq!(ada.get(&refused).await.status, 502, "a problem is logged too");
    let file = format!("sqlite://{}/all.db", folder.path().display());
    let tokens = tokens_in(&file).await;
    assert_eq!(ada.sign_out().await.status, 303);
    stop(&mut child).await;

    let log = log.await.unwrap();
    assert!(log.contains("The sign-in was refused") && log.contains("TRACE"), "{log}");
    let mut secrets = vec![SECRET, &state, &nonce, code, &form_token];
    secrets.extend(ada.cookies.values().chain(&tokens).map(String::as_str));
    assert_eq!(secrets.len(), 5 + 1 + 3, "client, sign-in, form, browser, and three tokens");
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

async fn read_all(mut stream: tokio::process::ChildStderr) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// The tokens of the one user.
async fn tokens_in(file: &str) -> Vec<String> {
    let database = Database::open(&file.parse().unwrap()).await.unwrap();
    let cache = SqliteTokenCache::open(database, SqliteTokenCacheOptions::default()).await.unwrap();
    let bytes = cache.read(&key_of(ADA)).await.unwrap().unwrap();
    let blob = TokenCacheBlob::parse(&bytes).unwrap();
    let access = blob.access_tokens().map(|token| token.secret.expose_secret().to_owned());
    let refresh = blob.refresh_tokens().map(|token| token.secret.expose_secret().to_owned());
    let id = blob.id_tokens().map(|token| token.secret.expose_secret().to_owned());
    access.chain(refresh).chain(id).collect()
}

#[tokio::test]
async fn wrong_settings_are_refused_in_one_line_that_says_what_to_set() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), provider().await);
    let cases = [
        (&["--public-url", "http://app.contoso.com"][..], "must begin with https://"),
        (&["--public-url", "https://app.contoso.com/portal"], "nothing else"),
        (
            &["--api-url", "http://api.contoso.com/me"],
            "--api-url (WEB_API_URL): the API's address must begin with https://",
        ),
        (&["--idp-tenant", "a/b"], "tenant id"),
    ];
    for (flags, expected) in cases {
        let output = command(folder.path(), provider.base_url(), flags).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", complaint(&output));
        assert!(complaint(&output).contains(expected), "{flags:?}: {}", complaint(&output));
    }
}

#[tokio::test]
async fn a_provider_that_is_away_and_a_taken_port_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path(), "http://127.0.0.1:9", &[]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("http://127.0.0.1:9"), "{}", complaint(&output));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let provider = provider().await;
    let output = command(folder.path(), provider.base_url(), &["--listen", &address]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains(&address), "{}", complaint(&output));
}
