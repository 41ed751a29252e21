//! A fleet of workers and a web app, all refreshing the same users at once under one-time-use refresh tokens.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::account::CacheKey;
use common::backends::Backends;
use common::identity::{
    Credential, IdentityClient, ProviderSettings, SilentOptions, SilentRequest, TokenAcquirer, TokenSource,
};
use common::token_cache::Expiry;
use common::token_cache::msal::TokenCacheBlob;
use consumer::worker::{RunReport, Selection, Worker, WorkerSettings};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;
use testkit::identity_provider::{Client, IdentityProvider, Options, Rotation, User};
use testkit::servers::{KeyPrefix, Vhost};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::pipeline::{PATIENCE, Pipeline, consumer};

const TENANT: &str = "7d1f5a2c-3b64-4c1e-9a57-0c6d2e8f1b30";
const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
const SECRET: &str = "the-secret-of-the-app";
const WEB_AT_ONCE: usize = 32;

/// Users, their provider, the pipeline, and how a process is told of all that.
struct Fleet {
    provider: IdentityProvider,
    pipeline: Pipeline,
    servers: Vec<String>,
    users: Vec<SilentRequest>,
}

impl Fleet {
    /// Users who signed in so long ago that their access tokens have expired.
    async fn of(users: usize, servers: Vec<String>) -> Self {
        let provider =
            IdentityProvider::start(Options { rotation: Rotation::Strict, ..Options::default() }).await.unwrap();
        provider.register_client(Client::confidential(CLIENT, SECRET));
        let pipeline = Pipeline::on(&servers).await;
        let mut fleet = Self { provider, pipeline, servers, users: Vec::new() };
        let client = fleet.client().await;
        for number in 0..users {
            let user = fleet.sign_in(&client, &format!("user{number}@contoso.com")).await;
            fleet.users.push(user);
        }
        testkit::wait_until(PATIENCE, || async { fleet.pipeline.listed().await == users as u64 }).await;
        fleet
    }

    async fn sign_in(&self, client: &IdentityClient, name: &str) -> SilentRequest {
        let user = User::new(TENANT, name, name);
        let home = user.home_account_id();
        self.provider.register_user(user);
        let scopes = "openid profile offline_access User.Read";
        let answer = self.provider.sign_in(CLIENT, TENANT, name, scopes).unwrap();
        let refresh_token = SecretString::from(answer["refresh_token"].as_str().unwrap());
        let mut tokens =
            client.refresh(&refresh_token, &home.parse().unwrap(), &"User.Read".parse().unwrap()).await.unwrap();
        tokens.expires_in = Duration::ZERO;
        let mut blob = TokenCacheBlob::empty();
        tokens.save_into(&mut blob);
        let key: CacheKey = home.parse().unwrap();
        self.pipeline.adapter.write(&key, &blob.serialize(), Expiry::default()).await.unwrap();
        SilentRequest::new(key, tokens.home_account_id, "User.Read".parse().unwrap())
    }

    async fn client(&self) -> IdentityClient {
        let authority = self.provider.base_url().parse().unwrap();
        let mut settings =
            ProviderSettings::new(authority, CLIENT.parse().unwrap(), Credential::ClientSecret(SECRET.into()));
        settings.tenant = Some(TENANT.parse().unwrap());
        IdentityClient::discover(settings).await.unwrap()
    }

