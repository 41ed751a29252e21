//! Faults, counts, the protected resource, and the same controls over HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use support::*;
use testkit::identity_provider::{Endpoint, Fault, FaultRule, Options, Rotation};

#[tokio::test]
async fn throttling_says_when_to_come_back_and_ends_after_its_count() {
    let app = App::start().await;
    let tokens = app.sign_in(TENANT, "ada@contoso.com").await;
    app.provider.inject(FaultRule::from(Fault::TooManyRequests { retry_after_seconds: 7 }).times(2));
    for _ in 0..2 {
        let answer = app.post_token(TENANT, &refresh_form(&tokens["refresh_token"])).await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()["retry-after"], "7");
    }
    assert_eq!(app.refresh(TENANT, &tokens["refresh_token"]).await.0, StatusCode::OK);
    let counts = app.provider.token_requests(TENANT);
    assert_eq!((counts.total, counts.succeeded), (4, 2));
    assert_eq!((counts.with_grant("refresh_token"), counts.with_outcome("temporarily_unavailable")), (3, 2));
}

#[tokio::test]
async fn a_fault_hits_only_its_tenant_and_its_user_until_it_is_cleared() {
    let app = App::start().await;
    let home = app.sign_in(TENANT, "ada@contoso.com").await;
    let guest = app.sign_in(OTHER_TENANT, "ada@contoso.com").await;
    let grace = app.sign_in(TENANT, "grace@contoso.com").await;
    let fault = Fault::ServerError { status: 503, retry_after_seconds: None };
    app.provider.inject(FaultRule::from(fault).in_tenant(TENANT).for_user("ada@contoso.com"));
    let statuses = |home: Value, guest: Value, grace: Value| {
        let app = &app;
        async move {
            [
                // The path does not say whose tenant it is; the refresh token does.
                app.refresh("common", &home).await.0,
                app.refresh("common", &guest).await.0,
                app.refresh(TENANT, &grace).await.0,
            ]
        }
    };
    let (home, guest, grace) = (&home["refresh_token"], &guest["refresh_token"], &grace["refresh_token"]);
    let during = statuses(home.clone(), guest.clone(), grace.clone()).await;
    assert_eq!(during, [StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK, StatusCode::OK]);
    app.provider.clear_faults();
    assert_eq!(statuses(home.clone(), guest.clone(), grace.clone()).await, [StatusCode::OK; 3]);
    assert_eq!(app.provider.token_requests("common").total, 0);
    assert_eq!(app.provider.all_token_requests().total, 9);
}

