//! Signing in: what is asked, what must come back, and who is let in.

use std::time::Duration;

use common::identity::{
    AuthorizationOptions, AuthorizationRequestError, ClaimsChallenge, GrantError, IdTokenError, PendingSignIn, Prompt,
    ProviderKind, SignInError,
};
use testkit::identity_provider::{Endpoint, Fault, FaultRule, Options, User};

use super::{ADA, HOME, OTHER, browse, client, discover, hint, provider, settings, sign_in, tenant, try_sign_in};

#[tokio::test]
async fn a_user_signs_in_and_brings_everything_a_blob_keeps() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, HOME).await;
    let signed_in = sign_in(&client, ADA).await;
    let tokens = &signed_in.tokens;
    let ada = User::new(HOME, ADA, "Ada");

    assert_eq!(client.kind(), ProviderKind::Entra);
    assert_eq!(tokens.home_account_id.as_str(), ada.home_account_id());
    assert_eq!((tokens.environment.as_str(), tokens.realm.as_str()), ("127.0.0.1", HOME));
    assert_eq!(tokens.scopes, ["User.Read", "openid", "profile"]);
    assert!(tokens.refresh_token.is_some() && tokens.id_token.is_some() && tokens.client_info.is_some());
    assert_eq!(tokens.expires_in, Duration::from_secs(3600));
    assert_eq!(signed_in.identity.username.as_deref(), Some(ADA));
    assert_eq!(signed_in.identity.tenant_id, Some(tenant(HOME)));
    let live = provider.validate(tokens.access_token.expose()).unwrap();
    assert_eq!(live.username.as_deref(), Some(ADA));
}

#[tokio::test]
async fn an_authorization_request_has_pkce_state_nonce_and_what_was_asked_for() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, "common").await;
    let options = AuthorizationOptions {
        prompt: Some(Prompt::SelectAccount),
        claims: Some(ClaimsChallenge::new("{\"access_token\":{}}")),
        ..hint(ADA)
    };
    let request = client.authorization_request(&options).unwrap();
    let query: std::collections::HashMap<_, _> = request.url.query_pairs().into_owned().collect();

    assert!(request.url.path().ends_with("/common/oauth2/v2.0/authorize"));
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["code_challenge"].len(), 43);
    assert_eq!(query["state"], request.pending.state());
    assert!(query["nonce"].len() >= 22);
    assert_eq!(query["scope"], "User.Read openid profile offline_access");
    assert_eq!((query["prompt"].as_str(), query["login_hint"].as_str()), ("select_account", ADA));
    assert_eq!(query["claims"], "{\"access_token\":{}}");
    assert!(!query.contains_key("code_verifier"));
    let again = client.authorization_request(&options).unwrap();
    assert_ne!(again.pending.state(), request.pending.state());
}

#[tokio::test]
async fn a_pending_sign_in_survives_a_session_store_and_prints_nothing() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, HOME).await;
    let (response, pending) = browse(&client, hint(ADA)).await;
    let stored = serde_json::to_string(&pending).unwrap();
    let restored: PendingSignIn = serde_json::from_str(&stored).unwrap();
    assert!(client.redeem(&response, &restored).await.is_ok());
    for secret in serde_json::from_str::<serde_json::Value>(&stored).unwrap().as_object().unwrap().values() {
        assert!(!format!("{pending:?}").contains(secret.as_str().unwrap()));
    }
}

#[tokio::test]
async fn the_state_of_another_sign_in_is_refused_before_the_code_is_used() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, HOME).await;
    let (response, pending) = browse(&client, hint(ADA)).await;
    let (_, another) = browse(&client, hint(ADA)).await;
    assert!(matches!(client.redeem(&response, &another).await, Err(SignInError::State)));
    let mut without = response.clone();
    without.state = None;
    assert!(matches!(client.redeem(&without, &pending).await, Err(SignInError::State)));
    assert_eq!(provider.all_token_requests().total, 0);
    assert!(client.redeem(&response, &pending).await.is_ok());
}

#[tokio::test]
async fn the_nonce_and_the_verifier_of_another_sign_in_are_refused() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, HOME).await;
    let (response, pending) = browse(&client, hint(ADA)).await;
    let (_, another) = browse(&client, hint(ADA)).await;
    let mixed = |field: &str| -> PendingSignIn {
        let mut own = serde_json::to_value(&pending).unwrap();
        own[field] = serde_json::to_value(&another).unwrap()[field].clone();
        serde_json::from_value(own).unwrap()
    };
    let refused = client.redeem(&response, &mixed("pkce_verifier")).await;
    assert!(matches!(refused, Err(SignInError::Grant(GrantError::InteractionRequired { .. }))), "{refused:?}");
    let refused = client.redeem(&response, &mixed("nonce")).await;
    assert!(matches!(refused, Err(SignInError::IdToken(IdTokenError::Nonce))), "{refused:?}");
}

