//! Claims over the API.

use common::event::{Activity, EventDraft, FailureReason};
use common::index::AccountActivity;
use common::token_cache::{CacheWrite, ExpiryChange, Precondition};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testkit::identity_provider::Fault;

use super::site::{Ground, Site};
use crate::worker::rig::{ADA, GRACE, Rig, TENANT, details_of, strict, web};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn asked(worker: &str, limit: usize) -> Value {
    json!({"worker": worker, "limit": limit, "lease_seconds": 60})
}

async fn claim(site: &Site, token: &str, asked: &Value) -> Vec<Value> {
    let answer = site.post(token, "/v1/claims", asked).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["claims"].as_array().unwrap().clone()
}

/// The claim as it is named afterwards, with more beside it.
fn held(claim: &Value, more: &Value) -> Value {
    let mut named = json!({"worker": "w", "cache_key": claim["cache_key"], "fence": claim["fence"]});
    named.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    named
}

fn key(claim: &Value) -> &str {
    claim["cache_key"].as_str().unwrap()
}

async fn due(site: &Site, token: &str, cache_key: &str) -> Option<Value> {
    let page = site.read(token, "/v1/due?limit=1000").await;
    let mut rows = page["accounts"].as_array().unwrap().iter();
    rows.find(|row| row["account"]["cache_key"] == cache_key).cloned()
}

#[tokio::test]
async fn each_account_that_is_due_is_claimed_once_and_says_why() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let claims = claim(&site, "claimer", &asked("w", 100)).await;
        let mut keys: Vec<&str> = claims.iter().map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!((claims.len(), keys.len()), (9, 9), "all but those who wait for their user");
        for claim in &claims {
            assert_eq!(claim["due"]["reason"], "access_token_expires");
            assert_eq!(claim["account"]["cache_key"], claim["cache_key"]);
            assert_eq!(claim["attempts"], 0);
            let until: Timestamp = claim["lease_until"].as_str().unwrap().parse().unwrap();
            assert!(until > Timestamp::now() && until < Timestamp::now() + HOUR);
        }
        assert_eq!(claim(&site, "claimer", &asked("another", 100)).await, [] as [Value; 0]);
        let row = due(&site, "reader", keys[0]).await.unwrap();
        assert_eq!(row["hold"]["worker"], "claimer/w");
        assert_eq!(due(&site, "contoso", "user-0.contoso").await.unwrap()["hold"]["worker"], Value::Null);
    }
}

#[tokio::test]
async fn claims_are_narrowed_to_a_token_s_tenants() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        assert_eq!(claim(&site, "nobody", &asked("w", 100)).await.len(), 0);
        let mine = claim(&site, "contoso", &asked("w", 100)).await;
        assert_eq!(mine.len(), 4);
        assert!(mine.iter().all(|claim| claim["account"]["tenant_id"] == "contoso"));
        let theirs = claim(&site, "both", &asked("w", 2)).await;
        assert_eq!(theirs.len(), 2);
        assert!(theirs.iter().all(|claim| claim["account"]["tenant_id"] == "fabrikam"));
        let rest =
            claim(&site, "claimer", &json!({"worker": "w", "limit": 9, "lease_seconds": 9, "tenant": "initech"})).await;
        assert_eq!(rest.len(), 2);
    }
}

#[tokio::test]
async fn a_claim_is_renewed_and_completed_by_its_worker_alone() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let claims = claim(&site, "claimer", &asked("w", 1)).await;
        let renewal = held(&claims[0], &json!({"lease_seconds": 600}));
        let renewed = site.post("claimer", "/v1/claims/renew", &renewal).await;
        assert_eq!((renewed.status, &renewed.json()["paused_until"]), (200, &Value::Null));
        let until: Timestamp = renewed.json()["lease_until"].as_str().unwrap().parse().unwrap();
        assert!(until > Timestamp::now() + SignedDuration::from_mins(9));

        site.post("all", "/v1/claims/renew", &renewal).await.is_problem(409, "stale-fence");
        let mut other = renewal.clone();
        other["worker"] = json!("x");
        site.post("claimer", "/v1/claims/renew", &other).await.is_problem(409, "stale-fence");

        let gone = held(&claims[0], &json!({"outcome": {"result": "gone"}}));
        site.post("all", "/v1/claims/complete", &gone).await.is_problem(409, "stale-fence");
        assert_eq!(site.post("claimer", "/v1/claims/complete", &gone).await.status, 204);
        site.post("claimer", "/v1/claims/complete", &gone).await.is_problem(409, "stale-fence");
        site.post("claimer", "/v1/claims/renew", &renewal).await.is_problem(409, "stale-fence");
        assert_eq!(site.events().await, []);
    }
}

