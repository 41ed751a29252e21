//! Signing out: by the user's own form alone, and for good.

use std::time::Duration;

use reqwest::header::{HeaderMap, ORIGIN};
use testkit::identity_provider::{Fault, FaultRule};

use super::site::{ADA, Browser, GRACE, Site, key_of, parameter};
use crate::rig::PATIENCE;

fn from(origin: &str) -> HeaderMap {
    HeaderMap::from_iter([(ORIGIN, origin.parse().unwrap())])
}

async fn token_of(browser: &mut Browser) -> String {
    browser.get("/account").await.form_token().to_owned()
}

#[tokio::test]
async fn a_sign_out_removes_the_cache_tells_the_workers_ends_the_session_and_leads_to_the_provider() {
    let site = Site::start().await;
    let mut ada = site.signed_in(ADA).await;
    let old = ada.clone();
    site.events().await;

    let shown = ada.sign_out().await;
    assert_eq!((shown.status, shown.location()), (303, "/signing-out"));
    let page = ada.get("/signing-out").await.text.replace("&amp;", "&");
    let next = page.split_once("content=\"0; url=").unwrap().1.split('"').next().unwrap();
    let next: reqwest::Url = next.parse().unwrap();
    assert!(next.as_str().starts_with(site.provider.base_url()), "{next}");
    assert_eq!(parameter(&next, "post_logout_redirect_uri").unwrap(), format!("{}/signed-out", site.url));
    assert!(!ada.cookies.contains_key("__Host-session"));

    assert!(site.blob(&key_of(ADA)).await.is_none());
    assert_eq!(site.event_types().await, ["tokencache.removed.v1"]);
    assert_eq!(site.app.sessions(), 0);
    assert!(!old.clone().is_signed_in().await, "the cookie from before is worth nothing");
    assert_eq!(ada.get("/signed-out").await.element("signed-out"), Some("You are signed out"));
}

#[tokio::test]
async fn a_form_that_is_not_the_users_own_signs_nobody_out() {
    let site = Site::start().await;
    let (mut ada, mut grace) = (site.signed_in(ADA).await, site.signed_in(GRACE).await);
    let (hers, other) = (token_of(&mut ada).await, token_of(&mut grace).await);
    let cases = [
        (None, HeaderMap::new()),
        (Some(""), HeaderMap::new()),
        (Some("x"), HeaderMap::new()),
        (Some(&*other), HeaderMap::new()),
        (Some(&*hers), from("https://evil.example")),
        (Some(&*hers), from("null")),
    ];
    for (token, headers) in cases {
        let form: Vec<(&str, &str)> = token.iter().map(|token| ("form_token", *token)).collect();
        assert_eq!(ada.post("/sign-out", &form, headers).await.status, 403, "{token:?}");
    }
    assert_eq!(ada.get("/sign-out").await.status, 405, "a link signs nobody out");
    assert!(ada.is_signed_in().await && site.blob(&key_of(ADA)).await.is_some());
    assert_eq!(ada.post("/sign-out", &[("form_token", &hers)], from(&site.url)).await.status, 303);
}

#[tokio::test]
async fn each_session_has_a_form_token_of_its_own() {
    let site = Site::start().await;
    let (mut one, mut other) = (site.signed_in(ADA).await, site.signed_in(ADA).await);
    let token = token_of(&mut one).await;
    assert_ne!(token, token_of(&mut other).await);
    assert_eq!(token, token_of(&mut one).await, "several pages of one session work side by side");
}

#[tokio::test]
async fn without_a_session_there_is_nothing_to_do() {
    let site = Site::start().await;
    let shown = site.browser().post("/sign-out", &[], HeaderMap::new()).await;
    assert_eq!((shown.status, shown.location()), (303, "/signed-out"));
    assert!(site.events().await.is_empty());
}

#[tokio::test]
async fn after_a_sign_out_the_users_other_browsers_are_asked_to_sign_in() {
    let site = Site::start().await;
    let (mut one, mut other) = (site.signed_in(ADA).await, site.signed_in(ADA).await);
    one.sign_out().await;
    let shown = other.get("/account").await;
    assert_eq!(shown.element("reason"), Some("cache_missing"));
    assert!(site.blob(&key_of(ADA)).await.is_none(), "looking brings nothing back");
}

#[tokio::test]
async fn a_refresh_under_way_does_not_bring_back_what_a_sign_out_removed() {
    let site = Site::start().await;
    let mut ada = site.signed_in(ADA).await;
    let token = token_of(&mut ada).await;
    site.events().await;
    site.provider.advance(Duration::from_secs(3_500));
    site.provider.inject(FaultRule::from(Fault::Delay { millis: 500 }).times(1));
    let (mut other_tab, reads) = (ada.clone(), site.store.reads());
    let refreshing = tokio::spawn(async move { other_tab.get("/account").await });
    // The second read is the one under the lock; the provider is asked next.
    testkit::wait_until(PATIENCE, || async { site.store.reads() == reads + 2 }).await;

    assert_eq!(ada.post("/sign-out", &[("form_token", &token)], HeaderMap::new()).await.status, 303);
    assert_eq!(refreshing.await.unwrap().element("reason"), Some("cache_missing"));
    assert!(site.blob(&key_of(ADA)).await.is_none());
    assert_eq!(site.event_types().await, ["tokencache.removed.v1"]);
}

#[tokio::test]
async fn while_the_cache_cannot_be_removed_nobody_is_signed_out() {
    let site = Site::start().await;
    let mut ada = site.signed_in(ADA).await;
    let token = token_of(&mut ada).await;
    site.store.take_down(true);
    let shown = ada.post("/sign-out", &[("form_token", &token)], HeaderMap::new()).await;
    assert_eq!((shown.status, shown.element("problem")), (503, Some("Your tokens cannot be reached")));
    assert_eq!(ada.get("/account").await.element("reason"), Some("store_unavailable"));
    site.store.take_down(false);
    assert_eq!(ada.post("/sign-out", &[("form_token", &token)], HeaderMap::new()).await.status, 303);
    assert!(site.blob(&key_of(ADA)).await.is_none());
}
