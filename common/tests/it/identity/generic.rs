//! Providers other than Microsoft's, and answers that Microsoft's would not give.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::event::FailureReason;
use common::identity::{
    AuthorizationOptions, AuthorizationResponse, Clock, GrantError, IdTokenError, IdentityClient, PendingSignIn,
    ProviderKind, SignInError, SignedIn, UnusableAnswer,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::scopes;
use super::scripted::{Answer, Scripted};

const NOW: &str = "2026-11-22T10:00:00Z";

async fn discover(provider: &Scripted) -> IdentityClient {
    let clock = Clock::new(|| NOW.parse().unwrap());
    IdentityClient::discover_at(provider.settings(), clock).await.unwrap()
}

fn begin(client: &IdentityClient) -> (AuthorizationResponse, PendingSignIn, String) {
    let request = client.authorization_request(&AuthorizationOptions::default()).unwrap();
    let nonce = request.url.query_pairs().find(|(name, _)| name == "nonce").unwrap().1.into_owned();
    let state = Some(request.pending.state().to_owned());
    let code = Some("the code".to_owned().into());
    (AuthorizationResponse { code, state, ..AuthorizationResponse::default() }, request.pending, nonce)
}

fn claims(provider: &Scripted, nonce: &str) -> Value {
    let now = NOW.parse::<Timestamp>().unwrap().as_second();
    json!({
        "iss": provider.base_url, "aud": "client one", "sub": "subject-7", "exp": now + 600, "iat": now,
        "nonce": nonce, "email": "ada@example.org",
    })
}

async fn sign_in_with(
    provider: &Scripted,
    client: &IdentityClient,
    change: impl FnOnce(&mut Value, &mut AuthorizationResponse),
) -> Result<SignedIn, SignInError> {
    let (mut response, pending, nonce) = begin(client);
    let mut claims = claims(provider, &nonce);
    change(&mut claims, &mut response);
    let id_token = provider.id_token(&claims);
    let answer = json!({"access_token": "at", "token_type": "bearer", "expires_in": "600", "refresh_token": "rt",
        "id_token": id_token});
    provider.answer(Answer::json(200, &answer));
    client.redeem(&response, &pending).await
}

async fn refused_refresh(provider: &Scripted, answer: Answer) -> GrantError {
    provider.answer(answer);
    let client = discover(provider).await;
    client.refresh(&"rt".to_owned().into(), &"subject-7".parse().unwrap(), &scopes("x")).await.unwrap_err()
}

#[tokio::test]
async fn any_openid_provider_signs_users_in_under_its_own_subject() {
    let provider = Scripted::start().await;
    let client = discover(&provider).await;
    assert_eq!(client.kind(), ProviderKind::Generic);
    let signed_in = sign_in_with(&provider, &client, |_, _| {}).await.unwrap();
    let tokens = signed_in.tokens;
    assert_eq!(tokens.home_account_id.as_str(), "subject-7");
    assert_eq!((tokens.realm.as_str(), tokens.authority_type), ("", "Generic"));
    assert_eq!(tokens.expires_in, Duration::from_secs(600));
    assert_eq!(tokens.scopes, ["openid", "profile", "offline_access"], "what was asked for, as the answer is silent");
    assert_eq!(signed_in.identity.username.as_deref(), Some("ada@example.org"));

    let request = provider.last_request();
    let basic = STANDARD.decode(request.authorization.unwrap().strip_prefix("Basic ").unwrap()).unwrap();
    assert_eq!(String::from_utf8(basic).unwrap(), format!("client+one:{}", super::SECRET));
    assert_eq!(request.form["grant_type"], "authorization_code");
    assert!(request.form["code_verifier"].len() >= 43);
    assert!(!request.form.contains_key("client_info") && !request.form.contains_key("client_secret"));
}

#[tokio::test]
async fn a_provider_that_takes_secrets_in_the_form_alone_gets_them_there() {
    let provider = Scripted::start().await;
    provider.amend(&json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]}));
    let client = discover(&provider).await;
    sign_in_with(&provider, &client, |_, _| {}).await.unwrap();
    let request = provider.last_request();
    assert_eq!((request.authorization, request.form["client_secret"].as_str()), (None, super::SECRET));
}

