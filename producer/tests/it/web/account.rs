//! The account page: what the token cache gives, what is asked of the user, and what is never shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use base64::Engine as _;
use common::token_cache::TokenCacheStore as _;
use testkit::identity_provider::{Fault, FaultRule};
use tokio::net::TcpListener;

use super::site::{ADA, GRACE, SECRET, Site, key_of, parameter};

const CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

#[tokio::test]
async fn who_is_not_signed_in_is_asked_to_and_comes_back() {
    let site = Site::start().await;
    let shown = site.browser().get("/account").await;
    assert_eq!((shown.status, shown.location()), (303, "/sign-in?return_to=/account"));
}

#[tokio::test]
async fn an_expired_token_is_renewed_and_written_back_as_the_users_activity() {
    let site = Site::start().await;
    let mut ada = site.signed_in(ADA).await;
    site.events().await;
    site.provider.advance(Duration::from_secs(3_500));
    let shown = ada.get("/account").await;
    assert_eq!(shown.element("token-source"), Some("renewed just now"));
    assert_eq!(shown.element("api-status"), Some("200"));
    assert_eq!(site.event_types().await, ["tokencache.user-activity.v1"]);
    assert_eq!(ada.get("/account").await.element("token-source"), Some("taken from the cache"));
    assert!(site.events().await.is_empty(), "a token of the cache writes nothing");
}

#[tokio::test]
async fn what_the_provider_wants_of_the_user_goes_with_the_next_sign_in_and_with_no_later_one() {
    let site = Site::start().await;
    let mut ada = site.signed_in(ADA).await;
    site.provider.advance(Duration::from_secs(3_500));
    site.provider.inject(FaultRule::from(Fault::InteractionRequired { claims: Some(CLAIMS.to_owned()) }).times(1));
    let shown = ada.get("/account").await;
    assert_eq!((shown.status, shown.element("reason")), (200, Some("interaction_required")));
    assert!(shown.text.contains("href=\"/sign-in?return_to=/account\""));
    assert!(!shown.text.contains("acrs"), "the challenge stays on the server");

    let asked = ada.begin("/sign-in?return_to=/account").await;
    assert_eq!(parameter(&asked, "claims").as_deref(), Some(CLAIMS));
    assert_eq!(parameter(&asked, "login_hint").as_deref(), Some(ADA));
    let back = ada.at_provider(asked, ADA).await;
    assert_eq!(ada.get(&back).await.location(), "/account");
    assert_eq!(ada.get("/account").await.element("api-status"), Some("200"));
    assert_eq!(parameter(&ada.begin("/sign-in").await, "claims"), None);
}

#[tokio::test]
async fn the_page_asks_for_a_sign_in_when_there_is_no_token_without_one() {
    let site = Site::start().await;
    let (mut ada, mut grace) = (site.signed_in(ADA).await, site.signed_in(GRACE).await);
    site.cache.remove(&key_of(GRACE), None).await.unwrap();
    assert_eq!(grace.get("/account").await.element("reason"), Some("cache_missing"));

    site.provider.advance(Duration::from_secs(3_500));
    site.provider.revoke(ADA);
    let shown = ada.get("/account").await;
    assert_eq!(shown.element("reason"), Some("revoked"));
    assert_eq!(shown.element("sign-in-again"), Some("Please sign in again"));
    ada.sign_in(ADA).await;
    assert_eq!(ada.get("/account").await.element("api-status"), Some("200"));
}

#[tokio::test]
async fn what_passes_by_itself_is_not_the_users_business() {
    let site = Site::start().await;
    let mut ada = site.signed_in(ADA).await;
    site.provider.advance(Duration::from_secs(3_500));
    site.provider.inject(FaultRule::from(Fault::TooManyRequests { retry_after_seconds: 30 }).times(1));
    let shown = ada.get("/account").await;
    assert_eq!((shown.status, shown.element("reason")), (200, Some("throttled")));
    assert!(shown.text.contains("wait until") && shown.element("sign-in-again").is_none());
    site.provider.advance(Duration::from_secs(31));
    assert_eq!(ada.get("/account").await.element("token-source"), Some("renewed just now"));
}

