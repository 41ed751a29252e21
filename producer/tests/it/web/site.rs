//! The web app on a port of its own, its identity provider, its token cache, and browsers to visit it with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::account::{CacheKey, ClientId};
use common::backend::{BackendError, Trouble};
use common::event::{ActivityEvent, EventDraft, EventSource};
use common::identity::{Clock, Credential, HttpSettings, IdentityClient, ProviderSettings};
use common::sqlite::Database;
use common::token_cache::msal::TokenCacheBlob;
use common::token_cache::{
    CacheWrite, Outbox as _, SqliteTokenCache, SqliteTokenCacheOptions, TokenCacheStore, WriteOutcome,
};
use jiff::Timestamp;
use producer::adapter::{AdapterSettings, TokenCacheAdapter};
use producer::web::{WebApp, WebSettings, run};
use reqwest::header::{COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{RequestBuilder, Url};
use tempfile::TempDir;
use testkit::identity_provider::{Client, IdentityProvider, Options, User};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const TENANT: &str = "7d1f5a2c-3b64-4c1e-9a57-0c6d2e8f1b30";
pub(crate) const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const SECRET: &str = "marker-client-secret";
pub(crate) const ADA: &str = "ada@contoso.com";
pub(crate) const GRACE: &str = "grace@contoso.com";

/// A running web app with all it needs.
pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) app: WebApp,
    pub(crate) provider: Arc<IdentityProvider>,
    pub(crate) cache: SqliteTokenCache,
    /// The app's way to it.
    pub(crate) store: Arc<Way>,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    _folder: TempDir,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With settings of its own.
    pub(crate) async fn with(change: impl FnOnce(&mut WebSettings)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut settings = WebSettings::new(url.parse().unwrap());
        change(&mut settings);
        let provider = provider().await;
        let client = client(&provider, &settings).await;
        let (folder, cache) = cache().await;
        let source = EventSource::new("/apps/test").unwrap();
        let store =
            Arc::new(Way { cache: cache.clone(), is_down: AtomicBool::default(), reads: AtomicUsize::default() });
        let adapter = TokenCacheAdapter::new(store.clone(), AdapterSettings::new(source));
        let http = HttpSettings::default();
        let app = WebApp::new(client, adapter, Arc::new(cache.clone()), &http, settings).unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(run(listener, app.clone(), stop.clone()));
        Self { url, app, provider, cache, store, stop, serving, _folder: folder }
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser::new(&self.url)
    }

    /// A browser in which this user is signed in.
    pub(crate) async fn signed_in(&self, username: &str) -> Browser {
        let mut browser = self.browser();
        browser.sign_in(username).await;
        browser
    }

    pub(crate) async fn blob(&self, key: &CacheKey) -> Option<TokenCacheBlob> {
        self.cache.read(key).await.unwrap().map(|bytes| TokenCacheBlob::parse(&bytes).unwrap())
    }

    /// The events that were written since it was asked last.
    pub(crate) async fn events(&self) -> Vec<ActivityEvent> {
        let taken = self.cache.take(100, Duration::from_secs(600), Duration::ZERO).await.unwrap();
        taken.into_iter().map(|entry| entry.event.open().unwrap()).collect()
    }

    /// Their words.
    pub(crate) async fn event_types(&self) -> Vec<&'static str> {
        self.events().await.iter().map(|event| event.activity.event_type().as_str()).collect()
    }
}

/// A way to a token cache, which can be cut.
#[derive(Debug)]
pub(crate) struct Way {
    cache: SqliteTokenCache,
    is_down: AtomicBool,
    reads: AtomicUsize,
}

impl Way {
    pub(crate) fn take_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    /// How often the app has read.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn open(&self) -> Result<&SqliteTokenCache, BackendError> {
        let down = || BackendError::plain(Trouble::Unavailable, "test://store", "the store does not answer");
        if self.is_down.load(Ordering::SeqCst) { Err(down()) } else { Ok(&self.cache) }
    }
}

#[async_trait]
impl TokenCacheStore for Way {
    async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.open()?.read(key).await
    }

    async fn write(&self, write: CacheWrite<'_>) -> Result<WriteOutcome, BackendError> {
        self.open()?.write(write).await
    }

    async fn remove(&self, key: &CacheKey, event: Option<&EventDraft>) -> Result<bool, BackendError> {
        self.open()?.remove(key, event).await
    }
}

async fn provider() -> Arc<IdentityProvider> {
    let provider = IdentityProvider::start(Options::default()).await.unwrap();
    provider.register_client(Client::confidential(CLIENT, SECRET));
    provider.register_users([User::new(TENANT, ADA, "Ada <b>Lovelace</b>"), User::new(TENANT, GRACE, "Grace Hopper")]);
    Arc::new(provider)
}

/// It goes by the provider's clock, which a test moves.
async fn client(provider: &Arc<IdentityProvider>, settings: &WebSettings) -> IdentityClient {
    let authority = provider.base_url().parse().unwrap();
    let credential = Credential::ClientSecret(SECRET.to_owned().into());
    let mut told = ProviderSettings::new(authority, ClientId::new(CLIENT).unwrap(), credential);
    told.tenant = Some(TENANT.parse().unwrap());
    told.scopes = "User.Read".parse().unwrap();
    told.redirect_uri = Some(settings.public_url.redirect_uri());
    let provider = Arc::clone(provider);
    IdentityClient::discover_at(told, Clock::new(move || Timestamp::UNIX_EPOCH + provider.now())).await.unwrap()
}

