//! The web app in a real browser, with a certified OpenID provider: from the sign-in to the sign-out, and after it.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use common::account::{CacheKey, ClientId, Username};
use common::backends::{Backends, Log};
use common::identity::{Credential, HttpSettings, IdentityClient, ProviderKind, ProviderSettings};
use common::index::ActivityStore;
use common::token_cache::Expiry;
use common::token_cache::msal::TokenCacheBlob;
use consumer::projector::{Projector, ProjectorSettings};
use consumer::worker::{Selection, Worker, WorkerSettings};
use producer::simulate::Population;
use producer::web::{WebApp, WebSettings};
use serde_json::{Value, json};
use testkit::node::{Browser, OidcClient, OidcProvider};
use testkit::servers::{KeyPrefix, Vhost};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::pipeline::{PATIENCE, Pipeline, connections, consumer, in_file, on_servers};

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

/// `consumer hydrate user`; how many accounts it renewed, and how many had each outcome.
async fn hydrate(web: &WebSide, servers: &[String]) -> (u64, Value) {
    let output = Command::new(consumer())
        .args(["hydrate", "user", ADA, "--json"])
        .args(servers)
        .env("IDP_AUTHORITY", web.provider.issuer())
        .env("IDP_CLIENT_ID", CLIENT)
        .env("IDP_CLIENT_SECRET", SECRET)
        .env_remove("IDP_TENANT")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (report["hydrated"].as_u64().unwrap(), report["outcomes"].clone())
}

/// An index that has heard of everything until now, and hears no more.
async fn index_of_today(servers: &[String], file: &std::path::Path, key: &CacheKey) -> Arc<dyn ActivityStore> {
    let Log { log, dead_letters } = Backends::new(connections(servers)).log().await.unwrap();
    let index = Backends::new(connections(&in_file(file))).index().await.unwrap();
    let projector = Projector::new(log, dead_letters, index.clone(), ProjectorSettings::default());
    let stop = CancellationToken::new();
    let projecting = tokio::spawn(projector.run(stop.clone()));
    testkit::wait_until(PATIENCE, || async { index.get(key).await.unwrap().is_some() }).await;
    stop.cancel();
    projecting.await.unwrap().unwrap();
    index
}

/// An account whose event comes after all those before it.
async fn write_another(pipeline: &Pipeline) -> CacheKey {
    let population = Population { seed: 1, tenants: 1, access_token_lifetime: Duration::from_secs(3600) };
    let user = population.user(0);
    let blob = population.blob(&user, jiff::Timestamp::now().as_second());
    pipeline.adapter.write(&user.cache_key(), &blob, Expiry::default()).await.unwrap();
    user.cache_key()
}

#[tokio::test]
async fn a_user_of_a_real_browser_is_found_hydrated_and_after_the_sign_out_gone_for_good() {
    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    let servers = on_servers(&vhost.amqp_url(), &prefix);
    let pipeline = Pipeline::on(&servers).await;
    let web = WebSide::start(&pipeline).await;
    let mut browser = Browser::start();

    // Signed in, with a page that shows it, and in the index.
    sign_in(&mut browser, &web).await;
    assert_eq!(browser.read("#api-status").await, "200");
    assert_eq!(browser.cookies_for_scripts().await, "", "the cookies of the app are out of a script's reach");
    let key = CacheKey::new(browser.read("#cache-key").await).unwrap();
    testkit::wait_until(PATIENCE, || async { pipeline.of_user(ADA).await.len() == 1 }).await;
    let found = pipeline.of_user(ADA).await.remove(0);
    assert_eq!((&found.cache_key, found.last_hydration), (&key, None));

    // Away until the access token has expired: a worker has a new one, and the web app goes on with it.
    let expiring = stored_access_token(&pipeline, &key).await;
    testkit::wait_until(PATIENCE, || async { !web.provider.takes(&expiring).await }).await;
    assert_eq!(hydrate(&web, &servers).await, (1, json!({"hydrated": 1})));
    assert_ne!(stored_access_token(&pipeline, &key).await, expiring);
    let is_told = || async { pipeline.get(key.as_str()).await.unwrap().last_hydration.is_some() };
    testkit::wait_until(PATIENCE, is_told).await;
    browser.open(&format!("{}/account", web.url)).await;
    assert_eq!(browser.read("#api-status").await, "200");
    let counts = web.provider.counts().await;
    assert_eq!((counts.refused, counts.revoked), (0, 0), "no refresh token was used twice");

    // Signed out: gone, also for a worker that has not heard of it.
    let folder = tempfile::tempdir().unwrap();
    let outdated = index_of_today(&servers, &folder.path().join("index.sqlite"), &key).await;
    sign_out(&mut browser, &web).await;
    assert!(pipeline.cache.store.read(&key).await.unwrap().is_none());
    testkit::wait_until(PATIENCE, || async { pipeline.listed().await == 0 }).await;
    assert_eq!(hydrate(&web, &servers).await, (0, json!({})));

    let mut late = Worker::new(outdated, pipeline.cache.clone(), web.client.clone(), WorkerSettings::default());
    let report = late.hydrate(&Selection::user(Username::new(ADA).unwrap()), CancellationToken::new()).await.unwrap();
    assert_eq!(json!(report.outcomes), json!({"cache_missing": 1}));
    let later = write_another(&pipeline).await;
    testkit::wait_until(PATIENCE, || async { pipeline.get(later.as_str()).await.is_some() }).await;
    assert!(pipeline.cache.store.read(&key).await.unwrap().is_none());
    assert_eq!((pipeline.of_user(ADA).await.len(), pipeline.listed().await), (0, 1));
}
