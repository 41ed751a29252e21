//! Nothing secret is anywhere outside the blobs: the whole pipeline is run, with faults, at the finest log level, and
//! every token, code, secret and assertion that the provider saw is looked for in everything that came out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use common::account::CacheKey;
use common::event::encode;
use common::identity::{
    AuthorizationOptions, AuthorizationResponse, Clock, Credential, IdentityClient, OnBehalfOfSession,
    ProviderSettings, SignedIn, SilentOptions, TokenAcquirer,
};
use common::log::Position;
use common::token_cache::Expiry;
use common::token_cache::msal::TokenCacheBlob;
use consumer::worker::{Selection, Worker, WorkerSettings};
use jiff::Timestamp;
use redis::Commands as _;
use testkit::CapturedLog;
use testkit::identity_provider::{Client, Fault, FaultRule, IdentityProvider, Options, Rotation, User};
use testkit::servers::{KeyPrefix, Vhost};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::pipeline::{PATIENCE, Pipeline, consumer};

const TENANT: &str = "7d1f5a2c-3b64-4c1e-9a57-0c6d2e8f1b30";
const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
const SECRET: &str = "marker-of-the-client-secret";
const CHALLENGE: &str = "marker-of-the-claims-challenge";
const PASSWORD: &str = "marker-of-a-server-s-password";
const ADA: &str = "ada@contoso.com";
const GRACE: &str = "grace@contoso.com";
/// Our crates say everything; the AMQP library is as quiet as it is by default.
const FINEST: &str = "info,common=trace,producer=trace,consumer=trace,demo=trace,lapin=off";

/// What must be nowhere.
struct Secrets(Vec<String>);

impl Secrets {
    /// Each as a whole; of a signed token also its payload and its signature, since a part of it is too much.
    fn of(seen: impl IntoIterator<Item = String>) -> Self {
        let parts = |secret: String| {
            let parts: Vec<String> =
                secret.split('.').skip(1).filter(|part| part.len() >= 40).map(str::to_owned).collect();
            std::iter::once(secret).chain(parts)
        };
        Self(seen.into_iter().flat_map(parts).collect())
    }

    fn hits(&self, text: &str) -> usize {
        self.0.iter().filter(|secret| text.contains(secret.as_str())).count()
    }
}

/// Everything that came out, by where it did.
#[derive(Default)]
struct Seen(BTreeMap<String, String>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, text: &str) {
        let seen = self.0.entry(place.into()).or_default();
        seen.push_str(text);
        seen.push('\n');
    }

    fn show(&mut self, place: &str, value: &dyn std::fmt::Debug) {
        self.add(place, &format!("{value:?} {value:#?}"));
    }

    fn show_error(&mut self, place: &str, error: &dyn std::error::Error) {
        let mut text = format!("{error:?}");
        let mut next = Some(error);
        while let Some(error) = next {
            write!(text, "\n{error}").unwrap();
            next = error.source();
        }
        self.add(place, &text);
    }
}

struct Rig {
    provider: Arc<IdentityProvider>,
    pipeline: Pipeline,
    servers: Vec<String>,
    prefix: KeyPrefix,
    _vhost: Vhost,
    seen: Seen,
}

impl Rig {
    async fn start() -> Self {
        let options = Options { rotation: Rotation::Strict, records_secrets: true, ..Options::default() };
        let provider = Arc::new(IdentityProvider::start(options).await.unwrap());
        provider.register_client(Client::confidential(CLIENT, SECRET));
        provider.register_users([ADA, GRACE].map(|name| User::new(TENANT, name, name)));
        let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
        let servers = crate::pipeline::on_servers(&vhost.amqp_url(), &prefix);
        let pipeline = Pipeline::on(&servers).await;
        Self { provider, pipeline, servers, prefix, _vhost: vhost, seen: Seen::default() }
    }

