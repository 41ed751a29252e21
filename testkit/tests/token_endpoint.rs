//! What the token endpoint refuses, and the grants beside code and refresh.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::StatusCode;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use serde_json::{Value, json};
use support::*;
use testkit::certificates::CertificateAuthority;
use testkit::identity_provider::{AssertionKey, Client};

async fn assert_refused(app: &App, form: Form<'static>, status: StatusCode, error: &str, number: u32) {
    let (answered, body) = app.token(TENANT, &form).await;
    assert_eq!((answered, &body["error"]), (status, &json!(error)), "{body}");
    assert_eq!(body["error_codes"], json!([number]));
    assert!(body["error_description"].as_str().unwrap().starts_with(&format!("AADSTS{number}: ")));
    for name in ["timestamp", "trace_id", "correlation_id"] {
        assert!(body[name].is_string(), "{name}");
    }
}

#[tokio::test]
async fn requests_that_entra_refuses_are_refused_with_its_numbers() {
    let app = App::start().await;
    let code = app.authorize(TENANT, "ada@contoso.com", &[]).await.remove("code").unwrap();
    let good = code_form(&code);
    let (bad, denied) = (StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED);
    let cases = [
        ("grant_type", None, bad, "invalid_request", 900144),
        ("grant_type", Some("password"), bad, "unsupported_grant_type", 70003),
        ("client_id", Some("nobody"), bad, "unauthorized_client", 700016),
        ("client_secret", Some("wrong"), denied, "invalid_client", 7000215),
        ("client_secret", None, denied, "invalid_client", 7000218),
        ("code", Some("1.made-up"), bad, "invalid_grant", 9002313),
        ("code_verifier", Some("another"), bad, "invalid_grant", 501481),
        ("code_verifier", None, bad, "invalid_request", 900144),
        ("redirect_uri", Some("http://localhost/other"), denied, "invalid_client", 500112),
    ];
    for (name, value, status, error, number) in cases {
        assert_refused(&app, change(good.clone(), name, value), status, error, number).await;
    }
    // None of these used the code up; its use does.
    assert_eq!(app.token(TENANT, &good).await.0, StatusCode::OK);
    assert_refused(&app, good, bad, "invalid_grant", 54005).await;
}

#[tokio::test]
async fn a_code_expires_after_ten_minutes() {
    let app = App::start().await;
    let code = app.authorize(TENANT, "ada@contoso.com", &[]).await.remove("code").unwrap();
    app.provider.advance(Duration::from_secs(601));
    assert_refused(&app, code_form(&code), StatusCode::BAD_REQUEST, "invalid_grant", 70008).await;
}

#[tokio::test]
async fn a_refresh_token_is_bound_to_its_client_and_cannot_be_forged() {
    let app = App::start().await;
    app.provider.register_client(Client::confidential("other", SECRET));
    let tokens = app.sign_in(TENANT, "ada@contoso.com").await;
    let form = refresh_form(&tokens["refresh_token"]);
    let (_, body) = app.token(TENANT, &change(form.clone(), "client_id", Some("other"))).await;
    assert_eq!((&body["error"], &body["suberror"]), (&json!("invalid_grant"), &json!("client_mismatch")));

    let mut forged = tokens["refresh_token"].as_str().unwrap().to_owned();
    let flipped = if forged.ends_with('A') { 'B' } else { 'A' };
    forged.replace_range(200..201, &flipped.to_string());
    let form = change(form, "refresh_token", Some(&forged));
    assert_refused(&app, form, StatusCode::BAD_REQUEST, "invalid_grant", 9002313).await;
}

#[tokio::test]
async fn the_error_carries_the_clients_own_request_id() {
    let app = App::start().await;
    let request = app.http.post(app.url(&format!("/{TENANT}/oauth2/v2.0/token"))).header("client-request-id", "mine");
    let body: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(body["correlation_id"], "mine");
}

#[tokio::test]
async fn a_client_may_authenticate_in_the_header() {
    let app = App::start().await;
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let tokens = app.sign_in(TENANT, "ada@contoso.com").await;
    let form = change(change(refresh_form(&tokens["refresh_token"]), "client_id", None), "client_secret", None);
    for (secret, status) in [(SECRET, StatusCode::OK), ("wrong", StatusCode::UNAUTHORIZED)] {
        let credentials = STANDARD.encode(format!("{}:{}", encode(CLIENT), encode(secret)));
        let request = app.http.post(app.url(&format!("/{TENANT}/oauth2/v2.0/token"))).form(&form);
        let answer = request.header("authorization", format!("Basic {credentials}")).send().await.unwrap();
        assert_eq!(answer.status(), status);
    }
}

#[tokio::test]
async fn a_public_client_needs_pkce_and_no_secret() {
    let app = App::start().await;
    app.provider.register_client(Client::public("public"));
    let client = ("client_id", Some("public"));
    let answer = app.authorize(TENANT, "ada@contoso.com", &[client, ("code_challenge", None)]).await;
    assert_eq!(answer["error"], "invalid_request");
    let code = app.authorize(TENANT, "ada@contoso.com", &[client]).await.remove("code").unwrap();
    let form = change(change(code_form(&code), "client_id", Some("public")), "client_secret", None);
    let (status, _) = app.token(TENANT, &form).await;
    assert_eq!(status, StatusCode::OK);
}

