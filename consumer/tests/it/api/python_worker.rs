//! `examples/worker.py` at work: a worker in another language, which has nothing but the API.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use common::account::CacheKey;
use common::event::Activity;
use common::index::AccountState;
use common::token_cache::Layout;
use consumer::api::Scope;
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use testkit::identity_provider::{Fault, FaultRule, User};
use testkit::wait_until;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;

use super::program::{Serving, command};
use super::site::entry;
use crate::rig::{PATIENCE, redis_index};
use crate::worker::rig::{ADA, CLIENT, GRACE, Rig, SECRET, TENANT, details_of, strict};

const LINUS: &str = "linus@contoso.com";

/// A server, and where the program finds it.
struct Place {
    rig: Rig,
    variables: Vec<(&'static str, String)>,
    folder: TempDir,
}

impl Place {
    async fn embedded() -> Self {
        let rig = Rig::embedded(strict()).await;
        let variables = ["ACTIVITY_INDEX_URL", "TOKEN_CACHE_URL"].map(|name| (name, rig.url())).into();
        Self { rig, variables, folder: tempfile::tempdir().unwrap() }
    }

    async fn on_redis() -> Self {
        let mut rig = Rig::on_redis(strict(), Layout::Aspnet).await;
        let prefix = rig.prefix.as_ref().unwrap();
        let (url, prefix) = (prefix.redis_url().to_owned(), prefix.to_string());
        rig.index = redis_index(&url, &prefix).await;
        let variables = vec![
            ("ACTIVITY_INDEX_URL", url.clone()),
            ("ACTIVITY_INDEX_PREFIX", prefix.clone()),
            ("TOKEN_CACHE_URL", url),
            ("TOKEN_CACHE_INSTANCE_NAME", prefix),
        ];
        Self { rig, variables, folder: tempfile::tempdir().unwrap() }
    }

    /// Signs a user in whose access token is over.
    async fn signed_in(&self, username: &str) -> CacheKey {
        let user = self.rig.sign_in(username).await;
        self.rig.age(&user.key).await;
        let mut details = details_of(&user.tokens, username);
        details.access_token_expires_on = Some(1_795_000_000);
        self.rig.list(&user.key, &details).await;
        user.key
    }

    async fn serve(&self, tokens: &str) -> Serving {
        std::fs::write(self.folder.path().join("tokens"), tokens).unwrap();
        let flags = ["serve", "--api-listen", "127.0.0.1:0", "--api-tokens-file", "tokens", "--hand-out-tokens"];
        let mut command = command(self.folder.path(), &flags);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.envs([
            ("IDP_AUTHORITY", self.rig.provider.base_url()),
            ("IDP_TENANT", TENANT),
            ("IDP_CLIENT_ID", CLIENT),
            ("IDP_CLIENT_SECRET", SECRET),
            ("IDP_ENVIRONMENT", "login.microsoftonline.com"),
            ("LOGS", "trace"),
        ]);
        command.stderr(Stdio::piped());
        Serving::start(command).await
    }
}

/// Whose tokens came to the job; Linus's job fails.
#[derive(Clone, Default)]
struct Jobs(Arc<Mutex<Vec<(String, String)>>>);

impl Jobs {
    async fn listen(&self) -> String {
        let jobs = self.clone();
        let job = async move |Path(user): Path<String>, headers: HeaderMap| {
            let token = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
            let is_linus = user == LINUS;
            jobs.0.lock().unwrap().push((user, token));
            if is_linus { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/{user}", get(job))).await.unwrap() });
        url
    }

    fn users(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().iter().map(|(user, _)| user.clone()).collect()
    }
}

fn python_worker(api: &str, token: &str, job: &str) -> Command {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/worker.py");
    let mut python = Command::new(testkit::python::interpreter());
    python.arg(script).env("API_URL", api).env("API_TOKEN", token).env("JOB_URL", job).env("NO_PROXY", "*");
    python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    python
}

async fn due(url: &str, token: &str) -> Vec<Value> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{url}/v1/due")).bearer_auth(token).send().await.unwrap();
    let page: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    page["accounts"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_worker_in_python_claims_completes_and_fails_accounts() {
    for place in [Place::embedded().await, Place::on_redis().await] {
        let rig = &place.rig;
        rig.provider.register_users([User::new(TENANT, LINUS, LINUS)]);
        let (ada, grace, linus) =
            (place.signed_in(ADA).await, place.signed_in(GRACE).await, place.signed_in(LINUS).await);
        rig.provider.inject(FaultRule::from(Fault::InteractionRequired { claims: None }).for_user(GRACE));
        let (token, line) = entry("python", &[Scope::Read, Scope::Claim, Scope::Token], &[TENANT]);
        let mut serving = place.serve(&line).await;
        let mut stderr = serving.child.stderr.take().unwrap();
        let log = tokio::spawn(async move {
            let mut text = String::new();
            stderr.read_to_string(&mut text).await.map(|_| text)
        });
        assert_eq!(due(&serving.url, &token).await.len(), 3);
        let jobs = Jobs::default();
        let mut worker = python_worker(&serving.url, &token, &jobs.listen().await).spawn().unwrap();

        let events = tokio::sync::Mutex::new(Vec::new());
        let is_done = async || {
            events.lock().await.extend(rig.events().await);
            let [ada, grace] = [rig.account(&ada).await, rig.account(&grace).await];
            ada.last_hydration.is_some() && grace.state() == AccountState::Parked && jobs.users().len() == 2
        };
        wait_until(PATIENCE, is_done).await;
        assert_eq!(jobs.users(), [ADA, LINUS].map(str::to_owned).into());
        let failed = async || {
            let due = due(&serving.url, &token).await;
            due.iter()
                .any(|row| row["account"]["cache_key"] == linus.as_str() && row["hold"]["attempts"].as_u64() >= Some(1))
        };
        // Linus is due by the job that failed, though his token is good; the others are not.
        wait_until(PATIENCE, failed).await;
        let expires = rig.account(&ada).await.details.unwrap().value.access_token_expires_on.unwrap();
        assert!(expires > Timestamp::now().as_second());
        let events = events.into_inner();
        let hydrations = events.iter().filter(|event| matches!(event.activity, Activity::Hydrated(_)));
        assert_eq!(hydrations.map(|event| &event.subject).collect::<Vec<_>>().len(), 2, "one for each who has a token");

        worker.kill().await.unwrap();
        let mut said = String::new();
        worker.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "", "the worker complained");
        serving.stop().await;
        let log = log.await.unwrap().unwrap();
        assert!(log.contains("/v1/claims/token") && log.contains("TRACE"), "{log}");
        let secrets = rig.provider.secrets_seen();
        assert!(secrets.len() >= 6 && jobs.0.lock().unwrap().iter().all(|(_, token)| secrets.contains(token)));
        for secret in secrets.iter().chain([&token]) {
            assert!(!log.contains(secret), "a secret is in the log");
        }
    }
}
