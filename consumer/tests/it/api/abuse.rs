//! What nobody should send: each is refused by the right status and problem, changes nothing and learns nothing.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use testkit::CapturedLog;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing::Level;
use tracing::subscriber::DefaultGuard;

use super::site::{Answer, Ground, Site};

const POSTS: [&str; 6] = [
    "/v1/claims",
    "/v1/claims/renew",
    "/v1/claims/complete",
    "/v1/claims/release",
    "/v1/claims/token",
    "/v1/accounts/user-0.contoso/schedule",
];

/// A request of which every byte is the test's own; what is answered.
async fn raw(site: &Site, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(site.url.trim_start_matches("http://")).await.unwrap();
    // A server that has answered already may not read on.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(crate::rig::PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn raw_get(site: &Site, path: &str, headers: &str) -> String {
    let token = site.token("all");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{headers}\r\n"
    );
    raw(site, request.as_bytes()).await
}

async fn send(site: &Site, path: &str, content_type: Option<&str>, body: impl Into<reqwest::Body>) -> Answer {
    let request = site.request(Method::POST, path).bearer_auth(site.token("all")).body(body);
    let request = match content_type {
        Some(content_type) => request.header(CONTENT_TYPE, content_type),
        None => request,
    };
    Answer::of(request).await
}

/// What all requests of this test's thread log, down to the last detail.
fn captured() -> (CapturedLog, DefaultGuard) {
    let log = CapturedLog::default();
    let lines =
        tracing_subscriber::fmt().with_writer(log.clone()).with_max_level(Level::TRACE).with_ansi(false).finish();
    (log, tracing::subscriber::set_default(lines))
}

async fn malformed_bodies(site: &Site) {
    let json = Some("application/json");
    for path in POSTS {
        for body in ["", "{", "null", "[]", "{\"worker\": 7}", "\u{0}", "{\"no_such_field\": 1}", "{\"at\": \"soon\"}"]
        {
            send(site, path, json, body).await.is_problem(400, "malformed-request");
        }
        send(site, path, json, vec![0xff, 0xfe, 0x00]).await.is_problem(400, "malformed-request");
        send(site, path, json, "[".repeat(10_000)).await.is_problem(400, "malformed-request");
        let long = json!({"worker": "w".repeat(70_000)}).to_string();
        send(site, path, json, long).await.is_problem(413, "body-too-long");
        for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("json")] {
            send(site, path, content_type, "{}").await.is_problem(415, "wrong-content-type");
        }
    }
}

async fn wrong_queries(site: &Site) {
    for query in [
        "",
        "idle_since=0s&active_since=0s",
        "idle_since=yesterday",
        "active_since=-2h",
        "idle_since=0s&limit=0",
        "idle_since=0s&limit=1001",
        "idle_since=0s&limit=-1",
        "idle_since=0s&limit=99999999999999999999",
        "idle_since=0s&state=asleep",
        "idle_since=0s&tenat=contoso",
        "idle_since=0s&tenant=",
        "idle_since=0s&tenant=a&tenant=b",
        "user=",
        "user=a%00b",
    ] {
        site.get("all", &format!("/v1/accounts?{query}")).await.is_problem(400, "malformed-request");
    }
    for path in ["/v1/due?until=soon", "/v1/due?limit=0", "/v1/counts?tenant=%0a", "/v1/counts?who=me"] {
        site.get("all", path).await.is_problem(400, "malformed-request");
    }
}

async fn wrong_cursors(site: &Site) {
    for token in ["all", "both"] {
        for cursor in
            ["x", "%00", "AAAA", "MQ", &"A".repeat(2_000), "eyJza2lwcGVkIjotMX0", "eyJza2lwcGVkIjo5OTk5OTk5fQ"]
        {
            for query in ["idle_since=0s", "user=user-0@example.com"] {
                let path = format!("/v1/accounts?{query}&cursor={cursor}");
                site.get(token, &path).await.is_problem(400, "invalid-cursor");
            }
            site.get(token, &format!("/v1/due?cursor={cursor}")).await.is_problem(400, "invalid-cursor");
        }
    }
}