#[tokio::test]
async fn refusals_carry_suberror_and_claims() {
    let app = App::start().await;
    let tokens = app.sign_in(TENANT, "ada@contoso.com").await;
    for (fault, error, suberror, claims) in [
        (Fault::InvalidGrant { suberror: None }, "invalid_grant", Value::Null, Value::Null),
        (Fault::InvalidGrant { suberror: Some("bad_token".into()) }, "invalid_grant", json!("bad_token"), Value::Null),
        (
            Fault::InteractionRequired { claims: Some("{\"a\":1}".into()) },
            "interaction_required",
            json!("basic_action"),
            json!("{\"a\":1}"),
        ),
    ] {
        app.provider.inject(FaultRule::from(fault).times(1));
        let (status, body) = app.refresh(TENANT, &tokens["refresh_token"]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!((&body["error"], &body["suberror"], &body["claims"]), (&json!(error), &suberror, &claims));
    }
    assert_eq!(app.refresh(TENANT, &tokens["refresh_token"]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_dropped_connection_leaves_the_refresh_token_unused_and_a_lost_answer_does_not() {
    let app = App::with(Options { rotation: Rotation::Strict, ..Options::default() }).await;
    let tokens = app.sign_in(TENANT, "ada@contoso.com").await;
    let form = refresh_form(&tokens["refresh_token"]);

    app.provider.inject(FaultRule::from(Fault::DropConnection).times(1));
    assert!(app.post_token(TENANT, &form).await.is_err());
    let (status, second) = app.token(TENANT, &form).await;
    assert_eq!(status, StatusCode::OK);

    app.provider.inject(FaultRule::from(Fault::LoseAnswer).times(1));
    let form = refresh_form(&second["refresh_token"]);
    assert!(app.post_token(TENANT, &form).await.is_err());
    let (_, body) = app.token(TENANT, &form).await;
    assert_eq!((&body["error"], app.provider.families_revoked()), (&json!("invalid_grant"), 1));
    let counts = app.provider.token_requests(TENANT);
    assert_eq!((counts.with_outcome("dropped"), counts.with_outcome("answer_lost")), (1, 1));
}

#[tokio::test]
async fn a_delayed_answer_comes_late_and_right() {
    let app = App::start().await;
    let tokens = app.sign_in(TENANT, "ada@contoso.com").await;
    app.provider.inject(Fault::Delay { millis: 300 });
    let asked = Instant::now();
    assert_eq!(app.refresh(TENANT, &tokens["refresh_token"]).await.0, StatusCode::OK);
    assert!(asked.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn the_other_endpoints_fail_on_demand() {
    let app = App::start().await;
    let failure = Fault::ServerError { status: 500, retry_after_seconds: Some(3) };
    for (endpoint, path) in [
        (Endpoint::Discovery, format!("/{TENANT}/v2.0/.well-known/openid-configuration")),
        (Endpoint::Keys, format!("/{TENANT}/discovery/v2.0/keys")),
    ] {
        app.provider.inject(FaultRule::from(failure.clone()).at(endpoint).times(1));
        assert_eq!(app.get(&path).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(app.get(&path).await.status(), StatusCode::OK);
    }
    app.provider.inject(FaultRule::from(failure).at(Endpoint::Authorize).times(1));
    assert_eq!(app.authorize(TENANT, "ada@contoso.com", &[]).await["error"], "temporarily_unavailable");
}

#[tokio::test]
async fn the_protected_resource_answers_only_for_a_live_access_token() {
    let app = App::start().await;
    let tokens = app.sign_in(TENANT, "ada@contoso.com").await;
    let call = |token: String| {
        let request = app.http.get(app.url("/graph/me")).bearer_auth(token);
        async { request.send().await.unwrap() }
    };
    let token = tokens["access_token"].as_str().unwrap().to_owned();
    let profile: Value = call(token.clone()).await.json().await.unwrap();
    assert_eq!(profile["displayName"], "Ada Lovelace");
    assert_eq!(profile["id"], claims(&tokens["id_token"])["oid"]);
    for dead in [String::new(), "made.up.token".to_owned(), token.clone() + "A"] {
        let answer = call(dead).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(answer.headers().contains_key("www-authenticate"));
    }
    app.provider.revoke("ada@contoso.com");
    assert_eq!(call(token).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_same_controls_exist_over_http() {
    let app = App::start().await;
    let post = |path: &'static str, body: Value| {
        let request = app.http.post(app.url(path)).json(&body);
        async { request.send().await.unwrap() }
    };
    let user = json!({"tenant_id": TENANT, "username": "new@contoso.com", "name": "New", "guest_in": [OTHER_TENANT]});
    let made: Value = post("/dev/users", user).await.json().await.unwrap();
    let tokens = app.sign_in(OTHER_TENANT, "new@contoso.com").await;
    assert!(made["home_account_id"].as_str().unwrap().ends_with(TENANT));

    let fault = json!({"fault": {"kind": "too_many_requests", "retry_after_seconds": 1}, "times": 1});
    assert_eq!(post("/dev/faults", fault).await.status(), StatusCode::NO_CONTENT);
    let faults: Value = app.get("/dev/faults").await.json().await.unwrap();
    assert_eq!(faults[0]["endpoint"], "token");
    assert_eq!(app.refresh("common", &tokens["refresh_token"]).await.0, StatusCode::TOO_MANY_REQUESTS);
    post("/dev/faults", json!({"fault": {"kind": "drop_connection"}})).await;
    app.http.delete(app.url("/dev/faults")).send().await.unwrap();

    let token = json!({"access_token": tokens["access_token"]});
    let claims: Value = post("/dev/validate", token.clone()).await.json().await.unwrap();
    assert_eq!(claims["preferred_username"], "new@contoso.com");
    post("/dev/clock", json!({"advance_seconds": 3601})).await;
    assert_eq!(post("/dev/validate", token).await.status(), StatusCode::NOT_FOUND);

    let revoked: Value = post("/dev/revoke", json!({"username": "new@contoso.com"})).await.json().await.unwrap();
    assert_eq!(revoked["families_revoked"], 1);
    let counts: Value = app.get("/dev/counts").await.json().await.unwrap();
    assert_eq!(counts["families_revoked"], 1);
    assert_eq!(counts["tenants"][OTHER_TENANT]["by_outcome"]["temporarily_unavailable"], 1);
}

#[tokio::test]
async fn a_dropped_provider_answers_no_more_also_on_open_connections() {
    let app = App::start().await;
    assert_eq!(app.get("/dev/counts").await.status(), StatusCode::OK);
    let url = app.url("/dev/counts");
    drop(app.provider);
    assert!(app.http.get(url).send().await.is_err());
}
