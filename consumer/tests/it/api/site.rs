//! An API on a port of its own, with accounts of three tenants, and clients to ask it with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::account::{CacheKey, Username};
use common::backend::TlsFiles;
use common::backends::TokenCache;
use common::event::{
    AccountDetails, AccountHint, AcquisitionFailure, Activity, ActivityEvent, EventDraft, EventSource, FailureReason,
    Properties, UsernamePolicy,
};
use common::identity::IdentityClient;
use common::index::{AccountActivity, ActivityStore, Claims, SqliteIndex};
use common::redis_pool::RedisPool;
use common::sqlite::Database;
use common::token_cache::{
    CacheWrite, ExpiryChange, Precondition, RedisTokenCache, RedisTokenCacheOptions, SqliteTokenCache,
    SqliteTokenCacheOptions,
};
use consumer::api::{Api, ApiSettings, ApiStores, ApiToken, Scope, TokenEntry, TokenFile, run};
use jiff::{SignedDuration, Timestamp};
use redis::Commands as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;
use testkit::fault_proxy::FaultProxy;
use testkit::servers::KeyPrefix;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::rig::redis_index;

/// What the tokens of a site may do: name, scopes, tenants.
const TOKENS: [(&str, &[Scope], &[&str]); 6] = [
    ("all", &[Scope::Read, Scope::Claim, Scope::Admin, Scope::Token], &[]),
    ("reader", &[Scope::Read], &[]),
    ("claimer", &[Scope::Claim], &[]),
    ("contoso", &[Scope::Read, Scope::Claim, Scope::Admin, Scope::Token], &["contoso"]),
    ("both", &[Scope::Read, Scope::Claim], &["contoso", "fabrikam"]),
    ("nobody", &[Scope::Read, Scope::Claim], &["nowhere"]),
];
/// The tenants, and how many accounts each has.
const TENANTS: [(&str, usize); 3] = [("contoso", 5), ("fabrikam", 4), ("initech", 3)];
pub(crate) const CLIENT: &str = "11111111-2222-4333-8444-555555555555";

/// A running API with what it stands on.
pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) index: Arc<dyn ActivityStore>,
    pub(crate) cache: TokenCache,
    pub(crate) api: Api,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) token_file: PathBuf,
    tokens: BTreeMap<&'static str, String>,
    http: reqwest::Client,
    ground: Ground,
}

/// Where the stores are.
pub(crate) struct Ground {
    index: Arc<dyn ActivityStore>,
    claims: Arc<dyn Claims>,
    cache: TokenCache,
    folder: TempDir,
    prefix: Option<KeyPrefix>,
}

impl Ground {
    pub(crate) async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&file_in(&folder).parse().unwrap()).await.unwrap();
        let index = Arc::new(SqliteIndex::open(database.clone()).await.unwrap());
        let cache = SqliteTokenCache::open(database.clone(), SqliteTokenCacheOptions::default()).await.unwrap();
        Self { claims: index.clone(), index, cache: TokenCache::of(cache), folder, prefix: None }
    }

    pub(crate) async fn on_redis() -> Self {
        Self::on_redis_by(|url| url.to_owned()).await
    }

    /// On Redis, by way of the proxy.
    pub(crate) async fn behind(proxy: &FaultProxy) -> Self {
        Self::on_redis_by(|url| proxy.in_front_of(url)).await
    }

    async fn on_redis_by(way: impl FnOnce(&str) -> String) -> Self {
        let (folder, prefix) = (tempfile::tempdir().unwrap(), KeyPrefix::fresh().await);
        let url = way(prefix.redis_url());
        let index = redis_index(&url, prefix.as_str()).await;
        let pool = RedisPool::new(&url.parse().unwrap(), &TlsFiles::default(), 4).unwrap();
        let options = RedisTokenCacheOptions { instance_name: prefix.to_string(), ..Default::default() };
        let cache = RedisTokenCache::open(pool, options).await.unwrap();
        Self { claims: index.clone(), index, cache: TokenCache::of(cache), folder, prefix: Some(prefix) }
    }

    /// Both kinds of server.
    pub(crate) async fn each() -> [Self; 2] {
        [Self::embedded().await, Self::on_redis().await]
    }

    /// Every byte that is stored.
    pub(crate) async fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        match &self.prefix {
            None => ["all.db", "all.db-wal"]
                .map(|name| (name.to_owned(), std::fs::read(self.folder.path().join(name)).unwrap_or_default()))
                .into(),
            Some(prefix) => dump(prefix),
        }
    }
}