async fn stale_fences(site: &Site) {
    let claim = json!({"worker": "w", "cache_key": "user-0.contoso", "fence": 1});
    let with = |more: Value| {
        let mut body = claim.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let hydrated = json!({"outcome": {"result": "hydrated", "access_token_expires_on": 1_900_000_000}});
    let throttled = json!({"outcome": {"result": "failed", "reason": "throttled"}});
    for token in ["all", "contoso", "both", "nobody"] {
        site.post(token, "/v1/claims/renew", &with(json!({"lease_seconds": 60}))).await.is_problem(409, "stale-fence");
        for outcome in [&hydrated, &throttled, &json!({"outcome": {"result": "gone"}})] {
            site.post(token, "/v1/claims/complete", &with(outcome.clone())).await.is_problem(409, "stale-fence");
        }
        let release = json!({"worker": "w", "claims": [{"cache_key": "user-0.contoso", "fence": 1}]});
        assert_eq!(site.post(token, "/v1/claims/release", &release).await.json(), json!({"released": 0}));
    }
    let absent = with(json!({"cache_key": "nobody.nowhere", "lease_seconds": 60}));
    let foreign = with(json!({"cache_key": "user-0.fabrikam", "lease_seconds": 60}));
    let absent = site.post("contoso", "/v1/claims/renew", &absent).await;
    let foreign = site.post("contoso", "/v1/claims/renew", &foreign).await;
    assert_eq!((absent.status, &absent.text), (foreign.status, &foreign.text), "nothing tells the two apart");
}

async fn wrong_claims(site: &Site) {
    let asked = json!({"worker": "w", "limit": 1, "lease_seconds": 60});
    for (field, value) in [
        ("limit", json!(0)),
        ("limit", json!(1001)),
        ("limit", json!(-1)),
        ("lease_seconds", json!(0)),
        ("lease_seconds", json!(3601)),
        ("worker", json!("")),
        ("worker", json!("w".repeat(64))),
        ("worker", json!("a\nb")),
        ("tenant", json!("")),
        ("client", json!("c".repeat(129))),
    ] {
        let mut body = asked.clone();
        body[field] = value;
        site.post("all", "/v1/claims", &body).await.is_problem(400, "malformed-request");
    }
    let other_tenant = json!({"worker": "w", "limit": 1, "lease_seconds": 60, "tenant": "fabrikam"});
    assert_eq!(site.post("contoso", "/v1/claims", &other_tenant).await.json(), json!({"claims": []}));
    let foreign = site.post("contoso", "/v1/accounts/user-0.fabrikam/schedule", &json!({"at": null})).await;
    let absent = site.post("contoso", "/v1/accounts/nobody/schedule", &json!({"at": null})).await;
    absent.is_problem(404, "not-found");
    assert_eq!((foreign.status, &foreign.text), (absent.status, &absent.text));
    let day_after_next = jiff::Timestamp::now().as_second() + 2 * 86_400;
    for retry_after in [day_after_next, i64::MAX, i64::MIN] {
        let outcome = json!({"result": "failed", "reason": "throttled", "retry_after": retry_after});
        let body = json!({"worker": "w", "cache_key": "user-0.contoso", "fence": 1, "outcome": outcome});
        site.post("all", "/v1/claims/complete", &body).await.is_problem(400, "malformed-request");
    }
    let many: Vec<Value> = (0..1_001).map(|n| json!({"cache_key": "k", "fence": n})).collect();
    site.post("all", "/v1/claims/release", &json!({"worker": "w", "claims": many}))
        .await
        .is_problem(400, "malformed-request");
}

async fn path_tricks(site: &Site) {
    for (path, status) in [
        ("/v1/accounts/../counts", "404"),
        ("/v1/accounts/..%2f..%2fetc%2fpasswd", "404"),
        ("/v1/accounts/%2e%2e/counts", "404"),
        ("/v1//accounts", "404"),
        ("/v1/accounts/", "404"),
        ("/V1/accounts?idle_since=0s", "404"),
        ("/v1/accounts/user-0.contoso/", "404"),
        ("/v1/accounts/user-0.contoso/../user-0.fabrikam", "404"),
        ("/v1/accounts/a%00b", "400"),
        ("/v1/accounts/a%0d%0aSet-Cookie:%20x=y", "400"),
        ("/v1/accounts/%ff", "400"),
        ("/v1/accounts/*", "404"),
        ("/v1/accounts/user-0.contoso%20", "404"),
        ("//v1/counts", "404"),
        ("/metrics", "404"),
        ("/readyz", "404"),
    ] {
        let answer = raw_get(site, path, "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.contains("application/problem+json"), "{path}: {answer}");
        assert!(!answer.to_lowercase().contains("set-cookie"), "{path}: {answer}");
    }
    let long = format!("/v1/accounts/{}", "a".repeat(600));
    assert!(raw_get(site, &long, "").await.starts_with("HTTP/1.1 400"));
    for method in [Method::PUT, Method::PATCH, Method::OPTIONS, Method::TRACE, Method::from_bytes(b"BREW").unwrap()] {
        let request = site.request(method, "/v1/accounts/user-0.contoso").bearer_auth(site.token("all"));
        Answer::of(request).await.is_problem(405, "wrong-method");
    }
    let posted = send(site, "/v1/counts", Some("application/json"), "{}").await;
    posted.is_problem(405, "wrong-method");
}

async fn header_floods(site: &Site) {
    let many: String = (0..90).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    for headers in [many, long] {
        let answer = raw_get(site, "/v1/counts", &headers).await;
        assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("headers-too-long"), "{answer}");
    }
    let address = format!("/v1/counts?tenant={}", "t".repeat(20_000));
    assert!(raw_get(site, &address, "").await.starts_with("HTTP/1.1 431"));
    let flood = format!("x: {}\r\n", "y".repeat(1_000_000));
    assert!(!raw_get(site, "/v1/counts", &flood).await.starts_with("HTTP/1.1 200"));
    let everything: String = (0..5_000).map(|n| format!("x-{n}: y\r\n")).collect();
    assert!(!raw_get(site, "/v1/counts", &everything).await.starts_with("HTTP/1.1 200"));
}

async fn half_requests(site: &Site) {
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n"] {
        let answer = raw(site, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let two_lengths = "POST /v1/claims HTTP/1.1\r\nHost: api\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}";
    assert!(raw(site, two_lengths.as_bytes()).await.starts_with("HTTP/1.1 400"));
    // A front and a back that read this differently would see two requests.
    let smuggled = "POST /v1/claims HTTP/1.1\r\nHost: api\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\
                    Connection: close\r\n\r\n0\r\n\r\nDELETE /v1/accounts/user-0.contoso HTTP/1.1\r\nHost: api\r\n\r\n";
    let answer = raw(site, smuggled.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test]
async fn whatever_is_sent_is_refused_changes_nothing_and_learns_nothing() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let before = site.bytes().await;
        assert!(before.values().any(|bytes| bytes.len() > 100));
        let (log, _guard) = captured();
        malformed_bodies(&site).await;
        wrong_queries(&site).await;
        wrong_cursors(&site).await;
        wrong_claims(&site).await;
        stale_fences(&site).await;
        path_tricks(&site).await;
        header_floods(&site).await;
        half_requests(&site).await;
        let after = site.bytes().await;
        let changed: Vec<&String> =
            after.iter().filter(|(key, bytes)| before.get(*key) != Some(*bytes)).map(|(key, _)| key).collect();
        assert!(changed.is_empty() && before.len() == after.len(), "changed: {changed:?}");
        assert_eq!(site.get("reader", "/v1/counts").await.status, 200, "it goes on");
        let log = log.text();
        assert!(log.contains("answered") && log.contains("malformed") | log.contains("400"), "{log}");
        for secret in site.secrets() {
            assert!(!log.contains(secret), "a token is in the log");
        }
        site.end().await;
    }
}

#[tokio::test]
async fn what_a_caller_sends_is_not_in_the_log() {
    let site = Site::start().await;
    let (log, _guard) = captured();
    site.get("reader", "/v1/accounts?user=marker-user@example.com").await;
    site.get("reader", "/v1/accounts/marker-key").await;
    send(&site, "/v1/claims", Some("application/json"), r#"{"worker": "marker-worker", "marker-field": 1}"#).await;
    let wrong = site.request(Method::GET, "/v1/counts").bearer_auth("tca_marker-token");
    Answer::of(wrong).await.is_problem(401, "unauthenticated");
    let ours: String =
        log.text().lines().filter(|line| line.contains("consumer::")).map(|line| format!("{line}\n")).collect();
    assert!(ours.lines().count() >= 4 && ours.contains("caller=\"reader\""), "{ours}");
    assert!(!ours.contains("marker-"), "{ours}");
}
