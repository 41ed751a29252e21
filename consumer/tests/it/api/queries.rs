//! What the API answers.

use common::event::Activity;
use serde_json::{Value, json};

use super::site::{CLIENT, Ground, Site, key, put_blob};

fn keys(page: &Value) -> Vec<&str> {
    page["accounts"].as_array().unwrap().iter().map(|account| account["cache_key"].as_str().unwrap()).collect()
}

fn sorted(mut keys: Vec<&str>) -> Vec<&str> {
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn accounts_are_listed_by_activity_and_by_user_and_narrowed() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let page = site.read("reader", "/v1/accounts?active_since=90m").await;
        assert_eq!(sorted(keys(&page)), ["user-0.contoso", "user-0.fabrikam", "user-0.initech"]);
        let page = site.read("reader", "/v1/accounts?idle_since=210m&tenant=contoso").await;
        assert_eq!(keys(&page), ["user-4.contoso", "user-3.contoso"], "longest idle first");
        let page = site.read("reader", "/v1/accounts?user=USER-3@example.com").await;
        assert_eq!(sorted(keys(&page)), ["user-3.contoso", "user-3.fabrikam"]);
        let page = site.read("reader", "/v1/accounts?idle_since=0s&state=parked").await;
        assert_eq!(keys(&page).len(), 3);
        for account in page["accounts"].as_array().unwrap() {
            assert_eq!(
                (&account["state"], &account["failure"]["reason"]),
                (&json!("parked"), &json!("interaction_required"))
            );
        }
        assert_eq!(keys(&site.read("reader", "/v1/accounts?idle_since=0s&client=another").await).len(), 0);
        let page = site.read("reader", &format!("/v1/accounts?idle_since=0s&client={CLIENT}")).await;
        assert_eq!(keys(&page).len(), 12);
    }
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let whole = site.read("reader", "/v1/accounts?idle_since=0s&limit=1000").await;
        assert_eq!((keys(&whole).len(), &whole["next"]), (12, &Value::Null));
        let mut seen: Vec<String> = Vec::new();
        let mut path = "/v1/accounts?idle_since=0s&limit=5".to_owned();
        let mut pages = 0;
        loop {
            let page = site.read("reader", &path).await;
            seen.extend(keys(&page).into_iter().map(str::to_owned));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/accounts?idle_since=0s&limit=5&cursor={next}");
        }
        assert_eq!((seen, pages), (keys(&whole).into_iter().map(str::to_owned).collect(), 3));
    }
}

#[tokio::test]
async fn an_account_is_shown_as_the_command_line_shows_it() {
    let site = Site::start().await;
    let account = site.read("reader", "/v1/accounts/user-1.contoso").await;
    for (field, expected) in [
        ("cache_key", json!("user-1.contoso")),
        ("tenant_id", json!("contoso")),
        ("client_id", json!(CLIENT)),
        ("username", json!("user-1@example.com")),
        ("state", json!("parked")),
        ("has_refresh_token", json!(true)),
        ("removed_at", Value::Null),
    ] {
        assert_eq!(account[field], expected, "{field}");
    }
    let schema = serde_json::to_value(consumer::api::document()).unwrap()["components"]["schemas"]["Account"].clone();
    let named: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    let mut written: Vec<&String> = account.as_object().unwrap().keys().collect();
    written.sort();
    assert_eq!(written, named, "the document names what is written");
}

#[tokio::test]
async fn accounts_are_counted_by_state() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let counts = site.read("reader", "/v1/counts").await;
        assert_eq!(counts, json!({"listed": 12, "ready": 9, "backing_off": 0, "parked": 3, "removed": 0}));
        let counts = site.read("reader", "/v1/counts?tenant=initech").await;
        assert_eq!(counts, json!({"listed": 3, "ready": 2, "backing_off": 0, "parked": 1, "removed": 0}));
    }
}

#[tokio::test]
async fn a_removal_takes_the_cache_and_tells_the_log() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let [mine, other] = [key("contoso", 0), key("contoso", 2)];
        put_blob(&site.cache, &mine).await;
        put_blob(&site.cache, &other).await;
        let answer = site.delete("contoso", "/v1/accounts/user-0.contoso").await;
        assert_eq!((answer.status, answer.json()), (202, json!({"cache_key": "user-0.contoso", "had_cache": true})));
        assert!(site.cache.store.read(&mine).await.unwrap().is_none());
        assert!(site.cache.store.read(&other).await.unwrap().is_some());
        let events = site.events().await;
        assert_eq!((events.len(), &events[0].subject, events[0].source.as_str()), (1, &mine, "/test/api"));
        assert!(matches!(events[0].activity, Activity::Removed(_)));
        assert_eq!(site.read("all", "/v1/accounts/user-0.contoso").await["state"], "removed");
        let page = site.read("reader", "/v1/accounts?idle_since=0s&tenant=contoso").await;
        assert_eq!(keys(&page).len(), 4);
        site.get("contoso", "/v1/accounts/user-0.contoso").await.is_problem(404, "not-found");
    }
}

#[tokio::test]
async fn answers_are_not_to_be_kept() {
    let site = Site::start().await;
    for path in ["/v1/counts", "/v1/accounts/nobody", "/nowhere", "/openapi.json"] {
        let answer = site.get("reader", path).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}
