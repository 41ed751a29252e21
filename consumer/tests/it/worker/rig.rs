//! A provider, a token cache and an index of a test's own, and users who signed in.

use std::sync::Arc;
use std::time::Duration;

use common::account::{CacheKey, Environment, TenantId, Username};
use common::backend::TlsFiles;
use common::backends::TokenCache;
use common::event::{AccountDetails, AcquisitionFailure, Activity, ActivityEvent, EventDraft, EventSource, Properties};
use common::identity::{Clock, Credential, IdentityClient, ProviderSettings, TokenResponse};
use common::index::{AccountActivity, ActivityStore, Claims, SqliteIndex};
use common::redis_pool::RedisPool;
use common::sqlite::Database;
use common::token_cache::msal::TokenCacheBlob;
use common::token_cache::{
    CacheWrite, Expiry, ExpiryChange, Layout, Precondition, RedisTokenCache, RedisTokenCacheOptions, SqliteTokenCache,
    SqliteTokenCacheOptions,
};
use consumer::worker::{RunReport, Selection, Worker, WorkerSettings};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;
use tempfile::TempDir;
use testkit::identity_provider::{Client, IdentityProvider, Options, Rotation, User};
use testkit::servers::KeyPrefix;
use tokio_util::sync::CancellationToken;

pub(crate) const TENANT: &str = "7d1f5a2c-3b64-4c1e-9a57-0c6d2e8f1b30";
pub(crate) const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const SECRET: &str = "the-secret-of-the-app";
pub(crate) const ADA: &str = "ada@contoso.com";
pub(crate) const GRACE: &str = "grace@contoso.com";

/// As strict as a provider can be: each refresh token is good for one use.
pub(crate) fn strict() -> Options {
    Options { rotation: Rotation::Strict, records_secrets: true, ..Options::default() }
}

pub(crate) struct Rig {
    pub(crate) provider: Arc<IdentityProvider>,
    pub(crate) client: IdentityClient,
    pub(crate) index: Arc<dyn ActivityStore>,
    pub(crate) claims: Arc<dyn Claims>,
    pub(crate) cache: TokenCache,
    pub(crate) prefix: Option<KeyPrefix>,
    folder: TempDir,
}

/// One user's place in the cache.
pub(crate) struct SignedIn {
    pub(crate) key: CacheKey,
    pub(crate) tokens: TokenResponse,
}

impl Rig {
    /// Everything in one file.
    pub(crate) async fn embedded(options: Options) -> Self {
        let (folder, database) = database().await;
        let cache = SqliteTokenCache::open(database.clone(), SqliteTokenCacheOptions::default()).await.unwrap();
        Self::with(options, TokenCache::of(cache), folder, database, None).await
    }

    /// The token cache in Redis.
    pub(crate) async fn on_redis(options: Options, layout: Layout) -> Self {
        let (folder, database) = database().await;
        let prefix = KeyPrefix::fresh().await;
        let pool = RedisPool::new(&prefix.redis_url().parse().unwrap(), &TlsFiles::default(), 16).unwrap();
        let redis = RedisTokenCacheOptions { instance_name: prefix.to_string(), layout, ..Default::default() };
        let cache = RedisTokenCache::open(pool, redis).await.unwrap();
        Self::with(options, TokenCache::of(cache), folder, database, Some(prefix)).await
    }

    async fn with(
        options: Options,
        cache: TokenCache,
        folder: TempDir,
        database: Database,
        prefix: Option<KeyPrefix>,
    ) -> Self {
        let provider = Arc::new(IdentityProvider::start(options).await.unwrap());
        provider.register_client(Client::confidential(CLIENT, SECRET));
        provider.register_users([ADA, GRACE].map(|name| User::new(TENANT, name, name)));
        let client = client(&provider, TENANT).await;
        let index = Arc::new(SqliteIndex::open(database).await.unwrap());
        let claims: Arc<dyn Claims> = index.clone();
        Self { provider, client, index, claims, cache, prefix, folder }
    }

    pub(crate) fn worker(&self, settings: WorkerSettings) -> Worker {
        Worker::new(Arc::clone(&self.index), self.cache.clone(), self.client.clone(), settings)
    }

    /// Hydrates everybody.
    pub(crate) async fn hydrate(&self) -> RunReport {
        self.hydrate_with(WorkerSettings::default()).await
    }

    pub(crate) async fn hydrate_with(&self, settings: WorkerSettings) -> RunReport {
        self.worker(settings).hydrate(&everybody(), CancellationToken::new()).await.unwrap()
    }

    /// Signs a user in as the web app would: blob, event, and their entry in the index.
    pub(crate) async fn sign_in(&self, username: &str) -> SignedIn {
        let tokens = self.tokens(username).await;
        let mut blob = TokenCacheBlob::empty();
        tokens.save_into(&mut blob);
        let key = CacheKey::new(tokens.home_account_id.as_str()).unwrap();
        self.put(&key, &blob.serialize()).await;
        self.list(&key, &details_of(&tokens, username)).await;
        SignedIn { key, tokens }
    }

    /// New tokens of a user, kept nowhere.
    pub(crate) async fn tokens(&self, username: &str) -> TokenResponse {
        let scopes = "openid profile offline_access User.Read";
        let answer = self.provider.sign_in(CLIENT, TENANT, username, scopes).unwrap();
        let refresh_token = SecretString::from(answer["refresh_token"].as_str().unwrap());
        let home = User::new(TENANT, username, username).home_account_id().parse().unwrap();
        self.client.refresh(&refresh_token, &home, &"User.Read".parse().unwrap()).await.unwrap()
    }

