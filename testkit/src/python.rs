//! Python with the real MSAL: its interpreter, and users signed in by it against the development identity provider.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::environment::variable;
use crate::identity_provider::IdentityProvider;

const PATIENCE: Duration = Duration::from_secs(120);

/// The interpreter of the tests' environment: `TEST_PYTHON`, or the one `scripts/test` makes under `target/test-python`.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn interpreter() -> PathBuf {
    let made = workspace().join("target/test-python/bin/python");
    let interpreter = variable("TEST_PYTHON").map_or(made, PathBuf::from);
    assert!(
        interpreter.is_file(),
        "this test needs Python with MSAL at {}: run scripts/test once, or set TEST_PYTHON to an interpreter that has \
         testkit/python/requirements.txt installed",
        interpreter.display()
    );
    interpreter
}

/// The script that signs users in with MSAL; its first lines say how it is called.
#[must_use]
pub fn msal_sign_in_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python/msal_sign_in.py")
}

/// A user signed in by MSAL for Python.
#[derive(Clone, Deserialize)]
pub struct MsalSignIn {
    /// The user's name.
    pub username: String,
    /// `uid.utid`.
    pub home_account_id: String,
    /// The id of the tenant signed in to.
    pub tenant: String,
    /// The client signed in to.
    pub client_id: String,
    /// The serialized token cache; it holds tokens.
    pub cache: String,
}

/// What MSAL for Python answered to a silent acquisition.
#[derive(Clone, Deserialize)]
pub struct MsalSilent {
    /// Where the token came from: `cache`, `identity_provider`, or `none`.
    pub kind: String,
    /// Calls made to the identity provider for it.
    pub network_calls: u64,
    /// The OAuth error, when there is no token.
    pub error: Option<String>,
    /// Its suberror.
    pub suberror: Option<String>,
    /// The access token.
    pub access_token: Option<String>,
    /// Whether the cache now holds another refresh token.
    pub refresh_token_changed: bool,
    /// The serialized token cache afterwards; it holds tokens.
    pub cache: String,
}

/// A client as MSAL for Python sees it.
#[derive(Clone, Copy)]
pub struct MsalClient<'a> {
    /// The provider to call.
    pub provider: &'a IdentityProvider,
    /// A tenant id, or `common`.
    pub tenant: &'a str,
    /// The client id.
    pub client_id: &'a str,
    /// The client secret.
    pub client_secret: &'a str,
    /// The scope asked for, without OpenID's.
    pub scope: &'a str,
}

/// Where MSAL for Python keeps a cache: under a key in Redis, by code of its own.
#[derive(Debug, Clone, Copy)]
pub struct StoredCache<'a> {
    /// The server.
    pub redis_url: &'a str,
    /// What the key begins with.
    pub prefix: &'a str,
    /// The cache key.
    pub key: &'a str,
    /// Whether it is the field `data` of a hash, as the .NET cache has it, and not a plain value.
    pub is_hash: bool,
}

impl StoredCache<'_> {
    fn words(&self) -> [String; 6] {
        let layout = if self.is_hash { "aspnet" } else { "string" };
        let key = format!("{}{}", self.prefix, self.key);
        ["--redis", self.redis_url, "--redis-key", &key, "--redis-layout", layout].map(str::to_owned)
    }
}

impl MsalClient<'_> {
    /// Signs users in, each into a cache of their own, by the code flow with PKCE.
    ///
    /// # Panics
    /// When Python is missing or a user is not signed in.
    pub async fn sign_in(&self, usernames: &[&str]) -> Vec<MsalSignIn> {
        let output = self.run("sign-in", usernames, "").await;
        assert!(output.status.success(), "MSAL signed nobody in: {}", complaint(&output));
        lines(&output)
    }

    /// Acquires a token silently from `cache`; with `force` by a refresh in any case.
    ///
    /// # Panics
    /// When Python is missing, or MSAL does not find exactly one account of that name.
    pub async fn silent(&self, username: &str, cache: &str, force: bool) -> MsalSilent {
        let words: &[&str] = if force { &[username, "--force"] } else { &[username] };
        let output = self.run("silent", words, cache).await;
        let answer = lines(&output).pop();
        answer.unwrap_or_else(|| panic!("MSAL acquired nothing: {}", complaint(&output)))
    }

    /// Signs a user in, into the cache that is kept there.
    ///
    /// # Panics
    /// When Python is missing or the user is not signed in.
    pub async fn sign_in_to(&self, cache: &StoredCache<'_>, username: &str) -> MsalSignIn {
        let words = cache.words();
        let words: Vec<&str> = [username].into_iter().chain(words.iter().map(String::as_str)).collect();
        let output = self.run("sign-in", &words, "").await;
        lines(&output).pop().unwrap_or_else(|| panic!("MSAL signed nobody in: {}", complaint(&output)))
    }

    /// Acquires a token silently from the cache that is kept there, and writes it back where it has changed.
    ///
    /// # Panics
    /// When Python is missing, or MSAL does not find exactly one account of that name.
    pub async fn silent_in(&self, cache: &StoredCache<'_>, username: &str, force: bool) -> MsalSilent {
        let words = cache.words();
        let words = [username].into_iter().chain(words.iter().map(String::as_str));
        let words: Vec<&str> = words.chain(force.then_some("--force")).collect();
        let output = self.run("silent", &words, "").await;
        lines(&output).pop().unwrap_or_else(|| panic!("MSAL acquired nothing: {}", complaint(&output)))
    }

    async fn run(&self, command: &str, words: &[&str], input: &str) -> Output {
        let mut python = Command::new(interpreter());
        python
            .arg(msal_sign_in_script())
            .arg(command)
            .args(words)
            .args(["--provider", self.provider.base_url(), "--tenant", self.tenant])
            .args(["--client-id", self.client_id, "--scope", self.scope])
            .env("CLIENT_SECRET", self.client_secret);
        output_of(python, input).await
    }
}

async fn output_of(mut command: Command, input: &str) -> Output {
    let run = async {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.kill_on_drop(true).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => panic!("Python does not run: {error}"),
        Err(_) => panic!("Python did not end within {PATIENCE:?}"),
    }
}

fn lines<T: DeserializeOwned>(output: &Output) -> Vec<T> {
    let text = String::from_utf8_lossy(&output.stdout);
    let read =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("Python printed no such line: {error}"));
    text.lines().map(read).collect()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