#[tokio::test]
async fn what_does_not_fit_the_sign_in_is_refused() {
    let provider = Scripted::start().await;
    let client = discover(&provider).await;
    let cases = [
        ("iss", json!("https://evil.example"), IdTokenError::Issuer),
        ("aud", json!("another client"), IdTokenError::Audience),
        ("aud", json!(["client one", "another client"]), IdTokenError::Audience),
        ("nonce", json!("another"), IdTokenError::Nonce),
        ("exp", json!(1_000_000_000), IdTokenError::Expired),
    ];
    for (claim, value, error) in cases {
        match sign_in_with(&provider, &client, |claims, _| claims[claim] = value.clone()).await {
            Err(SignInError::IdToken(refused)) => assert_eq!(refused, error, "{claim} = {value}"),
            other => panic!("{claim} = {value}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_provider_that_names_itself_in_its_answers_has_to() {
    let provider = Scripted::start().await;
    provider.amend(&json!({"authorization_response_iss_parameter_supported": true}));
    let client = discover(&provider).await;
    let own = provider.base_url.clone();
    let named = sign_in_with(&provider, &client, |_, response| response.iss = Some(own)).await;
    assert!(named.is_ok(), "{named:?}");
    let calls = provider.request_count();
    let silent = sign_in_with(&provider, &client, |_, _| {}).await;
    assert!(matches!(silent, Err(SignInError::Issuer)), "{silent:?}");
    assert_eq!(provider.request_count(), calls, "the code is not sent anywhere");
}

#[tokio::test]
async fn a_refresh_without_an_id_token_is_of_the_account_it_was_asked_for() {
    let provider = Scripted::start().await;
    provider.answer(Answer::json(200, &json!({"access_token": "at", "token_type": "Bearer", "scope": "a  b"})));
    let client = discover(&provider).await;
    let account = "subject-7".parse().unwrap();
    let tokens = client.refresh(&"rt".to_owned().into(), &account, &scopes("a b")).await.unwrap();
    assert_eq!((tokens.home_account_id, tokens.scopes), (account, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(tokens.expires_in, Duration::from_secs(3600));
    assert!(tokens.refresh_token.is_none());
}

#[tokio::test]
async fn answers_that_are_no_tokens_are_refused() {
    let provider = Scripted::start().await;
    let dpop = Answer::json(200, &json!({"access_token": "at", "token_type": "DPoP"}));
    let error = refused_refresh(&provider, dpop).await;
    assert!(matches!(error, GrantError::Unusable(UnusableAnswer::NotBearer)), "{error:?}");
    for body in ["", "[]", "<html>", "{}", r#"{"access_token": "", "token_type": "Bearer"}"#] {
        let answer = Answer { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() };
        let error = refused_refresh(&provider, answer).await;
        assert!(matches!(error, GrantError::Unusable(UnusableAnswer::NotTokens { .. })), "{body}: {error:?}");
        assert_eq!(error.reason(), FailureReason::IdentityProviderUnavailable);
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let provider = Scripted::start().await;
    let endless = Answer { status: 200, headers: Vec::new(), body: vec![b' '; 1024 * 1024 + 1] };
    let error = refused_refresh(&provider, endless).await;
    assert_eq!(error.reason(), FailureReason::IdentityProviderUnavailable);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("longer than"), "{source}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_secrets() {
    let provider = Scripted::start().await;
    let away = Answer::json(307, &json!({})).with("location", "/keys");
    let error = refused_refresh(&provider, away).await;
    assert!(matches!(&error, GrantError::Refused { answer } if answer.status == 307), "{error:?}");
    assert_eq!(provider.request_count(), 1);
}

#[tokio::test]
async fn a_time_to_come_back_may_be_a_date() {
    let provider = Scripted::start().await;
    let later = Answer::json(429, &json!({})).with("retry-after", "Sun, 22 Nov 2026 10:02:00 GMT");
    let error = refused_refresh(&provider, later).await;
    assert_eq!(error.retry_after(), Some("2026-11-22T10:02:00Z".parse().unwrap()));
}

#[tokio::test]
async fn a_provider_that_takes_too_long_is_unavailable() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = Scripted::start().await;
    provider.amend(&json!({"token_endpoint": format!("http://{}/token", silent.local_addr().unwrap())}));
    let mut settings = provider.settings();
    settings.http.timeout = Duration::from_millis(200);
    let client = IdentityClient::discover(settings).await.unwrap();
    let account = "subject-7".parse().unwrap();
    let error = client.refresh(&"rt".to_owned().into(), &account, &scopes("x")).await.unwrap_err();
    assert!(error.is_transient());
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.ends_with("in time"), "{source}");
}
