//! Who may ask what: tokens, scopes, tenants, rates.

use consumer::api::Scope;
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use testkit::wait_until;

use super::site::{Answer, Ground, Site, entry, key};
use crate::rig::PATIENCE;

#[tokio::test]
async fn without_a_token_that_is_known_nothing_is_told() {
    let site = Site::start().await;
    let good = site.token("all");
    for path in ["/v1/accounts?idle_since=0s", "/v1/accounts/user-0.contoso", "/v1/counts", "/v1/due", "/v1/accounts"] {
        let answer = Answer::of(site.request(Method::GET, path)).await;
        answer.is_problem(401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"tokencache\""));
        for wrong in ["Bearer tca_wrong", "Bearer ", "Basic YWxsOmFsbA==", good, &format!("Bearer {good}x"), "Bearer ä"]
        {
            let answer = Answer::of(site.request(Method::GET, path).header(AUTHORIZATION, wrong)).await;
            answer.is_problem(401, "unauthenticated");
            assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""), "{wrong}");
        }
        let twice = site.request(Method::GET, path).bearer_auth(good).header(AUTHORIZATION, format!("Bearer {good}"));
        Answer::of(twice).await.is_problem(401, "unauthenticated");
    }
    let in_query = Answer::of(site.request(Method::GET, &format!("/v1/counts?access_token={good}"))).await;
    in_query.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn the_scheme_is_read_in_any_case() {
    let site = Site::start().await;
    let line = format!("bEARER {}", site.token("reader"));
    let answer = Answer::of(site.request(Method::GET, "/v1/counts").header(AUTHORIZATION, line)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn a_token_is_good_for_its_scopes_alone() {
    let site = Site::start().await;
    let empty = serde_json::json!({});
    let cases = [
        ("claimer", site.get("claimer", "/v1/accounts?idle_since=0s").await, "read"),
        ("claimer", site.get("claimer", "/v1/accounts/user-0.contoso").await, "read"),
        ("claimer", site.get("claimer", "/v1/counts").await, "read"),
        ("claimer", site.get("claimer", "/v1/due").await, "read"),
        ("claimer", site.delete("claimer", "/v1/accounts/user-0.contoso").await, "admin"),
        ("claimer", site.delete("claimer", "/v1/accounts/user-0.contoso/hold").await, "admin"),
        ("claimer", site.post("claimer", "/v1/claims/token", &empty).await, "token"),
        ("reader", site.post("reader", "/v1/claims", &empty).await, "claim"),
        ("reader", site.post("reader", "/v1/claims/renew", &empty).await, "claim"),
        ("reader", site.post("reader", "/v1/claims/complete", &empty).await, "claim"),
        ("reader", site.post("reader", "/v1/claims/release", &empty).await, "claim"),
        ("reader", site.post("reader", "/v1/accounts/user-0.contoso/schedule", &empty).await, "claim"),
    ];
    for (token, answer, needed) in cases {
        answer.is_problem(403, "missing-scope");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains(&format!("scope=\"{needed}\"")), "{token}: {challenge}");
    }
}

#[tokio::test]
async fn an_account_of_another_tenant_is_as_one_that_is_not_there() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let path = |key: &str| format!("/v1/accounts/{key}");
        assert_eq!(site.get("contoso", &path("user-0.contoso")).await.status, 200);
        let absent = site.get("contoso", &path("nobody.nowhere")).await;
        absent.is_problem(404, "not-found");
        for key in ["user-0.fabrikam", "user-0.initech"] {
            assert_eq!(site.get("reader", &path(key)).await.status, 200);
            let foreign = site.get("contoso", &path(key)).await;
            assert_eq!((foreign.status, &foreign.text), (absent.status, &absent.text));
            let removal = site.delete("contoso", &path(key)).await;
            assert_eq!((removal.status, &removal.text), (absent.status, &absent.text));
        }
        assert_eq!(site.events().await, []);
    }
}

#[tokio::test]
async fn a_token_that_is_restricted_sees_its_tenants_in_lists_and_counts() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        for (token, expected) in [("reader", 12), ("contoso", 5), ("both", 9), ("nobody", 0)] {
            let counts = site.read(token, "/v1/counts").await;
            assert_eq!(counts["listed"], expected, "{token}");
            for query in ["idle_since=0s", "active_since=1000h"] {
                let page = site.read(token, &format!("/v1/accounts?{query}&limit=1000")).await;
                assert_eq!(page["accounts"].as_array().unwrap().len(), expected, "{token} {query}");
            }
        }
        for tenant in ["fabrikam", "no-such-tenant"] {
            let page = site.read("contoso", &format!("/v1/accounts?idle_since=0s&tenant={tenant}")).await;
            assert_eq!(page, serde_json::json!({"accounts": [], "next": null}));
            let counts = site.read("contoso", &format!("/v1/counts?tenant={tenant}")).await;
            assert_eq!(counts["listed"], 0);
        }
        assert_eq!(site.read("both", "/v1/counts?tenant=fabrikam").await["listed"], 4);
    }
}