#[tokio::test]
async fn a_claim_that_was_taken_over_is_lost_to_its_first_holder_who_changes_nothing() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let first = claim(&site, "claimer", &asked("w", 1)).await.remove(0);
        let release = json!({"worker": "w", "claims": [{"cache_key": key(&first), "fence": first["fence"]}]});
        assert_eq!(site.post("claimer", "/v1/claims/release", &release).await.json(), json!({"released": 1}));
        let second = claim(&site, "claimer", &asked("w", 100)).await;
        let second = second.into_iter().find(|claim| claim["cache_key"] == first["cache_key"]).unwrap();
        assert!(second["fence"].as_u64() > first["fence"].as_u64());
        let before = site.bytes().await;
        let outcome = json!({"result": "hydrated", "access_token_expires_on": 1_900_000_000});
        let stale = held(&first, &json!({"outcome": outcome}));
        site.post("claimer", "/v1/claims/complete", &stale).await.is_problem(409, "stale-fence");
        let stale = held(&first, &json!({"outcome": {"result": "failed", "reason": "throttled"}}));
        site.post("claimer", "/v1/claims/complete", &stale).await.is_problem(409, "stale-fence");
        assert_eq!(site.post("claimer", "/v1/claims/release", &release).await.json(), json!({"released": 0}));
        assert!(site.bytes().await == before, "something was changed");
        assert_eq!(site.events().await, []);
    }
}

#[tokio::test]
async fn a_worker_that_renewed_the_cache_itself_says_until_when() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let claimed = claim(&site, "claimer", &asked("w", 1)).await.remove(0);
        let expires = Timestamp::now().as_second() + 3_600;
        let outcome = json!({"outcome": {"result": "hydrated", "access_token_expires_on": expires}});
        assert_eq!(site.post("claimer", "/v1/claims/complete", &held(&claimed, &outcome)).await.status, 204);
        let events = site.events().await;
        let Activity::Hydrated(details) = &events[0].activity else { panic!("{events:?}") };
        assert_eq!((events.len(), details.access_token_expires_on), (1, Some(expires)));
        assert_eq!(details.username.as_ref().unwrap().as_str(), claimed["account"]["username"]);
        assert_eq!(due(&site, "reader", key(&claimed)).await, None);
    }
}

#[tokio::test]
async fn an_account_that_needs_its_user_is_parked_and_one_whose_work_failed_is_tried_again_later() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let claims = claim(&site, "claimer", &asked("w", 2)).await;
        let outcome = json!({"result": "failed", "reason": "revoked", "error": "invalid_grant"});
        let parked = held(&claims[0], &json!({"outcome": outcome}));
        assert_eq!(site.post("claimer", "/v1/claims/complete", &parked).await.status, 204);
        let failed = held(&claims[1], &json!({"outcome": {"result": "failed"}}));
        assert_eq!(site.post("claimer", "/v1/claims/complete", &failed).await.status, 204);
        let events = site.events().await;
        let failures = events.iter().filter_map(|event| match &event.activity {
            Activity::AcquisitionFailed(failure) => Some((event.subject.as_str(), failure.reason)),
            _ => None,
        });
        assert_eq!(failures.collect::<Vec<_>>(), [(key(&claims[0]), FailureReason::Revoked)]);
        let account = site.read("reader", &format!("/v1/accounts/{}", key(&claims[0]))).await;
        assert_eq!((&account["state"], &account["failure"]["error"]), (&json!("parked"), &json!("invalid_grant")));
        assert_eq!(due(&site, "reader", key(&claims[0])).await, None);
        let row = due(&site, "reader", key(&claims[1])).await.unwrap();
        assert_eq!((&row["hold"]["attempts"], &row["hold"]["worker"]), (&json!(1), &Value::Null));
    }
}

