//! The identity client against the development identity provider and against answers made up for it.

mod discovery;
mod encrypted;
mod generic;
mod grants;
mod rig;
mod scripted;
mod secrecy;
mod sign_in;
mod silent;
mod silent_faults;

use std::sync::Arc;

use common::account::{ClientId, TenantId};
use common::identity::{
    AuthorizationOptions, AuthorizationResponse, Clock, Credential, IdentityClient, PendingSignIn, ProviderSettings,
    Scopes, SignInError, SignedIn,
};
use jiff::Timestamp;
use testkit::identity_provider::{Client, IdentityProvider, Options, User};

pub(crate) const HOME: &str = "7d1f5a2c-3b64-4c1e-9a57-0c6d2e8f1b30";
pub(crate) const OTHER: &str = "0a3b1c5d-9e8f-4a6b-8c7d-1e2f3a4b5c6d";
pub(crate) const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const SECRET: &str = "marker-client-secret";
pub(crate) const ADA: &str = "ada@contoso.com";

/// A provider with Ada in it, and this app.
pub(crate) async fn provider(options: Options) -> Arc<IdentityProvider> {
    let provider = IdentityProvider::start(options).await.unwrap();
    provider.register_client(Client::confidential(CLIENT, SECRET));
    provider.register_user(User::new(HOME, ADA, "Ada").guest_in(OTHER));
    Arc::new(provider)
}

/// The settings of this app, for users of `tenant`.
pub(crate) fn settings(provider: &IdentityProvider, tenant: &str) -> ProviderSettings {
    let authority = provider.base_url().parse().unwrap();
    let credential = Credential::ClientSecret(SECRET.to_owned().into());
    let mut settings = ProviderSettings::new(authority, ClientId::new(CLIENT).unwrap(), credential);
    settings.tenant = Some(tenant.parse().unwrap());
    settings.redirect_uri = Some("http://127.0.0.1:9/callback".parse().unwrap());
    settings.scopes = "User.Read".parse().unwrap();
    settings
}

/// A clock that goes with the provider's.
pub(crate) fn clock_of(provider: &Arc<IdentityProvider>) -> Clock {
    let provider = Arc::clone(provider);
    Clock::new(move || Timestamp::UNIX_EPOCH + provider.now())
}

pub(crate) async fn client(provider: &Arc<IdentityProvider>, tenant: &str) -> IdentityClient {
    discover(provider, settings(provider, tenant)).await
}

pub(crate) async fn discover(provider: &Arc<IdentityProvider>, settings: ProviderSettings) -> IdentityClient {
    IdentityClient::discover_at(settings, clock_of(provider)).await.unwrap()
}

pub(crate) fn scopes(text: &str) -> Scopes {
    text.parse().unwrap()
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

/// Goes where the authorization request leads and comes back, as a browser would.
pub(crate) async fn browse(
    client: &IdentityClient,
    options: AuthorizationOptions,
) -> (AuthorizationResponse, PendingSignIn) {
    let request = client.authorization_request(&options).unwrap();
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let answer = browser.get(request.url).send().await.unwrap();
    assert_eq!(answer.status(), 302, "{}", answer.text().await.unwrap());
    let location = answer.headers()["location"].to_str().unwrap();
    let back = reqwest::Url::parse(location).unwrap();
    let query: std::collections::HashMap<_, _> = back.query_pairs().into_owned().collect();
    let response = serde_json::from_value(serde_json::to_value(query).unwrap()).unwrap();
    (response, request.pending)
}

pub(crate) fn hint(username: &str) -> AuthorizationOptions {
    AuthorizationOptions { login_hint: Some(username.to_owned()), ..AuthorizationOptions::default() }
}

pub(crate) async fn try_sign_in(client: &IdentityClient, username: &str) -> Result<SignedIn, SignInError> {
    let (response, pending) = browse(client, hint(username)).await;
    client.redeem(&response, &pending).await
}

pub(crate) async fn sign_in(client: &IdentityClient, username: &str) -> SignedIn {
    try_sign_in(client, username).await.unwrap()
}