#[tokio::test]
async fn a_token_that_is_restricted_pages_through_its_tenants_and_its_cursors_name_no_others() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        for (query, expected) in [("idle_since=0s", 9), ("active_since=1000h", 9), ("user=user-0@example.com", 2)] {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            for _ in 0..=expected {
                let page = site.read("both", &format!("/v1/accounts?{query}&limit=1{cursor}")).await;
                let keys = page["accounts"].as_array().unwrap().iter();
                seen.extend(keys.map(|account| account["cache_key"].as_str().unwrap().to_owned()));
                let Some(next) = page["next"].as_str() else { break };
                let text = decoded(next);
                assert!(!text.contains("initech"), "{text}");
                site.get("contoso", &format!("/v1/accounts?{query}&cursor={next}")).await;
                cursor = format!("&cursor={next}");
            }
            let mut once = seen.clone();
            once.sort();
            once.dedup();
            assert_eq!((once.len(), seen.len()), (expected, expected), "{query}: {seen:?}");
            assert!(seen.iter().all(|key| !key.contains("initech")), "{seen:?}");
        }
    }
}

/// A cursor, and the cursor in it, as somebody would look into them.
fn decoded(cursor: &str) -> String {
    use base64::Engine as _;
    let read = |text: &str| {
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let outer = read(cursor);
    let inner = serde_json::from_str::<serde_json::Value>(&outer).unwrap()["after"].as_str().map(read);
    format!("{outer} {}", inner.unwrap_or_default())
}

#[tokio::test]
async fn a_cursor_of_a_tenant_that_is_not_the_token_s_is_refused() {
    let site = Site::start().await;
    let page = site.read("both", "/v1/accounts?idle_since=0s&tenant=fabrikam&limit=1").await;
    let cursor = page["next"].as_str().unwrap();
    let answer = site.get("contoso", &format!("/v1/accounts?idle_since=0s&cursor={cursor}")).await;
    answer.is_problem(400, "invalid-cursor");
}

#[tokio::test]
async fn a_token_is_sent_away_when_it_is_used_too_often_and_others_are_not() {
    let site = Site::with(Ground::embedded().await, None, |settings| settings.rate = 2.try_into().unwrap()).await;
    let mut refused = None;
    for _ in 0..10 {
        let answer = site.get("reader", "/v1/counts").await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("ten in a second are more than two");
    refused.is_problem(429, "rate-limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(site.get("contoso", "/v1/counts").await.status, 200);
    wait_until(PATIENCE, async || site.get("reader", "/v1/counts").await.status == 200).await;
}

#[tokio::test]
async fn a_change_of_the_token_file_is_taken_and_a_broken_file_is_not() {
    let site = Site::start().await;
    let (token, line) = entry("new", &[Scope::Read], &[]);
    let status =
        async |token: &str| Answer::of(site.request(Method::GET, "/v1/counts").bearer_auth(token)).await.status;
    assert_eq!(status(&token).await, 401);
    let before = std::fs::read_to_string(&site.token_file).unwrap();
    std::fs::write(&site.token_file, format!("{before}{line}")).unwrap();
    wait_until(PATIENCE, async || status(&token).await == 200).await;

    std::fs::write(&site.token_file, &line).unwrap();
    wait_until(PATIENCE, async || status(site.token("all")).await == 401).await;
    assert_eq!(status(&token).await, 200);

    std::fs::write(&site.token_file, "{ this is no entry").unwrap();
    let (other, other_line) = entry("other", &[Scope::Read], &[]);
    std::fs::write(site.token_file.with_extension("next"), format!("{line}{other_line}")).unwrap();
    assert_eq!(status(&token).await, 200);
    std::fs::rename(site.token_file.with_extension("next"), &site.token_file).unwrap();
    wait_until(PATIENCE, async || status(&other).await == 200).await;
    assert_eq!(status(&token).await, 200);
    assert!(site.index.get(&key("contoso", 0)).await.unwrap().is_some());
}