#[tokio::test]
async fn a_tenant_whose_provider_asked_for_it_is_left_alone_and_others_are_not() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        let claimed = claim(&site, "contoso", &asked("w", 1)).await.remove(0);
        let retry_after = Timestamp::now().as_second() + 600;
        let outcome = json!({"result": "failed", "reason": "throttled", "retry_after": retry_after});
        let throttled = held(&claimed, &json!({"outcome": outcome}));
        assert_eq!(site.post("contoso", "/v1/claims/complete", &throttled).await.status, 204);
        let others = claim(&site, "claimer", &asked("w", 100)).await;
        assert_eq!(others.len(), 5);
        assert!(others.iter().all(|claim| claim["account"]["tenant_id"] != "contoso"));
    }
}

#[tokio::test]
async fn an_account_is_scheduled_and_let_go_of_by_hand() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        for claim in claim(&site, "claimer", &asked("w", 100)).await {
            let expires = Timestamp::now().as_second() + 3_600;
            let outcome = json!({"outcome": {"result": "hydrated", "access_token_expires_on": expires}});
            assert_eq!(site.post("claimer", "/v1/claims/complete", &held(&claim, &outcome)).await.status, 204);
        }
        assert_eq!(site.events().await.len(), 9);
        let path = |end: &str| format!("/v1/accounts/user-0.contoso/{end}");
        let now = json!({"at": Timestamp::now().to_string(), "reason": "nightly export"});
        assert_eq!(site.post("contoso", &path("schedule"), &now).await.status, 204);
        let row = due(&site, "contoso", "user-0.contoso").await.unwrap();
        assert_eq!(
            (&row["due"]["reason"], &row["due"]["scheduled_for"]),
            (&json!("scheduled"), &json!("nightly export"))
        );
        assert_eq!(claim(&site, "claimer", &asked("w", 1)).await.len(), 0, "it was completed a moment ago");
        assert_eq!(site.delete("contoso", &path("hold")).await.status, 204);
        let claims = claim(&site, "claimer", &asked("w", 1)).await;
        assert_eq!(claims.iter().map(key).collect::<Vec<_>>(), ["user-0.contoso"]);
        assert_eq!(claims[0]["due"]["scheduled_for"], "nightly export");
        let at = Timestamp::now().to_string();
        for wrong in [
            json!({"at": null, "reason": "x"}),
            json!({"at": at, "reason": ""}),
            json!({"at": at, "reason": "two\nlines"}),
            json!({"at": at, "reason": "x".repeat(257)}),
        ] {
            site.post("contoso", &path("schedule"), &wrong).await.is_problem(400, "malformed-request");
        }
        let row = due(&site, "contoso", "user-0.contoso").await.unwrap();
        assert_eq!(row["due"]["scheduled_for"], "nightly export", "nothing was changed");
        assert_eq!(site.post("contoso", &path("schedule"), &json!({"at": null})).await.status, 204);
        site.post("contoso", &path("schedule"), &json!({})).await.is_problem(400, "malformed-request");
        site.delete("contoso", "/v1/accounts/user-0.fabrikam/hold").await.is_problem(404, "not-found");
    }
}