/// All keys that a test has in Redis, and what they hold. Hashes are put in order: Redis moves their fields about while it
/// makes room, also when they are only read.
fn dump(prefix: &KeyPrefix) -> BTreeMap<String, Vec<u8>> {
    let mut connection = redis::Client::open(prefix.redis_url()).unwrap().get_connection().unwrap();
    let keys: redis::Iter<'_, String> = connection.scan_match(format!("{prefix}*")).unwrap();
    let keys: Vec<String> = keys.map(Result::unwrap).collect();
    let dumped = |key: String| {
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut connection).unwrap();
        if kind == "hash" {
            let fields: BTreeMap<Vec<u8>, Vec<u8>> = connection.hgetall(&key).unwrap();
            let fields = fields.into_iter().flat_map(|(field, value)| [field, value]);
            return (key, fields.collect::<Vec<_>>().join(&0));
        }
        let bytes: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query(&mut connection).unwrap();
        (key, bytes.unwrap_or_default())
    };
    keys.into_iter().map(dumped).collect()
}

fn file_in(folder: &TempDir) -> String {
    format!("sqlite://{}/all.db", folder.path().display())
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::on(Ground::embedded().await).await
    }

    pub(crate) async fn on(ground: Ground) -> Self {
        Self::with(ground, None, |_| {}).await
    }

    /// With settings of its own, and perhaps with an app whose tokens are handed out.
    pub(crate) async fn with(
        ground: Ground,
        client: Option<IdentityClient>,
        change: impl FnOnce(&mut ApiSettings),
    ) -> Self {
        fill(ground.index.as_ref()).await;
        let token_file = ground.folder.path().join("tokens");
        let tokens = write_tokens(&token_file);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut settings = ApiSettings::new(UsernamePolicy::Plain, EventSource::new("/test/api").unwrap());
        settings.rate = 10_000.try_into().unwrap();
        change(&mut settings);
        let stop = CancellationToken::new();
        let (index, cache) = (ground.index.clone(), ground.cache.clone());
        let stores = ApiStores { index: index.clone(), claims: ground.claims.clone(), cache: cache.clone(), client };
        let file = TokenFile::open(token_file.clone()).unwrap();
        let api = Api::new(stores, &file, settings, stop.clone());
        let serving = tokio::spawn(run(listener, api.clone(), file));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, index, cache, api, stop, serving, token_file, tokens, http, ground }
    }

    /// The secret of this name.
    pub(crate) fn token(&self, name: &str) -> &str {
        &self.tokens[name]
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.tokens.values().map(String::as_str)
    }

    /// A request with no token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).bearer_auth(self.token(token))).await
    }

    /// What has to be answered well.
    pub(crate) async fn read(&self, token: &str, path: &str) -> Value {
        let answer = self.get(token, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path).bearer_auth(self.token(token)).json(body)).await
    }

    pub(crate) async fn delete(&self, token: &str, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path).bearer_auth(self.token(token))).await
    }

    /// Every byte that is stored.
    pub(crate) async fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        self.ground.bytes().await
    }

    /// The events that came up since this was asked last; the index learns of them.
    pub(crate) async fn events(&self) -> Vec<ActivityEvent> {
        let taken = self.cache.outbox.take(1_000, Duration::from_secs(600), Duration::ZERO).await.unwrap();
        let events: Vec<ActivityEvent> = taken.into_iter().map(|entry| entry.event.open().unwrap()).collect();
        let said: Vec<AccountActivity> = events.iter().map(AccountActivity::of).collect();
        self.index.apply(&said).await.unwrap();
        events
    }

    /// The server is told to stop, and has ended.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(crate::rig::PATIENCE, self.serving).await.unwrap().unwrap();
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The end of the type of a problem, whose document is as it has to be.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json", "{}", self.text);
        let document = self.json();
        assert_eq!(document["status"], self.status, "{document}");
        assert!(document["title"].as_str().is_some_and(|title| !title.is_empty()), "{document}");
        document["type"].as_str().unwrap().strip_prefix("urn:tokencache:problem:").unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, name: &str) {
        assert_eq!((self.status, self.problem()), (status, name.to_owned()), "{}", self.text);
    }
}

