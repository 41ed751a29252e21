//! The grants without a browser: refresh and on-behalf-of, with both credentials.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::account::CacheKey;
use common::event::FailureReason;
use common::identity::{
    AssertionAlgorithm, CertificateError, ClientCertificate, Clock, Credential, GrantError, IdentityClient,
    OnBehalfOfSession, TokenResponse, UnusableAnswer, assertion_cache_key,
};
use jiff::{SignedDuration, Timestamp};
use testkit::certificates::CertificateAuthority;
use testkit::identity_provider::{AssertionKey, Client, Options, Rotation, User};

use super::{ADA, CLIENT, HOME, OTHER, client, discover, provider, scopes, settings, sign_in, tenant};

async fn refresh(client: &IdentityClient, tokens: &TokenResponse, scope: &str) -> Result<TokenResponse, GrantError> {
    client.refresh(tokens.refresh_token.as_ref().unwrap(), &tokens.home_account_id, &scopes(scope)).await
}

#[tokio::test]
async fn a_refresh_brings_a_new_access_token_of_the_same_account() {
    let provider = provider(Options { rotation: Rotation::Strict, ..Options::default() }).await;
    let client = client(&provider, HOME).await;
    let mut tokens = sign_in(&client, ADA).await.tokens;
    for _ in 0..3 {
        provider.advance(Duration::from_secs(3600));
        let old = tokens.access_token.clone();
        tokens = refresh(&client, &tokens, "Mail.Read").await.unwrap();
        assert!(provider.validate(old.expose()).is_none());
        let live = provider.validate(tokens.access_token.expose()).unwrap();
        assert_eq!((live.username.as_deref(), live.permissions.as_str()), (Some(ADA), "Mail.Read"));
    }
    assert_eq!(tokens.home_account_id.as_str(), User::new(HOME, ADA, "Ada").home_account_id());
    assert_eq!(provider.families_revoked(), 0);
}

#[tokio::test]
async fn a_rotated_refresh_token_is_not_lost_because_two_clocks_differ() {
    let provider = provider(Options { rotation: Rotation::Strict, ..Options::default() }).await;
    let seconds_ahead = Arc::new(AtomicI64::new(0));
    let clock = {
        let (provider, seconds_ahead) = (Arc::clone(&provider), Arc::clone(&seconds_ahead));
        let ahead = move || SignedDuration::from_secs(seconds_ahead.load(Ordering::SeqCst));
        Clock::new(move || Timestamp::UNIX_EPOCH + provider.now() + ahead())
    };
    let client = IdentityClient::discover_at(settings(&provider, HOME), clock).await.unwrap();
    let mut tokens = sign_in(&client, ADA).await.tokens;
    for ahead in [4000, -4000, 0] {
        seconds_ahead.store(ahead, Ordering::SeqCst);
        tokens = refresh(&client, &tokens, "User.Read").await.unwrap();
        assert!(provider.validate(tokens.access_token.expose()).is_some());
    }
    assert_eq!(provider.families_revoked(), 0);
}

#[tokio::test]
async fn a_refresh_in_another_tenant_brings_a_guest_s_token() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, "common").await;
    let tokens = sign_in(&client, ADA).await.tokens;
    let home = refresh(&client.in_tenant(&tenant(HOME)), &tokens, "User.Read").await.unwrap();
    let guest = refresh(&client.in_tenant(&tenant(OTHER)), &tokens, "User.Read").await.unwrap();
    assert_eq!((home.realm.as_str(), guest.realm.as_str()), (HOME, OTHER));
    assert_eq!(home.home_account_id, guest.home_account_id);
    assert_eq!(provider.validate(guest.access_token.expose()).unwrap().tenant_id, OTHER);
}