#[tokio::test]
async fn due_accounts_are_read_page_by_page() {
    for ground in Ground::each().await {
        let site = Site::on(ground).await;
        for (token, expected) in [("reader", 9), ("both", 7), ("contoso", 4), ("nobody", 0)] {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            for _ in 0..=expected {
                let page = site.read(token, &format!("/v1/due?limit=2{cursor}")).await;
                let rows = page["accounts"].as_array().unwrap().iter();
                seen.extend(rows.map(|row| row["account"]["cache_key"].as_str().unwrap().to_owned()));
                let Some(next) = page["next"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            let mut once = seen.clone();
            once.sort();
            once.dedup();
            assert_eq!((once.len(), seen.len()), (expected, expected), "{token}: {seen:?}");
        }
        let early = site.read("reader", "/v1/due?until=2020-01-01T00:00:00Z").await;
        assert_eq!(early["accounts"], json!([]));
    }
}

/// A site that hands tokens out, with Ada signed in, and Grace listed whose cache is gone; both are due.
async fn handing_out(ground: Ground) -> (Site, Rig) {
    let rig = Rig::embedded(strict()).await;
    let site = Site::with(ground, Some(rig.client.clone()), |_| {}).await;
    for (username, has_cache) in [(ADA, true), (GRACE, false)] {
        let signed_in = rig.sign_in(username).await;
        rig.age(&signed_in.key).await;
        let mut details = details_of(&signed_in.tokens, username);
        details.access_token_expires_on = Some(1_795_000_000);
        let event = EventDraft::new(web(), signed_in.key.clone(), Activity::UserActivity(details)).at(Timestamp::now());
        site.index.apply(&[AccountActivity::of(&event)]).await.unwrap();
        if has_cache {
            let blob = rig.cache.store.read(&signed_in.key).await.unwrap().unwrap();
            let (expiry, precondition) = (ExpiryChange::default(), Precondition::None);
            let key = &signed_in.key;
            let write = CacheWrite { key, blob: &blob, expiry, precondition, event: None, fence: None };
            site.cache.store.write(write).await.unwrap();
        }
    }
    (site, rig)
}

/// The claims of Ada and Grace.
async fn two_claims(site: &Site) -> [Value; 2] {
    let asked = json!({"worker": "w", "limit": 9, "lease_seconds": 60, "tenant": TENANT});
    let claims = claim(site, "all", &asked).await;
    [ADA, GRACE].map(|name| claims.iter().find(|claim| claim["account"]["username"] == name).unwrap().clone())
}

#[tokio::test]
async fn a_token_is_handed_out_for_a_claim_that_is_held_and_for_nothing_else() {
    for ground in Ground::each().await {
        let (site, rig) = handing_out(ground).await;
        let [ada, grace] = two_claims(&site).await;
        let before = rig.refreshes();
        let hour = json!({"lease_seconds": 60});
        let mut stale = held(&ada, &hour);
        stale["fence"] = json!(ada["fence"].as_u64().unwrap() - 1);
        site.post("all", "/v1/claims/token", &stale).await.is_problem(409, "stale-fence");
        site.post("contoso", "/v1/claims/token", &held(&ada, &hour)).await.is_problem(409, "stale-fence");
        site.post("claimer", "/v1/claims/token", &held(&ada, &hour)).await.is_problem(403, "missing-scope");
        assert_eq!(rig.refreshes(), before);

        let answer = site.post("all", "/v1/claims/token", &held(&ada, &hour)).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.text);
        let given = answer.json();
        assert!(rig.provider.secrets_seen().contains(&given["access_token"].as_str().unwrap().to_owned()));
        assert_eq!((rig.refreshes(), &given["token_type"]), (before + 1, &json!("Bearer")));
        let done = json!({"outcome": {"result": "hydrated", "due_again_at": given["renew_from"]}});
        assert_eq!(site.post("all", "/v1/claims/complete", &held(&ada, &done)).await.status, 204);
        site.post("all", "/v1/claims/token", &held(&ada, &hour)).await.is_problem(409, "stale-fence");

        let none = site.post("all", "/v1/claims/token", &held(&grace, &hour)).await;
        none.is_problem(409, "no-token");
        assert_eq!(none.json()["reason"], "cache_missing");
        let events = site.events().await;
        let types: Vec<&str> = events.iter().map(|event| event.activity.event_type().as_str()).collect();
        assert_eq!(types, ["tokencache.hydrated.v1", "tokencache.acquisition-failed.v1"]);
    }
}

#[tokio::test]
async fn a_provider_that_asks_to_be_left_alone_is_by_everybody() {
    for ground in Ground::each().await {
        let (site, rig) = handing_out(ground).await;
        let [ada, _] = two_claims(&site).await;
        rig.provider.inject(Fault::TooManyRequests { retry_after_seconds: 600 });
        let answer = site.post("all", "/v1/claims/token", &held(&ada, &json!({"lease_seconds": 60}))).await;
        answer.is_problem(503, "no-token-now");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((590..=600).contains(&wait) && answer.json()["reason"] == "throttled", "{wait}: {}", answer.text);
        let renewed = site.post("all", "/v1/claims/renew", &held(&ada, &json!({"lease_seconds": 60}))).await;
        assert!(renewed.json()["paused_until"].is_string(), "{}", renewed.text);
        let requests = rig.refreshes();
        let again = site.post("all", "/v1/claims/token", &held(&ada, &json!({"lease_seconds": 60}))).await;
        again.is_problem(503, "no-token-now");
        assert_eq!(rig.refreshes(), requests, "it is not asked again");
    }
}

#[tokio::test]
async fn tokens_are_not_handed_out_unless_the_server_is_told_to() {
    let site = Site::start().await;
    let claimed = claim(&site, "contoso", &asked("w", 1)).await.remove(0);
    let answer = site.post("contoso", "/v1/claims/token", &held(&claimed, &json!({"lease_seconds": 60}))).await;
    answer.is_problem(404, "not-found");
}
