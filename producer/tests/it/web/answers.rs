//! What every answer carries, and the bounds of every request.

use std::time::Duration;

use reqwest::header::HeaderMap;
use testkit::identity_provider::{Fault, FaultRule};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::site::{ADA, Shown, Site, key_of};
use crate::rig::PATIENCE;

fn assert_is_guarded(shown: &Shown, path: &str) {
    let header = |name: &str| shown.headers.get(name).unwrap_or_else(|| panic!("{name} of {path}")).to_str().unwrap();
    let policy = header("content-security-policy");
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self';"] {
        assert!(policy.contains(part), "{path}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "same-origin");
    assert_eq!(header("x-frame-options"), "DENY");
    let is_public = path.ends_with(".css") || path.ends_with(".svg");
    assert_eq!(header("cache-control"), if is_public { "max-age=3600" } else { "no-store" }, "{path}");
    assert!(!shown.text.contains("<script") && !shown.text.contains(" style="), "{path}");
}

#[tokio::test]
async fn every_answer_is_guarded() {
    let site = Site::start().await;
    let (mut nobody, mut ada) = (site.browser(), site.signed_in(ADA).await);
    let paths =
        ["/", "/account", "/sign-in", "/signed-in", "/sign-out", "/signing-out", "/signed-out", "/livez", "/nowhere"];
    for path in paths.into_iter().chain(["/style.css", "/icon.svg"]) {
        assert_is_guarded(&nobody.get(path).await, path);
        assert_is_guarded(&ada.get(path).await, path);
    }
    let long = "a".repeat(5_000);
    let shown = ada.post("/sign-out", &[("form_token", &long)], HeaderMap::new()).await;
    assert_eq!(shown.status, 400, "a body that is too long");
    assert_is_guarded(&shown, "a body that is too long");
}

#[tokio::test]
async fn over_https_browsers_are_told_to_stay_there() {
    let plain = Site::start().await;
    assert!(plain.browser().get("/").await.headers.get("strict-transport-security").is_none());
    let site = Site::with(|settings| settings.public_url = "https://app.contoso.com".parse().unwrap()).await;
    assert_eq!(site.browser().get("/").await.headers["strict-transport-security"], "max-age=31536000");
}

#[tokio::test]
async fn it_answers_as_long_as_it_serves() {
    let site = Site::start().await;
    let shown = site.browser().get("/livez").await;
    assert_eq!((shown.status, &*shown.text), (200, "ok\n"));
}

#[tokio::test]
async fn a_browser_that_never_ends_its_request_is_let_go() {
    let site = Site::with(|settings| {
        settings.http.header_time = Duration::from_millis(100);
        settings.http.connections = 1;
    })
    .await;
    let mut slow = TcpStream::connect(site.url.trim_start_matches("http://")).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, slow.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(site.browser().get("/livez").await.status, 200, "its place is free again");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let site = Site::with(|settings| settings.request_time = Duration::from_millis(200)).await;
    site.provider.inject(FaultRule::from(Fault::Delay { millis: 60_000 }));
    let shown = site.browser().sign_in_by("/sign-in", ADA).await;
    assert_eq!((shown.status, shown.element("problem")), (504, Some("This took too long")));
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_under_way() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let asked = browser.begin("/sign-in").await;
    let back = browser.at_provider(asked, ADA).await;
    site.provider.inject(FaultRule::from(Fault::Delay { millis: 500 }));
    let under_way = tokio::spawn(async move { browser.get(&back).await.status });
    testkit::wait_until(PATIENCE, || async { site.app.sign_ins() == 0 }).await;
    site.stop.cancel();
    assert_eq!(under_way.await.unwrap(), 303);
    assert!(site.blob(&key_of(ADA)).await.is_some());
    tokio::time::timeout(PATIENCE, site.serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(site.url.trim_start_matches("http://")).await.is_err());
}
