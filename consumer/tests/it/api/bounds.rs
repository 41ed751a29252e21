//! What the API does when a store is away, when there is too much at once, and when it is told to stop.

use std::time::Duration;

use consumer::health::{Health as _, Readiness};
use serde_json::Value;
use testkit::fault_proxy::{FaultProxy, ProxyMode};
use testkit::wait_until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::site::{Ground, Site};
use crate::rig::PATIENCE;

async fn proxy() -> FaultProxy {
    let redis = testkit::servers::redis_url().await;
    FaultProxy::start(&format!("{}:{}", redis.host_str().unwrap(), redis.port().unwrap_or(6379))).await
}

#[tokio::test]
async fn a_store_that_is_away_is_said_to_be_that_without_its_address() {
    let mut proxy = proxy().await;
    let site = Site::on(Ground::behind(&proxy).await).await;
    assert_eq!(site.api.readiness().await, Readiness::Ready("ok"));
    proxy.set(ProxyMode::Cut).await;
    for path in ["/v1/counts", "/v1/accounts?idle_since=0s", "/v1/accounts/user-0.contoso", "/v1/due"] {
        let answer = site.get("all", path).await;
        answer.is_problem(503, "store-unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(!answer.text.contains("redis") && !answer.text.contains("127.0.0.1"), "{}", answer.text);
    }
    assert!(matches!(site.api.readiness().await, Readiness::Not(why) if why.contains("redis://")));
    proxy.set(ProxyMode::Pass).await;
    wait_until(PATIENCE, async || site.get("all", "/v1/counts").await.status == 200).await;
    assert_eq!(site.api.readiness().await, Readiness::Ready("ok"));
}

#[tokio::test]
async fn an_answer_that_is_not_ready_in_time_is_given_up() {
    let mut proxy = proxy().await;
    let impatient = Duration::from_millis(200);
    let ground = Ground::behind(&proxy).await;
    let site = Site::with(ground, None, |settings| settings.request_time = impatient).await;
    proxy.set(ProxyMode::Stall).await;
    let answer = site.get("all", "/v1/counts").await;
    answer.is_problem(504, "slow-answer");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

/// Begins a request whose body does not come.
async fn begun(site: &Site) -> TcpStream {
    let mut stream = TcpStream::connect(site.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /v1/claims HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\nConnection: close\r\n\r\n",
        site.token("all")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn under_way(site: &Site) -> u64 {
    let mut metrics = consumer::health::Metrics::default();
    site.api.metrics(&mut metrics);
    let text = metrics.into_text();
    let line = text.lines().find_map(|line| line.strip_prefix("api_requests_in_flight ")).unwrap();
    line.parse().unwrap()
}

#[tokio::test]
async fn more_requests_at_once_than_are_allowed_are_sent_away() {
    let site = Site::with(Ground::embedded().await, None, |settings| settings.concurrency = 2).await;
    let held = [begun(&site).await, begun(&site).await];
    wait_until(PATIENCE, async || under_way(&site).await == 2).await;
    let answer = site.get("all", "/v1/counts").await;
    answer.is_problem(503, "busy");
    assert_eq!(answer.header("retry-after"), Some("1"));
    drop(held);
    wait_until(PATIENCE, async || site.get("all", "/v1/counts").await.status == 200).await;
}

#[tokio::test]
async fn who_has_no_token_is_sent_away_before_the_body() {
    let site = Site::start().await;
    let mut stream = TcpStream::connect(site.url.trim_start_matches("http://")).await.unwrap();
    let head =
        "POST /v1/claims HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn a_shutdown_ends_what_is_under_way_and_takes_no_more() {
    let site = Site::start().await;
    let mut stream = begun(&site).await;
    wait_until(PATIENCE, async || under_way(&site).await == 1).await;
    site.stop.cancel();
    assert_eq!(site.api.readiness().await, Readiness::Not("stopping\n".to_owned()));
    let address = site.url.trim_start_matches("http://").to_owned();
    wait_until(PATIENCE, async || TcpStream::connect(&address).await.is_err()).await;
    let body = format!("{:<100}", r#"{"worker": "w", "limit": 1, "lease_seconds": 60}"#);
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let claims: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(claims["claims"].as_array().unwrap().len(), 1);
    site.end().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let site = Site::start().await;
    let mut stream = begun(&site).await;
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("slow-body"), "{answer}");
}