fn assertion(key_pem: &str, algorithm: &str, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({"alg": algorithm})), encode(claims));
    let document = RsaPrivateKey::from_pkcs8_pem(key_pem).unwrap().to_pkcs8_der().unwrap();
    let key = RsaKeyPair::from_pkcs8(document.as_bytes()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn a_client_may_authenticate_with_a_certificate() {
    let app = App::start().await;
    let authority = CertificateAuthority::new();
    let (own, foreign) = (authority.app("the app"), authority.app("another app"));
    let key = AssertionKey::from_pem(&own.certificate_pem()).unwrap();
    app.provider.register_client(Client::public("certified").key(key));

    let now = app.provider.now().as_secs();
    let good = json!({
        "iss": "certified", "sub": "certified", "jti": "1", "nbf": now, "exp": now + 300,
        "aud": app.url(&format!("/{TENANT}/oauth2/v2.0/token")),
    });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        assertion(&own.key_pem(), "RS256", &claims)
    };
    let cases = [
        (assertion(&own.key_pem(), "RS256", &good), None),
        (assertion(&foreign.key_pem(), "RS256", &good), Some(700027)),
        (assertion(&own.key_pem(), "none", &good), Some(700027)),
        (with("iss", json!("another")), Some(700021)),
        (with("aud", json!("https://elsewhere/token")), Some(700023)),
        (with("exp", json!(now - 1)), Some(700024)),
        (with("nbf", json!(now + 3600)), Some(700024)),
    ];
    for (assertion, refusal) in cases {
        let form = form(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
            ("scope", "https://graph.microsoft.com/.default"),
        ]);
        let (status, body) = app.token(TENANT, &form).await;
        match refusal {
            None => assert_eq!(status, StatusCode::OK, "{body}"),
            Some(number) => assert_eq!((status, &body["error_codes"]), (StatusCode::UNAUTHORIZED, &json!([number]))),
        }
    }
}

#[tokio::test]
async fn a_bare_public_key_serves_as_well_and_nonsense_does_not() {
    let pem = "-----BEGIN PUBLIC KEY-----\nbm90IGEga2V5\n-----END PUBLIC KEY-----\n";
    assert!(AssertionKey::from_pem(pem).is_err());
    let private = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let pem = rsa::pkcs8::EncodePublicKey::to_public_key_pem(&private.to_public_key(), Default::default()).unwrap();
    assert!(AssertionKey::from_pem(&pem).is_ok());
}

fn app_form(scope: &str) -> Form<'static> {
    form(&[("grant_type", "client_credentials"), ("client_id", CLIENT), ("client_secret", SECRET), ("scope", scope)])
}

#[tokio::test]
async fn client_credentials_give_an_apps_token_without_account() {
    let app = App::start().await;
    let (status, tokens) = app.token(TENANT, &app_form("https://graph.microsoft.com/.default")).await;
    assert_eq!(status, StatusCode::OK);
    for absent in ["refresh_token", "id_token", "client_info"] {
        assert!(tokens[absent].is_null(), "{absent}");
    }
    let live = app.provider.validate(tokens["access_token"].as_str().unwrap()).unwrap();
    assert_eq!((live.username, live.client_id.as_str()), (None, CLIENT));
    assert_refused(&app, app_form("User.Read"), StatusCode::BAD_REQUEST, "invalid_scope", 1002012).await;
    let (status, _) = app.token("common", &app_form("https://graph.microsoft.com/.default")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

fn on_behalf_of_form(assertion: &Value) -> Form<'static> {
    form(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("client_id", "middle"),
        ("client_secret", "middle secret"),
        ("requested_token_use", "on_behalf_of"),
        ("assertion", assertion.as_str().unwrap()),
        ("scope", "openid profile offline_access User.Read"),
        ("client_info", "1"),
    ])
}

#[tokio::test]
async fn an_api_gets_tokens_on_behalf_of_its_caller() {
    let app = App::start().await;
    app.provider.register_client(Client::confidential("middle", "middle secret"));
    let scopes = "openid api://middle/access_as_user";
    let call = app.provider.sign_in(CLIENT, TENANT, "ada@contoso.com", scopes).unwrap();
    let (status, tokens) = app.token(TENANT, &on_behalf_of_form(&call["access_token"])).await;
    assert_eq!(status, StatusCode::OK, "{tokens}");
    assert_eq!(tokens["client_info"], call["client_info"]);
    assert_eq!(claims(&tokens["id_token"])["aud"], "middle");
    let live = app.provider.validate(tokens["access_token"].as_str().unwrap()).unwrap();
    assert_eq!((live.username.as_deref(), live.client_id.as_str()), (Some("ada@contoso.com"), "middle"));
    let refresh = change(refresh_form(&tokens["refresh_token"]), "client_id", Some("middle"));
    let (status, _) = app.token(TENANT, &change(refresh, "client_secret", Some("middle secret"))).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn an_assertion_for_another_api_or_of_the_past_is_refused() {
    let app = App::start().await;
    app.provider.register_client(Client::confidential("middle", "middle secret"));
    let foreign = app.provider.sign_in(CLIENT, TENANT, "ada@contoso.com", "User.Read").unwrap();
    let form = on_behalf_of_form(&foreign["access_token"]);
    assert_refused(&app, form, StatusCode::BAD_REQUEST, "invalid_grant", 500131).await;
    let own = app.provider.sign_in(CLIENT, TENANT, "ada@contoso.com", "api://middle/read").unwrap();
    app.provider.advance(Duration::from_secs(3601));
    let form = on_behalf_of_form(&own["access_token"]);
    assert_refused(&app, form, StatusCode::BAD_REQUEST, "invalid_grant", 500133).await;
}

#[tokio::test]
async fn an_id_token_is_no_access_token() {
    let app = App::start().await;
    let tokens = app.sign_in(TENANT, "ada@contoso.com").await;
    assert!(app.provider.validate(tokens["id_token"].as_str().unwrap()).is_none());
    assert!(app.provider.validate("not.a.token").is_none());
}