fn write_tokens(file: &PathBuf) -> BTreeMap<&'static str, String> {
    let mut tokens = BTreeMap::new();
    let mut lines = String::new();
    for (name, scopes, tenants) in TOKENS {
        let (token, entry) = entry(name, scopes, tenants);
        lines.push_str(&entry);
        tokens.insert(name, token);
    }
    std::fs::write(file, lines).unwrap();
    tokens
}

/// A fresh token, and its line of the file.
pub(crate) fn entry(name: &str, scopes: &[Scope], tenants: &[&str]) -> (String, String) {
    let token = ApiToken::fresh().unwrap();
    let tenants = tenants.iter().map(|tenant| tenant.parse().unwrap()).collect();
    let entry = TokenEntry {
        name: name.to_owned(),
        sha256: token.digest(),
        scopes: scopes.iter().copied().collect(),
        tenants: Some(tenants).filter(|tenants: &std::collections::BTreeSet<_>| !tenants.is_empty()),
    };
    (token.expose().to_owned(), format!("{}\n", serde_json::to_string(&entry).unwrap()))
}

/// The account with this number of a tenant. Its user is called the same in every tenant.
pub(crate) fn key(tenant: &str, number: usize) -> CacheKey {
    CacheKey::new(format!("user-{number}.{tenant}")).unwrap()
}

/// Accounts that were active so many hours ago as their number says, all due since their access token expired;
/// the second of each tenant waits for its user.
async fn fill(index: &dyn ActivityStore) {
    let now = Timestamp::now();
    let mut events = Vec::new();
    for (tenant, accounts) in TENANTS {
        for number in 0..accounts {
            let key = key(tenant, number);
            let at = now - SignedDuration::from_hours(number as i64 + 1);
            let details = details(tenant, number);
            let hint = AccountHint::from(&details);
            events.push(event(&key, Activity::UserActivity(details), at));
            if number == 1 {
                let reason = FailureReason::InteractionRequired;
                let failure =
                    AcquisitionFailure { reason, error: None, suberror: None, retry_after: None, account: hint };
                events.push(event(&key, Activity::AcquisitionFailed(failure), at + SignedDuration::from_secs(1)));
            }
        }
    }
    let said: Vec<AccountActivity> = events.iter().map(AccountActivity::of).collect();
    index.apply(&said).await.unwrap();
}

fn event(key: &CacheKey, activity: Activity, at: Timestamp) -> ActivityEvent {
    EventDraft::new(EventSource::new("/apps/test").unwrap(), key.clone(), activity).at(at)
}

fn details(tenant: &str, number: usize) -> AccountDetails {
    let expired = Timestamp::now() - SignedDuration::from_mins(10 + number as i64);
    AccountDetails {
        home_account_id: key(tenant, number).as_str().parse().unwrap(),
        object_id: None,
        tenant_id: Some(tenant.parse().unwrap()),
        environment: "login.microsoftonline.com".parse().unwrap(),
        client_id: CLIENT.parse().unwrap(),
        username: Some(Username::new(format!("user-{number}@example.com")).unwrap()),
        access_token_expires_on: Some(expired.as_second()),
        refresh_token_expires_on: None,
        has_refresh_token: true,
        properties: Properties::default(),
    }
}

/// A blob under the key, which no library can read.
pub(crate) async fn put_blob(cache: &TokenCache, key: &CacheKey) {
    let (expiry, precondition) = (ExpiryChange::default(), Precondition::None);
    let write = CacheWrite { key, blob: b"blob", expiry, precondition, event: None, fence: None };
    cache.store.write(write).await.unwrap();
}