async fn cache() -> (TempDir, SqliteTokenCache) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/cache.db", folder.path().display());
    let database = Database::open(&url.parse().unwrap()).await.unwrap();
    (folder, SqliteTokenCache::open(database, SqliteTokenCacheOptions::default()).await.unwrap())
}

pub(crate) fn key_of(username: &str) -> CacheKey {
    CacheKey::new(User::new(TENANT, username, "").home_account_id()).unwrap()
}

/// A browser: it keeps cookies, and follows no redirect by itself.
#[derive(Clone)]
pub(crate) struct Browser {
    site: String,
    http: reqwest::Client,
    pub(crate) cookies: BTreeMap<String, String>,
}

/// What it was shown.
pub(crate) struct Shown {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Shown {
    /// Where it leads.
    pub(crate) fn location(&self) -> &str {
        self.headers.get(LOCATION).unwrap_or_else(|| panic!("status {}: {}", self.status, self.text)).to_str().unwrap()
    }

    /// The `Set-Cookie` of this name.
    pub(crate) fn set_cookie(&self, name: &str) -> Option<&str> {
        let lines = self.headers.get_all(SET_COOKIE).into_iter().map(|line| line.to_str().unwrap());
        lines.into_iter().find(|line| line.starts_with(&format!("{name}=")))
    }

    /// The text of the element with this id.
    pub(crate) fn element(&self, id: &str) -> Option<&str> {
        let from = self.text.find(&format!("id=\"{id}\""))?;
        let inner = self.text[from..].split_once('>')?.1;
        inner.split_once("</").map(|(text, _)| text)
    }

    /// What the forms of the page carry.
    pub(crate) fn form_token(&self) -> &str {
        self.text.split_once("name=\"form_token\" value=\"").unwrap().1.split('"').next().unwrap()
    }
}

impl Browser {
    /// A fresh one, for the site at `url`.
    pub(crate) fn new(url: &str) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self { site: url.to_owned(), http, cookies: BTreeMap::new() }
    }

    /// Visits the site by another address from now on.
    pub(crate) fn at(&mut self, url: &str) {
        url.clone_into(&mut self.site);
    }

    pub(crate) async fn get(&mut self, path: &str) -> Shown {
        self.send(self.http.get(format!("{}{path}", self.site))).await
    }

    pub(crate) async fn post(&mut self, path: &str, form: &[(&str, &str)], headers: HeaderMap) -> Shown {
        self.send(self.http.post(format!("{}{path}", self.site)).form(form).headers(headers)).await
    }

    async fn send(&mut self, request: RequestBuilder) -> Shown {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let response = request.header(COOKIE, cookies.join("; ")).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let shown = Shown { status, headers, text: response.text().await.unwrap() };
        self.keep_cookies(&shown);
        shown
    }

    fn keep_cookies(&mut self, shown: &Shown) {
        for line in shown.headers.get_all(SET_COOKIE) {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            match line.contains("Max-Age=0") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
    }

    /// Begins a sign-in; where the provider is asked.
    pub(crate) async fn begin(&mut self, path: &str) -> Url {
        let shown = self.get(path).await;
        shown.location().parse().unwrap()
    }

    /// Goes to the provider as this user; the path to come back by.
    pub(crate) async fn at_provider(&self, mut asked: Url, username: &str) -> String {
        asked.query_pairs_mut().append_pair("login_hint", username);
        let answer = self.http.get(asked).send().await.unwrap();
        assert_eq!(answer.status(), 302, "{}", answer.text().await.unwrap());
        let back: Url = answer.headers()[LOCATION].to_str().unwrap().parse().unwrap();
        back[url::Position::BeforePath..].to_owned()
    }

    /// A whole sign-in that begins at `path`; what the app answers at its end.
    pub(crate) async fn sign_in_by(&mut self, path: &str, username: &str) -> Shown {
        let asked = self.begin(path).await;
        let back = self.at_provider(asked, username).await;
        self.get(&back).await
    }

    pub(crate) async fn sign_in(&mut self, username: &str) {
        let shown = self.sign_in_by("/sign-in", username).await;
        assert_eq!((shown.status, shown.location()), (303, "/account"));
    }

    pub(crate) async fn sign_out(&mut self) -> Shown {
        let form_token = self.get("/account").await.form_token().to_owned();
        self.post("/sign-out", &[("form_token", &form_token)], HeaderMap::new()).await
    }

    pub(crate) async fn is_signed_in(&mut self) -> bool {
        self.get("/account").await.status == 200
    }
}

/// The same URL with another value of one parameter.
pub(crate) fn with(url: &Url, name: &str, value: &str) -> Url {
    let mut changed = url.clone();
    let others: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(key, _)| key != name).collect();
    changed.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value);
    changed
}

pub(crate) fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
