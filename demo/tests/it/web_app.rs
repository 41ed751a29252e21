//! The web app in a real browser, with a certified OpenID provider: from the sign-in to the sign-out, and after it.

use std::sync::Arc;

use async_trait::async_trait;
use common::account::{CacheKey, ClientId, HomeAccountId};
use common::backend::BackendError;
use common::event::{Activity, EventDraft, EventSource};
use common::identity::{
    AcquireError, Acquired, CacheWriter, Credential, HttpSettings, IdentityClient, ProviderKind, ProviderSettings,
    SilentRequest, TokenAcquirer,
};
use common::token_cache::msal::TokenCacheBlob;
use common::token_cache::{CacheWrite, Expiry, Precondition, WriteOutcome};
use producer::simulate::Population;
use producer::web::{WebApp, WebSettings};
use testkit::node::{Browser, OidcClient, OidcProvider};
use testkit::servers::{KeyPrefix, Vhost};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::pipeline::{PATIENCE, Pipeline};

const ADA: &str = "ada@contoso.com";
const CLIENT: &str = "contoso-portal";
const SECRET: &str = "not-a-real-secret";

/// The web app at its own address, and its provider.
struct WebSide {
    url: String,
    provider: OidcProvider,
    client: IdentityClient,
    _stop: DropGuard,
}

impl WebSide {
    async fn start(pipeline: &Pipeline) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let settings = WebSettings::new(url.parse().unwrap());
        let provider = OidcProvider::start(&OidcClient {
            client_id: CLIENT.to_owned(),
            client_secret: SECRET.to_owned(),
            redirect_uri: settings.public_url.redirect_uri().into(),
            post_logout_redirect_uri: settings.public_url.post_logout_redirect_uri().into(),
            access_token_seconds: 5,
        })
        .await;
        let credential = Credential::ClientSecret(SECRET.to_owned().into());
        let told =
            ProviderSettings::new(provider.issuer().parse().unwrap(), ClientId::new(CLIENT).unwrap(), credential);
        let told = ProviderSettings { redirect_uri: Some(settings.public_url.redirect_uri()), ..told };
        let client = IdentityClient::discover(told).await.unwrap();
        assert_eq!(client.kind(), ProviderKind::Generic);
        let lock = pipeline.cache.refresh_lock.clone();
        let app = WebApp::new(client.clone(), pipeline.adapter.clone(), lock, &HttpSettings::default(), settings);
        let stop = CancellationToken::new();
        tokio::spawn(producer::web::run(listener, app.unwrap(), stop.clone()));
        Self { url, provider, client, _stop: stop.drop_guard() }
    }
}

/// Through the provider's pages: name and password, then consent.
async fn sign_in(browser: &mut Browser, web: &WebSide) {
    assert_eq!(browser.open(&web.url).await, 200);
    browser.click("a.button").await;
    browser.fill("input[name=login]", ADA).await;
    browser.fill("input[name=password]", "any will do").await;
    browser.click("button[type=submit]").await;
    browser.click("form:has(input[value=consent]) button").await;
    assert_eq!(browser.read("#username").await, ADA);
    assert_eq!(browser.address().await, format!("{}/account", web.url));
}

async fn sign_out(browser: &mut Browser, web: &WebSide) {
    browser.click("#sign-out").await;
    browser.click("button[name=logout]").await;
    assert_eq!(browser.read("#signed-out").await, "You are signed out");
    assert_eq!(browser.address().await, format!("{}/signed-out", web.url));
}

async fn stored_access_token(pipeline: &Pipeline, key: &CacheKey) -> String {
    let bytes = pipeline.cache.store.read(key).await.unwrap().unwrap();
    let blob = TokenCacheBlob::parse(&bytes).unwrap();
    blob.access_tokens().next().unwrap().secret.expose_secret().to_owned()
}

/// As a worker writes: with a `hydrated` event.
#[derive(Debug)]
struct Hydration {
    pipeline_cache: common::backends::TokenCache,
    known: common::event::AccountDetails,
}