    async fn client(&self, scopes: &str) -> IdentityClient {
        let credential = Credential::ClientSecret(SECRET.into());
        let authority = self.provider.base_url().parse().unwrap();
        let mut settings = ProviderSettings::new(authority, CLIENT.parse().unwrap(), credential);
        settings.tenant = Some(TENANT.parse().unwrap());
        settings.redirect_uri = Some("http://127.0.0.1:9/callback".parse().unwrap());
        settings.scopes = scopes.parse().unwrap();
        let provider = Arc::clone(&self.provider);
        let clock = Clock::new(move || Timestamp::UNIX_EPOCH + provider.now());
        IdentityClient::discover_at(settings, clock).await.unwrap()
    }

    /// A whole sign-in by the browser, kept through the adapter where `keeps` says so.
    async fn sign_in(&mut self, scopes: &str, username: &str, keeps: bool) -> SignedIn {
        let client = self.client(scopes).await;
        let options = AuthorizationOptions { login_hint: Some(username.to_owned()), ..Default::default() };
        let request = client.authorization_request(&options).unwrap();
        let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let answer = browser.get(request.url.clone()).send().await.unwrap();
        let back = Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
        let query: BTreeMap<String, String> = back.query_pairs().into_owned().collect();
        let response: AuthorizationResponse = serde_json::from_value(serde_json::to_value(query).unwrap()).unwrap();
        let signed_in = client.redeem(&response, &request.pending).await.unwrap();
        self.seen.show("debug texts", &(&client, &request.pending, &response, &signed_in));
        if keeps {
            let key: CacheKey = signed_in.tokens.home_account_id.as_str().parse().unwrap();
            self.pipeline.adapter.save(&key, &signed_in.tokens, Expiry::default()).await.unwrap();
        }
        signed_in
    }

    async fn hydrate(&mut self) {
        let silent = SilentOptions { force_refresh: true, ..SilentOptions::default() };
        let settings = WorkerSettings { silent, tries_parked: true, ..WorkerSettings::default() };
        let client = self.client("User.Read").await;
        let mut worker = Worker::new(self.pipeline.index.clone(), self.pipeline.cache.clone(), client, settings);
        let job = |_, token: common::identity::AccessToken| async move {
            tracing::info!(?token, "a job logs its token, as a careless one would");
            Err(format!("and says it in its error: {}", token.expose()))
        };
        let everybody = Selection::active_since(Timestamp::UNIX_EPOCH);
        let report = worker.for_each(&everybody, CancellationToken::new(), job).await.unwrap();
        assert!(report.accounts >= 2, "{report:?}");
        self.seen.show("debug texts", &(&worker, &report));
        self.seen.add("reports", &serde_json::to_string(&report).unwrap());
    }

    async fn on_behalf_of(&mut self) {
        let own_api = self.sign_in(&format!("api://{CLIENT}/access"), ADA, false).await;
        let assertion = own_api.tokens.access_token.expose().to_owned().into();
        let cache = &self.pipeline.cache;
        let writer = Arc::new(self.pipeline.adapter.clone());
        let lock = Some(Arc::clone(&cache.refresh_lock));
        let acquirer = TokenAcquirer::new(self.client("User.Read").await, Arc::clone(&cache.store), writer, lock);
        let scopes = "Mail.Read".parse().unwrap();
        let session = OnBehalfOfSession::LongRunning("night-job-7".parse().unwrap());
        let acquired = acquirer.acquire_on_behalf_of(&assertion, &scopes, &session).await.unwrap();
        self.seen.show("debug texts", &(&acquirer, &acquired));
        self.provider.inject(FaultRule::from(Fault::InvalidGrant { suberror: None }).times(1));
        let other = OnBehalfOfSession::Assertion;
        let error = acquirer.acquire_on_behalf_of(&assertion, &scopes, &other).await.unwrap_err();
        self.seen.show_error("errors", &error);
    }

    /// Runs a command and keeps what it says.
    async fn run(&mut self, arguments: &[&str], more: &[&str]) {
        let output = Command::new(consumer())
            .args(arguments)
            .args(&self.servers)
            .args(more)
            .envs([("IDP_TENANT", TENANT), ("IDP_CLIENT_ID", CLIENT), ("IDP_CLIENT_SECRET", SECRET)])
            .envs([("IDP_AUTHORITY", self.provider.base_url()), ("LOGS", FINEST)])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{arguments:?} says nothing");
        self.seen.add("standard output", &String::from_utf8_lossy(&output.stdout));
        self.seen.add("standard error", &String::from_utf8_lossy(&output.stderr));
    }