#[tokio::test]
async fn a_user_who_goes_back_is_not_signed_in() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, HOME).await;
    let options = AuthorizationOptions { prompt: Some(Prompt::None), ..AuthorizationOptions::default() };
    let (response, pending) = browse(&client, options).await;
    match client.redeem(&response, &pending).await {
        Err(SignInError::Denied { code }) => assert_eq!(code.unwrap().as_str(), "login_required"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_issuer_in_the_answer_is_refused() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, HOME).await;
    let (mut response, pending) = browse(&client, hint(ADA)).await;
    response.iss = Some(provider.issuer(OTHER));
    assert!(matches!(client.redeem(&response, &pending).await, Err(SignInError::Issuer)));
}

#[tokio::test]
async fn users_of_every_tenant_sign_in_under_common_unless_their_tenant_is_not_allowed() {
    let provider = provider(Options::default()).await;
    provider.register_user(User::new(OTHER, "bob@fabrikam.com", "Bob"));
    let common = client(&provider, "common").await;
    for (username, realm) in [(ADA, HOME), ("bob@fabrikam.com", OTHER)] {
        let signed_in = sign_in(&common, username).await;
        assert_eq!(signed_in.tokens.realm, realm);
        assert_eq!(signed_in.identity.issuer, provider.issuer(realm));
    }
    let mut settings = settings(&provider, "organizations");
    settings.allowed_tenants = vec![tenant(HOME)];
    let restricted = discover(&provider, settings).await;
    assert!(try_sign_in(&restricted, ADA).await.is_ok());
    let refused = try_sign_in(&restricted, "bob@fabrikam.com").await;
    assert!(matches!(refused, Err(SignInError::IdToken(IdTokenError::Tenant))), "{refused:?}");
}

#[tokio::test]
async fn a_guest_has_the_home_account_id_of_their_home_and_the_realm_they_are_a_guest_in() {
    let provider = provider(Options::default()).await;
    let ada = User::new(HOME, ADA, "Ada").guest_in(OTHER);
    let signed_in = sign_in(&client(&provider, OTHER).await, ADA).await;
    assert_eq!(signed_in.tokens.home_account_id.as_str(), ada.home_account_id());
    assert_eq!(signed_in.tokens.realm, OTHER);
    assert_eq!(signed_in.identity.object_id.unwrap().as_str(), ada.object_id_in(OTHER).unwrap());
}

#[tokio::test]
async fn an_expired_id_token_is_refused() {
    let provider = provider(Options { access_token_lifetime: Duration::from_secs(1), ..Options::default() }).await;
    let settings = settings(&provider, HOME);
    let ahead = {
        let provider = std::sync::Arc::clone(&provider);
        let skew = Duration::from_secs(302);
        common::identity::Clock::new(move || jiff::Timestamp::UNIX_EPOCH + provider.now() + skew)
    };
    let client = common::identity::IdentityClient::discover_at(settings, ahead).await.unwrap();
    let refused = try_sign_in(&client, ADA).await;
    assert!(matches!(refused, Err(SignInError::IdToken(IdTokenError::Expired))), "{refused:?}");
}

#[tokio::test]
async fn after_the_signing_key_was_rotated_the_keys_are_read_again_but_not_time_and_again() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, HOME).await;
    provider.rotate_signing_key().await.unwrap();
    let refused = try_sign_in(&client, ADA).await;
    assert!(matches!(refused, Err(SignInError::IdToken(IdTokenError::UnknownKey))), "{refused:?}");
    provider.advance(Duration::from_secs(11));
    sign_in(&client, ADA).await;
    sign_in(&client, ADA).await;
}

#[tokio::test]
async fn while_the_keys_cannot_be_read_the_known_ones_serve() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, HOME).await;
    let down = FaultRule::from(Fault::ServerError { status: 503, retry_after_seconds: None }).at(Endpoint::Keys);
    provider.inject(down);
    provider.advance(Duration::from_secs(13 * 3600));
    sign_in(&client, ADA).await;
    provider.rotate_signing_key().await.unwrap();
    provider.advance(Duration::from_secs(11));
    let refused = try_sign_in(&client, ADA).await;
    assert!(refused.as_ref().is_err_and(SignInError::is_transient), "{refused:?}");
}

#[tokio::test]
async fn a_worker_s_settings_cannot_begin_a_sign_in() {
    let provider = provider(Options::default()).await;
    let mut settings = settings(&provider, HOME);
    settings.redirect_uri = None;
    let client = discover(&provider, settings.clone()).await;
    let refused = client.authorization_request(&AuthorizationOptions::default());
    assert_eq!(refused.unwrap_err(), AuthorizationRequestError::NoRedirectUri);
    settings.redirect_uri = Some("http://app.example/callback".parse().unwrap());
    let refused = discover(&provider, settings).await.authorization_request(&AuthorizationOptions::default());
    assert_eq!(refused.unwrap_err(), AuthorizationRequestError::InTheClear);
}

#[tokio::test]
async fn signing_out_leads_to_the_provider_and_back() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, HOME).await;
    let back = "http://127.0.0.1:9/".parse().unwrap();
    let url = client.sign_out_url(Some(&back)).unwrap();
    assert!(url.path().ends_with("/logout"));
    assert!(url.query_pairs().any(|(name, value)| name == "post_logout_redirect_uri" && value == back.as_str()));
}