#[async_trait]
impl CacheWriter for Hydration {
    async fn write_back(&self, key: &CacheKey, read: Option<&[u8]>, blob: &[u8]) -> Result<WriteOutcome, BackendError> {
        let source = EventSource::new("/workers/test").unwrap();
        let event = EventDraft::new(source, key.clone(), Activity::Hydrated(self.known.clone()));
        let precondition = read.map_or(Precondition::Absent, Precondition::Unchanged);
        let write = CacheWrite { key, blob, expiry: Expiry::default(), precondition, event: Some(&event) };
        self.pipeline_cache.store.write(write).await
    }
}

async fn hydrate(
    pipeline: &Pipeline,
    web: &WebSide,
    known: &common::event::AccountDetails,
) -> Result<Acquired, AcquireError> {
    let cache = pipeline.cache.clone();
    let writer = Hydration { pipeline_cache: cache.clone(), known: known.clone() };
    let acquirer = TokenAcquirer::new(web.client.clone(), cache.store, Arc::new(writer), Some(cache.refresh_lock));
    let key = CacheKey::new(known.home_account_id.as_str()).unwrap();
    let request = SilentRequest::new(
        key,
        HomeAccountId::new(known.home_account_id.as_str()).unwrap(),
        web.client.scopes().clone(),
    );
    acquirer.acquire_token_silent(&request).await
}

#[tokio::test]
async fn a_user_of_a_real_browser_is_found_hydrated_and_after_the_sign_out_gone_for_good() {
    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    let pipeline = Pipeline::on_servers(&vhost.amqp_url(), &prefix).await;
    let web = WebSide::start(&pipeline).await;
    let mut browser = Browser::start();

    sign_in(&mut browser, &web).await;
    assert_eq!(browser.read("#api-status").await, "200");
    assert_eq!(browser.cookies_for_scripts().await, "", "the cookies of the app are out of a script's reach");
    let key = CacheKey::new(browser.read("#cache-key").await).unwrap();

    testkit::wait_until(PATIENCE, || async { pipeline.of_user(ADA).await.len() == 1 }).await;
    let found = pipeline.of_user(ADA).await.remove(0);
    assert_eq!((&found.cache_key, found.last_hydration), (&key, None));
    let known = found.details.unwrap().value;

    let expiring = stored_access_token(&pipeline, &key).await;
    testkit::wait_until(PATIENCE, || async { !web.provider.takes(&expiring).await }).await;
    let token = hydrate(&pipeline, &web, &known).await.unwrap().token;
    assert!(web.provider.takes(token.expose()).await);
    let is_told = || async { pipeline.get(key.as_str()).await.unwrap().last_hydration.is_some() };
    testkit::wait_until(PATIENCE, is_told).await;

    browser.open(&format!("{}/account", web.url)).await;
    assert_eq!(browser.read("#api-status").await, "200", "the web app goes on with what the worker wrote");
    let counts = web.provider.counts().await;
    assert_eq!((counts.refused, counts.revoked), (0, 0), "no refresh token was used twice");

    sign_out(&mut browser, &web).await;
    assert!(pipeline.cache.store.read(&key).await.unwrap().is_none());
    testkit::wait_until(PATIENCE, || async { pipeline.listed().await == 0 }).await;
    assert!(matches!(hydrate(&pipeline, &web, &known).await, Err(AcquireError::CacheMissing)));
    let later = write_another(&pipeline).await;
    testkit::wait_until(PATIENCE, || async { pipeline.get(later.as_str()).await.is_some() }).await;
    assert!(pipeline.cache.store.read(&key).await.unwrap().is_none());
    assert_eq!((pipeline.of_user(ADA).await.len(), pipeline.listed().await), (0, 1));
}

/// An account whose event comes after all those before it.
async fn write_another(pipeline: &Pipeline) -> CacheKey {
    let population = Population { seed: 1, tenants: 1, access_token_lifetime: std::time::Duration::from_secs(3600) };
    let user = population.user(0);
    let blob = population.blob(&user, jiff::Timestamp::now().as_second());
    pipeline.adapter.write(&user.cache_key(), &blob, Expiry::default()).await.unwrap();
    user.cache_key()
}