    async fn commands(&mut self) {
        for how in [&[][..], &["--json"]] {
            self.run(&["hydrate", "active", "--since", "7d", "--force"], how).await;
            self.run(&["account", "doctor", ADA], how).await;
            self.run(&["account", "doctor", GRACE, "--try"], how).await;
            self.run(&["query", "user", ADA], how).await;
        }
    }

    /// Passwords of servers that refuse them or do not answer.
    async fn unreachable_servers(&mut self) {
        let redis = format!("redis://worker:{PASSWORD}@127.0.0.1:1");
        let amqp = format!("amqp://worker:{PASSWORD}@127.0.0.1:1/%2f");
        for settings in [["--index-url", &redis], ["--cache-url", &redis]] {
            let output = Command::new(consumer())
                .args(["hydrate", "active", "--since", "7d", "--idp-client-id", CLIENT])
                .args(settings)
                .envs([("IDP_AUTHORITY", self.provider.base_url()), ("IDP_CLIENT_SECRET", SECRET), ("LOGS", FINEST)])
                .envs([("TOKEN_CACHE_URL", &redis), ("ACTIVITY_INDEX_URL", &redis), ("ACTIVITY_LOG_URL", &amqp)])
                .output()
                .await
                .unwrap();
            assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
            self.seen.add("standard error", &String::from_utf8_lossy(&output.stderr));
        }
    }

    /// The events of the log, as they are written.
    async fn look_into_the_log(&mut self) {
        let log = &self.pipeline.log;
        let end = log.bounds(0).await.unwrap().next;
        let mut reader = log.read(0, Position::First).await.unwrap();
        let (mut next, mut events) = (0, 0);
        while next < end {
            for message in reader.next(100, PATIENCE).await.unwrap() {
                next = message.offset + 1;
                for event in message.events.into_iter().map(Result::unwrap) {
                    events += 1;
                    self.seen.add("events", &String::from_utf8_lossy(&encode(&event).body));
                }
            }
        }
        assert!(events >= 10, "{events} events");
    }

    /// All that is in Redis, except the blobs themselves.
    fn look_into_redis(&mut self) {
        let mut redis = redis::Client::open(self.prefix.redis_url()).unwrap().get_connection().unwrap();
        let keys: Vec<String> = redis.scan_match(format!("{}*", self.prefix)).unwrap().map(Result::unwrap).collect();
        assert!(keys.len() > 5, "{keys:?}");
        for key in keys {
            self.seen.add("keys", &key);
            let value = contents(&mut redis, &key);
            self.seen.add("values of Redis", &value);
        }
    }
}

fn contents(redis: &mut redis::Connection, key: &str) -> String {
    let kind: String = redis::cmd("TYPE").arg(key).query(redis).unwrap();
    let (command, arguments): (&str, &[&str]) = match kind.as_str() {
        "string" => ("GET", &[]),
        // A blob is the field `data`; the other two are its expiry.
        "hash" if key.contains("cache:") => ("HMGET", &["absexp", "sldexp"]),
        "hash" => ("HGETALL", &[]),
        "zset" => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
        "set" => ("SMEMBERS", &[]),
        "stream" => ("XRANGE", &["-", "+"]),
        other => panic!("{key} is a {other}, which nobody looks into"),
    };
    let value: redis::Value = redis::cmd(command).arg(key).arg(arguments).query(redis).unwrap();
    let mut text = String::new();
    write_out(&value, &mut text);
    text
}

