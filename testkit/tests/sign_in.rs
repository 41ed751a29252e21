//! Signing in and refreshing, as an app sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Value, json};
use support::*;
use testkit::identity_provider::{Options, Rotation};

#[tokio::test]
async fn the_configuration_names_a_tenants_issuer_and_a_template_for_common() {
    let app = App::start().await;
    for (tenant, issuer) in [(TENANT, TENANT), ("common", "{tenantid}"), ("organizations", "{tenantid}")] {
        let path = format!("/{tenant}/v2.0/.well-known/openid-configuration");
        let document: Value = app.get(&path).await.json().await.unwrap();
        assert_eq!(document["issuer"], app.provider.issuer(issuer));
        assert_eq!(document["token_endpoint"], app.url(&format!("/{tenant}/oauth2/v2.0/token")));
    }
}

#[tokio::test]
async fn an_unknown_kind_of_tenant_is_refused() {
    let app = App::start().await;
    let answer = app.get("/nowhere/v2.0/.well-known/openid-configuration").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error_codes"], json!([90002]));
}

#[tokio::test]
async fn instance_discovery_names_the_aliases_of_the_public_cloud() {
    let app = App::start().await;
    let document: Value = app.get("/common/discovery/instance").await.json().await.unwrap();
    assert_eq!(document["metadata"][0]["preferred_cache"], "login.windows.net");
}

#[tokio::test]
async fn signing_in_gives_the_tokens_that_entra_gives() {
    let app = App::start().await;
    let answer = app.authorize(TENANT, "ada@contoso.com", &[]).await;
    assert_eq!(answer["state"], "the state");
    let (status, tokens) = app.token(TENANT, &code_form(&answer["code"])).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["expires_in"], 3600);
    assert_eq!(tokens["ext_expires_in"], 3600);
    assert_eq!(tokens["scope"], "openid profile User.Read");
    assert!(tokens["refresh_token"].as_str().unwrap().len() > 500);

    let identity = claims(&tokens["id_token"]);
    assert_eq!(identity["iss"], app.provider.issuer(TENANT));
    assert_eq!(identity["aud"], CLIENT);
    assert_eq!(identity["tid"], TENANT);
    assert_eq!(identity["nonce"], "the nonce");
    assert_eq!(identity["preferred_username"], "ada@contoso.com");
    assert_eq!(identity["name"], "Ada Lovelace");
    assert_eq!(identity["ver"], "2.0");
    assert_eq!(identity["exp"].as_u64(), identity["iat"].as_u64().map(|issued| issued + 3600));

    let info = URL_SAFE_NO_PAD.decode(tokens["client_info"].as_str().unwrap()).unwrap();
    let info: Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info, json!({"uid": identity["oid"], "utid": TENANT}));
    assert_eq!(answer["client_info"], tokens["client_info"].as_str().unwrap());
}

#[tokio::test]
async fn the_id_token_verifies_with_the_published_key_also_after_a_rotation() {
    let app = App::start().await;
    let before = app.sign_in(TENANT, "ada@contoso.com").await;
    app.provider.rotate_signing_key().await.unwrap();
    let after = app.sign_in(TENANT, "ada@contoso.com").await;
    let keys: Value = app.get(&format!("/{TENANT}/discovery/v2.0/keys")).await.json().await.unwrap();
    let kids: Vec<Value> = [&before, &after].iter().map(|tokens| verified_kid(&tokens["id_token"], &keys)).collect();
    assert_ne!(kids[0], kids[1]);
}

fn verified_kid(token: &Value, keys: &Value) -> Value {
    let (signed, signature) = token.as_str().unwrap().rsplit_once('.').unwrap();
    let header = URL_SAFE_NO_PAD.decode(signed.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    let part = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let public = RsaPublicKeyComponents { n: part("n"), e: part("e") };
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    public.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).unwrap();
    header["kid"].clone()
}

#[tokio::test]
async fn a_guest_signs_in_to_another_tenant_and_keeps_the_home_account_id() {
    let app = App::start().await;
    let home = app.sign_in("common", "ada@contoso.com").await;
    let guest = app.sign_in(OTHER_TENANT, "ada@contoso.com").await;
    let (home_identity, guest_identity) = (claims(&home["id_token"]), claims(&guest["id_token"]));
    assert_eq!(home_identity["tid"], TENANT);
    assert_eq!(guest_identity["tid"], OTHER_TENANT);
    assert_ne!(home_identity["oid"], guest_identity["oid"]);
    assert_eq!(home_identity["sub"], guest_identity["sub"]);
    assert_eq!(home["client_info"], guest["client_info"]);
}

