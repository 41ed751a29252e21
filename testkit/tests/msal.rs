//! The real MSAL for Python signs in to the development identity provider and refreshes there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::*;
use testkit::identity_provider::{AssertionKey, Client, Fault, FaultRule, Options, Rotation};
use testkit::python::{MsalClient, MsalSignIn, interpreter, msal_sign_in_script};

fn client<'a>(app: &'a App, tenant: &'a str) -> MsalClient<'a> {
    MsalClient { provider: &app.provider, tenant, client_id: CLIENT, client_secret: SECRET, scope: "User.Read" }
}

fn entries(cache: &str, section: &str) -> Vec<Value> {
    let cache: Value = serde_json::from_str(cache).unwrap();
    cache[section].as_object().unwrap().values().cloned().collect()
}

#[tokio::test]
async fn msal_signs_users_in_and_writes_the_unified_cache() {
    let app = App::start().await;
    let signed_in = client(&app, "common").sign_in(&["ada@contoso.com", "grace@contoso.com"]).await;
    let [ada, grace]: [MsalSignIn; 2] = signed_in.try_into().ok().unwrap();
    assert_eq!(
        (ada.username.as_str(), ada.tenant.as_str(), ada.client_id.as_str()),
        ("ada@contoso.com", TENANT, CLIENT)
    );
    assert!(ada.home_account_id.ends_with(&format!(".{TENANT}")));
    assert_ne!(ada.home_account_id, grace.home_account_id);
    for section in ["Account", "AccessToken", "RefreshToken", "IdToken", "AppMetadata"] {
        let entries = entries(&ada.cache, section);
        assert_eq!(entries.len(), 1, "{section}");
        assert_eq!(entries[0]["environment"], "login.microsoftonline.com");
    }
    assert_eq!(entries(&ada.cache, "Account")[0]["home_account_id"], ada.home_account_id);
    let secret = &entries(&ada.cache, "AccessToken")[0]["secret"];
    let live = app.provider.validate(secret.as_str().unwrap()).unwrap();
    assert_eq!(live.username.as_deref(), Some("ada@contoso.com"));
}

#[tokio::test]
async fn msal_keeps_the_home_account_of_a_guest() {
    let app = App::start().await;
    let guest = client(&app, OTHER_TENANT).sign_in(&["ada@contoso.com"]).await.pop().unwrap();
    assert_eq!(guest.tenant, OTHER_TENANT);
    assert!(guest.home_account_id.ends_with(&format!(".{TENANT}")));
    assert_eq!(entries(&guest.cache, "AccessToken")[0]["realm"], OTHER_TENANT);
}

#[tokio::test]
async fn msal_takes_a_valid_token_from_the_cache_and_refreshes_under_strict_rotation() {
    let app = App::with(Options { rotation: Rotation::Strict, ..Options::default() }).await;
    let msal = client(&app, TENANT);
    let ada = msal.sign_in(&["ada@contoso.com"]).await.pop().unwrap();
    let cached = msal.silent(&ada.username, &ada.cache, false).await;
    assert_eq!((cached.kind.as_str(), cached.network_calls), ("cache", 0));
    let mut cache = cached.cache;
    for _ in 0..3 {
        let refreshed = msal.silent(&ada.username, &cache, true).await;
        assert_eq!(refreshed.kind, "identity_provider");
        assert!(refreshed.network_calls >= 1 && refreshed.refresh_token_changed);
        assert!(app.provider.validate(&refreshed.access_token.unwrap()).is_some());
        cache = refreshed.cache;
    }
    assert_eq!((app.provider.families_revoked(), app.provider.token_requests(TENANT).with_outcome("ok")), (0, 4));
}

#[tokio::test]
async fn msal_refreshes_what_is_about_to_expire() {
    let app = App::with(Options { access_token_lifetime: Duration::from_secs(200), ..Options::default() }).await;
    let msal = client(&app, TENANT);
    let ada = msal.sign_in(&["ada@contoso.com"]).await.pop().unwrap();
    let refreshed = msal.silent(&ada.username, &ada.cache, false).await;
    assert_eq!(refreshed.kind, "identity_provider");
}

#[tokio::test]
async fn msal_understands_the_providers_refusals() {
    let app = App::start().await;
    let msal = client(&app, TENANT);
    let ada = msal.sign_in(&["ada@contoso.com"]).await.pop().unwrap();
    app.provider.inject(FaultRule::from(Fault::InteractionRequired { claims: None }).times(1));
    let refused = msal.silent(&ada.username, &ada.cache, true).await;
    assert_eq!((refused.kind.as_str(), refused.error.as_deref()), ("none", Some("interaction_required")));
    app.provider.revoke(&ada.username);
    let refused = msal.silent(&ada.username, &ada.cache, true).await;
    assert_eq!((refused.error.as_deref(), refused.suberror.as_deref()), (Some("invalid_grant"), Some("bad_token")));
}

#[tokio::test]
async fn msal_authenticates_with_a_certificate() {
    let app = App::start().await;
    let authority = testkit::certificates::CertificateAuthority::new();
    let files = authority.app("the app");
    let key = AssertionKey::from_pem(&files.certificate_pem()).unwrap();
    app.provider.register_client(Client::public("certified").key(key));
    let mut python = tokio::process::Command::new(interpreter());
    python.arg(msal_sign_in_script()).args(["sign-in", "ada@contoso.com", "--client-id", "certified"]);
    python.args(["--provider", app.provider.base_url(), "--tenant", TENANT]);
    python.arg("--client-key").arg(&files.key).arg("--client-certificate").arg(&files.certificate);
    let output = python.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_failed_sign_in_ends_with_an_error_code_and_says_why() {
    let app = App::start().await;
    let mut python = tokio::process::Command::new(interpreter());
    python.arg(msal_sign_in_script()).args(["sign-in", "ada@contoso.com", "--client-id", CLIENT]);
    python.args(["--client-secret", "wrong", "--provider", app.provider.base_url(), "--tenant", TENANT]);
    let output = python.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("AADSTS7000215"));
    assert!(output.stdout.is_empty());
}