fn write_out(value: &redis::Value, text: &mut String) {
    match value {
        redis::Value::BulkString(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
        redis::Value::Array(values) | redis::Value::Set(values) => {
            values.iter().for_each(|value| write_out(value, text))
        }
        redis::Value::Map(pairs) => pairs.iter().for_each(|(key, value)| {
            write_out(key, text);
            write_out(value, text);
        }),
        other => write!(text, "{other:?}").unwrap(),
    }
    text.push(' ');
}

fn faults() -> [Fault; 5] {
    let claims = Some(format!("{{\"access_token\":{{\"{CHALLENGE}\":null}}}}"));
    [
        Fault::InteractionRequired { claims },
        Fault::InvalidGrant { suberror: Some("bad_token".to_owned()) },
        Fault::TooManyRequests { retry_after_seconds: 5 },
        Fault::ServerError { status: 500, retry_after_seconds: None },
        Fault::DropConnection,
    ]
}

#[tokio::test]
async fn no_token_secret_code_or_password_is_anywhere_outside_the_blobs() {
    let log = CapturedLog::default();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(EnvFilter::new(FINEST)).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut rig = Rig::start().await;
    let (ada, grace) = (rig.sign_in("User.Read", ADA, true).await, rig.sign_in("User.Read", GRACE, true).await);
    testkit::wait_until(PATIENCE, || async { rig.pipeline.listed().await == 2 }).await;

    rig.hydrate().await;
    for fault in faults() {
        rig.provider.inject(fault);
        rig.hydrate().await;
        rig.commands().await;
        rig.provider.clear_faults();
        rig.provider.advance(Duration::from_secs(6));
    }
    rig.on_behalf_of().await;
    rig.commands().await;
    rig.unreachable_servers().await;

    // Blobs that are swapped, and one that is cut off in the middle of a token.
    let keys = [&ada, &grace].map(|user| user.tokens.home_account_id.as_str().parse::<CacheKey>().unwrap());
    let store = Arc::clone(&rig.pipeline.cache.store);
    let of_ada = store.read(&keys[0]).await.unwrap().unwrap();
    for blob in [&of_ada[..], &of_ada[..of_ada.len() / 2]] {
        put(store.as_ref(), &keys[1], blob).await;
        rig.hydrate().await;
        rig.commands().await;
    }
    assert_eq!(rig.provider.families_revoked(), 0, "what was meant to be refreshed was");
    rig.seen.show("debug texts", &TokenCacheBlob::parse(&of_ada).unwrap());
    testkit::wait_until(PATIENCE, || async { rig.pipeline.cache.outbox.backlog().await.unwrap().unconfirmed == 0 })
        .await;
    rig.look_into_the_log().await;
    rig.look_into_redis();
    let logged = log.text();
    assert!(logged.contains("no token for an account") && logged.contains("a job failed"), "the logs are captured");
    rig.seen.add("logs", &logged);

    let markers = [SECRET, CHALLENGE, PASSWORD].map(str::to_owned);
    let secrets = Secrets::of(rig.provider.secrets_seen().into_iter().chain(markers));
    assert!(secrets.0.len() > 50, "{} secrets", secrets.0.len());
    for (place, text) in &rig.seen.0 {
        assert_eq!(secrets.hits(text), 0, "secrets are in the {place}");
        // And a secret that were there would be found, in each of the places.
        let secret = &secrets.0[text.len() % secrets.0.len()];
        assert!(secrets.hits(&format!("{text}{secret}")) > 0);
    }
    let blob = String::from_utf8(of_ada).unwrap();
    assert!(secrets.hits(&blob) >= 3, "the tokens of the blob are among those that were looked for");
    let places: Vec<&str> = rig.seen.0.keys().map(String::as_str).collect();
    assert_eq!(
        places,
        [
            "debug texts",
            "errors",
            "events",
            "keys",
            "logs",
            "reports",
            "standard error",
            "standard output",
            "values of Redis"
        ]
    );
}

async fn put(store: &dyn common::token_cache::TokenCacheStore, key: &CacheKey, blob: &[u8]) {
    use common::token_cache::{CacheWrite, ExpiryChange, Precondition};
    let write = CacheWrite {
        key,
        blob,
        expiry: ExpiryChange::Kept,
        precondition: Precondition::None,
        event: None,
        fence: None,
    };
    store.write(write).await.unwrap();
}