#[tokio::test]
async fn who_is_not_in_a_tenant_is_denied() {
    let app = App::start().await;
    let answer = app.authorize(OTHER_TENANT, "grace@contoso.com", &[]).await;
    assert_eq!(answer["error"], "access_denied");
    assert!(answer["error_description"].starts_with("AADSTS50020:"));
    assert_eq!(answer["state"], "the state");
}

#[tokio::test]
async fn a_refresh_token_gives_new_tokens_and_stays_valid_as_with_entra() {
    let app = App::start().await;
    let first = app.sign_in(TENANT, "ada@contoso.com").await;
    for _ in 0..2 {
        let (status, tokens) = app.refresh(TENANT, &first["refresh_token"]).await;
        assert_eq!(status, StatusCode::OK);
        assert_ne!(tokens["refresh_token"], first["refresh_token"]);
        assert_ne!(tokens["access_token"], first["access_token"]);
        assert_eq!(tokens["client_info"], first["client_info"]);
        assert!(claims(&tokens["id_token"])["nonce"].is_null());
    }
    assert_eq!(app.provider.families_revoked(), 0);
}

#[tokio::test]
async fn under_strict_rotation_a_second_use_revokes_the_whole_family() {
    let app = App::with(Options { rotation: Rotation::Strict, ..Options::default() }).await;
    let first = app.sign_in(TENANT, "ada@contoso.com").await;
    let bystander = app.sign_in(TENANT, "ada@contoso.com").await;
    let (_, second) = app.refresh(TENANT, &first["refresh_token"]).await;
    let (status, third) = app.refresh(TENANT, &second["refresh_token"]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(app.provider.validate(third["access_token"].as_str().unwrap()).is_some());

    let (status, error) = app.refresh(TENANT, &first["refresh_token"]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!((&error["error"], &error["suberror"]), (&json!("invalid_grant"), &json!("bad_token")));
    let (_, error) = app.refresh(TENANT, &third["refresh_token"]).await;
    assert_eq!(error["suberror"], "bad_token");
    assert!(app.provider.validate(third["access_token"].as_str().unwrap()).is_none());
    assert_eq!(app.provider.families_revoked(), 1);

    let (status, _) = app.refresh(TENANT, &bystander["refresh_token"]).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn time_ends_access_tokens_and_refresh_tokens() {
    let app = App::start().await;
    let tokens = app.sign_in(TENANT, "ada@contoso.com").await;
    let access_token = tokens["access_token"].as_str().unwrap();
    assert_eq!(app.provider.validate(access_token).unwrap().username.unwrap(), "ada@contoso.com");
    app.provider.advance(Duration::from_secs(3601));
    assert!(app.provider.validate(access_token).is_none());
    let (status, _) = app.refresh(TENANT, &tokens["refresh_token"]).await;
    assert_eq!(status, StatusCode::OK);
    app.provider.advance(Duration::from_secs(90 * 24 * 3600));
    let (_, error) = app.refresh(TENANT, &tokens["refresh_token"]).await;
    assert_eq!((&error["error_codes"], &error["suberror"]), (&json!([700082]), &json!("token_expired")));
}

#[tokio::test]
async fn revoking_a_user_ends_all_their_sign_ins() {
    let app = App::start().await;
    let ada = app.sign_in(TENANT, "ada@contoso.com").await;
    let grace = app.sign_in(TENANT, "grace@contoso.com").await;
    assert_eq!(app.provider.revoke("ADA@contoso.com"), 1);
    let (_, error) = app.refresh(TENANT, &ada["refresh_token"]).await;
    assert_eq!((&error["error_codes"], &error["suberror"]), (&json!([50173]), &json!("bad_token")));
    let (status, _) = app.refresh(TENANT, &grace["refresh_token"]).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn the_direct_sign_in_gives_tokens_that_refresh() {
    let app = App::start().await;
    let tokens = app.provider.sign_in(CLIENT, "common", "ada@contoso.com", SCOPES).unwrap();
    let (status, _) = app.refresh(TENANT, &tokens["refresh_token"]).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn refresh_in_is_answered_when_set() {
    let app = App::with(Options { refresh_in: Some(Duration::from_secs(1800)), ..Options::default() }).await;
    assert_eq!(app.sign_in(TENANT, "ada@contoso.com").await["refresh_in"], 1800);
}