#[tokio::test]
async fn an_api_gets_tokens_on_behalf_of_its_caller() {
    let provider = provider(Options::default()).await;
    let mut own_api = settings(&provider, HOME);
    own_api.scopes = scopes(&format!("api://{CLIENT}/access"));
    let client = discover(&provider, own_api).await;
    let assertion = sign_in(&client, ADA).await.tokens.access_token.expose().to_owned().into();

    let session = OnBehalfOfSession::Assertion;
    let tokens = client.on_behalf_of(&assertion, &scopes("Mail.Read"), &session).await.unwrap();
    assert_eq!(provider.validate(tokens.access_token.expose()).unwrap().permissions, "Mail.Read");
    assert_eq!(tokens.assertion_hash.as_deref(), Some(assertion_cache_key(&assertion).as_str()));
    assert!(tokens.refresh_token.is_some());

    let session = OnBehalfOfSession::LongRunning(CacheKey::new("night-job-7").unwrap());
    let tokens = client.on_behalf_of(&assertion, &scopes("Mail.Read"), &session).await.unwrap();
    assert_eq!(tokens.assertion_hash.as_deref(), Some("night-job-7"));
}

#[test]
fn the_cache_key_of_an_assertion_is_unpadded_base64url_of_the_sha_256() {
    // printf token | openssl dgst -sha256 -binary | basenc --base64url
    let key = assertion_cache_key(&"token".to_owned().into());
    assert_eq!(key.as_str(), "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A");
}

#[tokio::test]
async fn a_certificate_proves_the_client_by_either_algorithm() {
    let provider = provider(Options::default()).await;
    let authority = CertificateAuthority::new();
    let files = authority.app("app.example");
    let public = std::fs::read_to_string(&files.certificate).unwrap();
    provider.register_client(Client::public(CLIENT).key(AssertionKey::from_pem(&public).unwrap()));
    let own = ClientCertificate::from_files(&files.certificate, &files.key).unwrap();
    for credential in
        [own.clone(), own.clone().signing_by(AssertionAlgorithm::Rs256), own.signing_by(AssertionAlgorithm::Ps256)]
    {
        let mut settings = settings(&provider, HOME);
        settings.credential = Credential::Certificate(credential);
        let client = discover(&provider, settings).await;
        let tokens = sign_in(&client, ADA).await.tokens;
        refresh(&client, &tokens, "User.Read").await.unwrap();
    }
}

#[test]
fn a_key_that_is_not_the_certificate_s_is_refused() {
    let authority = CertificateAuthority::new();
    let pem = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let (files, others) = (authority.app("app.example"), authority.app("other.example"));
    let (certificate, key, other) = (pem(&files.certificate), pem(&files.key), pem(&others.certificate));
    let elliptic = pem(&authority.server().key);
    let read = |certificate: &str, key: &str| ClientCertificate::from_pem(certificate.as_bytes(), key.as_bytes());
    assert!(read(&certificate, &key).is_ok());
    assert!(read(&format!("{key}{certificate}"), &format!("{certificate}{key}")).is_ok());
    assert!(matches!(read(&other, &key), Err(CertificateError::OtherKey)));
    assert!(matches!(read(&key, &key), Err(CertificateError::NoCertificate)));
    assert!(matches!(read(&certificate, &certificate), Err(CertificateError::NoKey)));
    assert!(matches!(read(&certificate, &elliptic), Err(CertificateError::KeyRefused)));
    let missing = std::path::Path::new("no-such-file.pem");
    assert!(matches!(ClientCertificate::from_files(missing, missing), Err(CertificateError::File { .. })));
}

#[tokio::test]
async fn a_wrong_secret_is_the_client_s_own_fault_and_not_the_user_s() {
    let provider = provider(Options::default()).await;
    let tokens = sign_in(&client(&provider, HOME).await, ADA).await.tokens;
    let mut settings = settings(&provider, HOME);
    settings.credential = Credential::ClientSecret("marker-wrong-secret".to_owned().into());
    let client = discover(&provider, settings).await;
    let error = refresh(&client, &tokens, "User.Read").await.unwrap_err();
    assert!(matches!(error, GrantError::Refused { .. }), "{error:?}");
    assert_eq!(error.reason(), FailureReason::IdentityProviderUnavailable);
    assert!(error.to_string().contains("client secret") && error.to_string().contains("AADSTS7000215"), "{error}");
}

#[tokio::test]
async fn tokens_of_another_account_than_the_one_asked_for_are_refused() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, HOME).await;
    let mut tokens = sign_in(&client, ADA).await.tokens;
    tokens.home_account_id = "another.account".parse().unwrap();
    let error = refresh(&client, &tokens, "User.Read").await.unwrap_err();
    assert!(matches!(error, GrantError::Unusable(UnusableAnswer::OtherAccount)), "{error:?}");
}