#[tokio::test]
async fn no_token_and_no_secret_is_on_a_page_and_markup_is_escaped() {
    let site = Site::start().await;
    let mut ada = site.signed_in(ADA).await;
    let blob = site.blob(&key_of(ADA)).await.unwrap();
    let mut secrets = vec![SECRET.to_owned()];
    secrets.extend(blob.access_tokens().map(|token| token.secret.expose_secret().to_owned()));
    secrets.extend(blob.refresh_tokens().map(|token| token.secret.expose_secret().to_owned()));
    assert_eq!(secrets.len(), 3);
    let shown = ada.get("/account").await;
    for secret in &secrets {
        assert!(!shown.text.contains(secret));
    }
    assert_eq!(shown.element("user"), Some("Ada &lt;b&gt;Lovelace&lt;/b&gt;"));
}

/// An API that refuses the first tokens it gets.
async fn api(refusals: usize, headers: HeaderMap) -> (String, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let answer = move || async move {
        match counted.fetch_add(1, Ordering::SeqCst) < refusals {
            true => (StatusCode::UNAUTHORIZED, headers, String::new()),
            false => (StatusCode::OK, HeaderMap::new(), r#"{"answer":"42"}"#.to_owned()),
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api?key=marker-api-key", listener.local_addr().unwrap());
    let router = Router::new().route("/api", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, calls)
}

#[tokio::test]
async fn a_token_that_the_api_refuses_is_renewed_once() {
    let (url, calls) = api(1, HeaderMap::new()).await;
    let site = Site::with(|settings| settings.api_url = Some(url.parse().unwrap())).await;
    let mut ada = site.signed_in(ADA).await;
    let shown = ada.get("/account").await;
    assert_eq!(shown.element("token-source"), Some("renewed just now"));
    assert_eq!((shown.element("api-status"), calls.load(Ordering::SeqCst)), (Some("200"), 2));
    assert!(shown.text.contains("42") && !shown.text.contains("marker-api-key"));
}

#[tokio::test]
async fn an_api_that_refuses_every_token_is_not_asked_for_ever() {
    let (url, calls) = api(usize::MAX, HeaderMap::new()).await;
    let site = Site::with(|settings| settings.api_url = Some(url.parse().unwrap())).await;
    let mut ada = site.signed_in(ADA).await;
    assert_eq!(ada.get("/account").await.element("api-status"), Some("401"));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_the_api_wants_of_the_user_goes_with_the_next_sign_in() {
    let encoded = base64::engine::general_purpose::STANDARD.encode(CLAIMS);
    let challenge = format!(r#"Bearer error="insufficient_claims", claims="{encoded}""#);
    let headers = HeaderMap::from_iter([("www-authenticate".parse().unwrap(), challenge.parse().unwrap())]);
    let (url, _) = api(1, headers).await;
    let site = Site::with(|settings| settings.api_url = Some(url.parse().unwrap())).await;
    let mut ada = site.signed_in(ADA).await;
    assert_eq!(ada.get("/account").await.element("reason"), Some("interaction_required"));
    assert_eq!(parameter(&ada.begin("/sign-in").await, "claims").as_deref(), Some(CLAIMS));
}

#[tokio::test]
async fn an_api_that_is_away_does_not_take_the_page_with_it() {
    let site = Site::with(|settings| settings.api_url = Some("http://127.0.0.1:9/".parse().unwrap())).await;
    let mut ada = site.signed_in(ADA).await;
    let shown = ada.get("/account").await;
    assert_eq!((shown.status, shown.element("api-status")), (200, Some("the API did not answer")));
    assert_eq!(shown.element("token-source"), Some("taken from the cache"));
}