    /// `consumer hydrate` as a process of its own; gives its report.
    async fn process(&self, force: bool) -> Value {
        let output = Command::new(consumer())
            .args(["hydrate", "active", "--since", "7d", "--json"])
            .args(force.then_some("--force"))
            .args(&self.servers)
            .env("IDP_AUTHORITY", self.provider.base_url())
            .env("IDP_TENANT", TENANT)
            .env("IDP_CLIENT_ID", CLIENT)
            .env("IDP_CLIENT_SECRET", SECRET)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A worker with connections of its own, whose jobs try their tokens at the provider; gives its report.
    async fn worker(&self, force: bool) -> RunReport {
        let backends = Backends::new(crate::pipeline::connections(&self.servers));
        let (index, cache) = (backends.index().await.unwrap(), backends.token_cache().await.unwrap());
        let silent = SilentOptions { force_refresh: force, ..SilentOptions::default() };
        let settings = WorkerSettings { silent, ..WorkerSettings::default() };
        let mut worker = Worker::new(index, cache, self.client().await, settings);
        // The provider is asked over HTTP, as an API that is called with the token would.
        let (api, url) = (reqwest::Client::new(), format!("{}/graph/me", self.provider.base_url()));
        let everybody = Selection::active_since(Timestamp::UNIX_EPOCH);
        let job = move |account: Arc<common::index::AccountActivity>, token: common::identity::AccessToken| {
            let call = api.get(&url).bearer_auth(token.expose()).send();
            async move {
                let answer = call.await.map_err(|_| "no answer")?;
                let me: Value =
                    answer.error_for_status().map_err(|_| "refused")?.json().await.map_err(|_| "no JSON")?;
                let is_own = me["id"].as_str().is_some_and(|id| account.cache_key.as_str().starts_with(id));
                if is_own { Ok(()) } else { Err("another user's token") }
            }
        };
        worker.for_each(&everybody, CancellationToken::new(), job).await.unwrap()
    }

    /// The web app, whose users are all back at once; says how many it refreshed.
    async fn web(&self, force: bool) -> u64 {
        let cache = &self.pipeline.cache;
        let acquirer = TokenAcquirer::new(
            self.client().await,
            Arc::clone(&cache.store),
            Arc::new(self.pipeline.adapter.clone()),
            Some(Arc::clone(&cache.refresh_lock)),
        );
        let refreshed = AtomicU64::new(0);
        let visits = futures_util::stream::iter(&self.users).for_each_concurrent(WEB_AT_ONCE, |user| async {
            let request = if force { user.clone().forced() } else { user.clone() };
            let acquired = acquirer.acquire_token_silent(&request).await.unwrap();
            let live = self.provider.validate(acquired.token.expose()).expect("a token that is live");
            assert_eq!(format!("{}.{TENANT}", live.object_id), user.home_account_id.as_str());
            refreshed.fetch_add(u64::from(acquired.source == TokenSource::Refreshed), Ordering::SeqCst);
        });
        visits.await;
        refreshed.into_inner()
    }

    /// Everybody at once; says how many refreshes they made by their own account.
    async fn all_at_once(&self, processes: usize, workers: usize, force: bool) -> u64 {
        let users = self.users.len() as u64;
        let processes = futures_util::future::join_all((0..processes).map(|_| self.process(force)));
        let workers = futures_util::future::join_all((0..workers).map(|_| self.worker(force)));
        let (reports, runs, by_web) = tokio::join!(processes, workers, self.web(force));
        for report in &reports {
            assert_eq!((report["accounts"].as_u64(), report["failed"].as_u64()), (Some(users), Some(0)), "{report}");
        }
        for run in &runs {
            assert_eq!((run.accounts, run.failed, run.untold), (users, 0, 0), "{run:?}");
        }
        let by_processes: u64 = reports.iter().map(|report| report["hydrated"].as_u64().unwrap()).sum();
        by_processes + runs.iter().map(|run| run.hydrated).sum::<u64>() + by_web
    }

    fn refreshes(&self) -> u64 {
        self.provider.all_token_requests().with_grant("refresh_token")
    }

    /// Nobody has to sign in again: not by the provider, not by the index, and the next refresh works.
    async fn assert_nobody_is_lost(&self) {
        assert_eq!(self.provider.families_revoked(), 0);
        assert_eq!(self.provider.all_token_requests().with_outcome("ok"), self.provider.all_token_requests().total);
        assert_eq!(self.web(true).await, self.users.len() as u64);
        let ready = async || self.pipeline.index.counts(None).await.unwrap().by_state.ready;
        testkit::wait_until(PATIENCE, async || ready().await == self.users.len() as u64).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_workers_and_a_web_app_refresh_200_users_at_once_and_nobody_has_to_sign_in_again() {
    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    let fleet = Fleet::of(200, crate::pipeline::on_servers(&vhost.amqp_url(), &prefix)).await;
    let before = fleet.refreshes();
    assert_eq!(fleet.all_at_once(12, 4, false).await, 200, "each user is refreshed by one of them, and once");
    assert_eq!(fleet.refreshes() - before, 200);

    let before = fleet.refreshes();
    assert_eq!(fleet.all_at_once(2, 2, true).await, 5 * 200, "all of them insist, one after the other");
    assert_eq!(fleet.refreshes() - before, 5 * 200);
    fleet.assert_nobody_is_lost().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_and_a_web_app_share_an_sqlite_file_and_nobody_has_to_sign_in_again() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::of(30, crate::pipeline::in_file(&folder.path().join("all.sqlite"))).await;
    let before = fleet.refreshes();
    assert_eq!(fleet.all_at_once(3, 1, false).await, 30);
    assert_eq!(fleet.all_at_once(2, 0, true).await, 3 * 30);
    assert_eq!(fleet.refreshes() - before, 4 * 30);
    fleet.assert_nobody_is_lost().await;
}