    pub(crate) async fn put(&self, key: &CacheKey, blob: &[u8]) {
        self.put_until(key, blob, Expiry::default()).await;
    }

    pub(crate) async fn put_until(&self, key: &CacheKey, blob: &[u8], expiry: Expiry) {
        let precondition = Precondition::None;
        let write = CacheWrite { key, blob, expiry: ExpiryChange::To(expiry), precondition, event: None, fence: None };
        self.cache.store.write(write).await.unwrap();
    }

    /// Puts an account on the list.
    pub(crate) async fn list(&self, key: &CacheKey, details: &AccountDetails) {
        let draft = EventDraft::new(web(), key.clone(), Activity::UserActivity(details.clone()));
        self.index.apply(&[AccountActivity::of(&draft.at(Timestamp::now()))]).await.unwrap();
    }

    pub(crate) async fn blob(&self, key: &CacheKey) -> TokenCacheBlob {
        TokenCacheBlob::parse(&self.cache.store.read(key).await.unwrap().unwrap()).unwrap()
    }

    /// The events that came up since this was asked last; the index learns of them.
    pub(crate) async fn events(&self) -> Vec<ActivityEvent> {
        let taken = self.cache.outbox.take(1000, Duration::from_secs(600), Duration::ZERO).await.unwrap();
        let events: Vec<ActivityEvent> = taken.into_iter().map(|entry| entry.event.open().unwrap()).collect();
        let said: Vec<AccountActivity> = events.iter().map(AccountActivity::of).collect();
        self.index.apply(&said).await.unwrap();
        events
    }

    /// The failures that came up since the events were asked for last.
    pub(crate) async fn failures(&self) -> Vec<AcquisitionFailure> {
        let of = |event: ActivityEvent| match event.activity {
            Activity::AcquisitionFailed(failure) => Some(failure),
            _ => None,
        };
        self.events().await.into_iter().filter_map(of).collect()
    }

    pub(crate) async fn account(&self, key: &CacheKey) -> AccountActivity {
        self.index.get(key).await.unwrap().unwrap()
    }

    /// Lets the access tokens of a blob have expired long ago, for programs that have their own clock.
    pub(crate) async fn age(&self, key: &CacheKey) {
        let bytes = self.cache.store.read(key).await.unwrap().unwrap();
        let mut blob: Value = serde_json::from_slice(&bytes).unwrap();
        for token in blob["AccessToken"].as_object_mut().unwrap().values_mut() {
            for field in ["cached_at", "expires_on", "extended_expires_on"] {
                token[field] = "1795000000".into();
            }
        }
        self.put(key, blob.to_string().as_bytes()).await;
    }

    /// Whether somebody refreshes the blob under `key` just now.
    pub(crate) async fn is_locked(&self, key: &CacheKey) -> bool {
        match self.cache.refresh_lock.try_acquire(key, Duration::from_secs(1)).await.unwrap() {
            None => true,
            Some(permit) => {
                self.cache.refresh_lock.release(key, &permit).await.unwrap();
                false
            }
        }
    }

    /// Where an embedded rig's file is.
    pub(crate) fn url(&self) -> String {
        url_in(&self.folder)
    }

    /// Lets all access tokens expire.
    pub(crate) fn expire(&self) {
        self.provider.advance(Duration::from_secs(3600));
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.provider.all_token_requests().with_grant("refresh_token")
    }
}

async fn database() -> (TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&url_in(&folder).parse().unwrap()).await.unwrap();
    (folder, database)
}

fn url_in(folder: &TempDir) -> String {
    format!("sqlite://{}/all.db", folder.path().display())
}

/// The app's client, by the provider's clock, for blobs as MSAL for Python writes them.
pub(crate) async fn client(provider: &Arc<IdentityProvider>, tenant: &str) -> IdentityClient {
    let authority = provider.base_url().parse().unwrap();
    let mut settings =
        ProviderSettings::new(authority, CLIENT.parse().unwrap(), Credential::ClientSecret(SECRET.into()));
    settings.tenant = Some(tenant.parse().unwrap());
    settings.environment = Some(environment());
    let provider = Arc::clone(provider);
    let clock = Clock::new(move || Timestamp::UNIX_EPOCH + provider.now());
    IdentityClient::discover_at(settings, clock).await.unwrap()
}

fn environment() -> Environment {
    Environment::new("login.microsoftonline.com").unwrap()
}

pub(crate) fn web() -> EventSource {
    EventSource::new("/apps/web").unwrap()
}

pub(crate) fn everybody() -> Selection {
    Selection::active_since(Timestamp::UNIX_EPOCH)
}

/// What a web app says of a user, with a property of its own.
pub(crate) fn details_of(tokens: &TokenResponse, username: &str) -> AccountDetails {
    let (object_id, tenant_id) = tokens.home_account_id.halves().unwrap();
    let properties = [("department".to_owned(), "R&D".into())].into();
    AccountDetails {
        home_account_id: tokens.home_account_id.clone(),
        object_id: Some(object_id),
        tenant_id: Some(tenant_id),
        environment: environment(),
        client_id: CLIENT.parse().unwrap(),
        username: Some(Username::new(username).unwrap()),
        access_token_expires_on: None,
        refresh_token_expires_on: None,
        has_refresh_token: true,
        properties: Properties::new(properties).unwrap(),
    }
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

/// Everything a blob has of one section, by the secret.
pub(crate) fn secrets(blob: &TokenCacheBlob) -> (Vec<String>, Vec<String>) {
    let access = blob.access_tokens().map(|token| token.secret.expose_secret().to_owned()).collect();
    let refresh = blob.refresh_tokens().map(|token| token.secret.expose_secret().to_owned()).collect();
    (access, refresh)
}
