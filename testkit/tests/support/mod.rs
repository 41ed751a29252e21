//! A small relying party: signs in over HTTP as a browser and an app would.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Response, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use testkit::identity_provider::{Client, IdentityProvider, Options, User};
use url::Url;

pub(crate) const TENANT: &str = "0a0b0c0d-1111-4222-8333-444455556666";
pub(crate) const OTHER_TENANT: &str = "f0f0f0f0-1111-4222-8333-444455556666";
pub(crate) const CLIENT: &str = "9d3c7a10-aaaa-4bbb-8ccc-ddddeeeeffff";
pub(crate) const SECRET: &str = "a secret: with /odd+signs";
pub(crate) const REDIRECT: &str = "http://localhost:8000/callback";
pub(crate) const VERIFIER: &str = "a-verifier-that-is-at-least-forty-three-characters-long";
pub(crate) const SCOPES: &str = "openid profile offline_access User.Read";

pub(crate) struct App {
    pub(crate) provider: IdentityProvider,
    pub(crate) http: reqwest::Client,
}

pub(crate) type Form<'a> = Vec<(&'a str, String)>;

impl App {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let provider = IdentityProvider::start(options).await.unwrap();
        provider.register_client(Client::confidential(CLIENT, SECRET).redirect_uri(REDIRECT));
        provider.register_user(User::new(TENANT, "ada@contoso.com", "Ada Lovelace").guest_in(OTHER_TENANT));
        provider.register_user(User::new(TENANT, "grace@contoso.com", "Grace Hopper"));
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { provider, http }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.provider.base_url())
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    pub(crate) fn authorize_url(&self, tenant: &str, username: &str, changes: &[(&str, Option<&str>)]) -> Url {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
        let mut query: HashMap<&str, &str> = HashMap::from([
            ("client_id", CLIENT),
            ("response_type", "code"),
            ("redirect_uri", REDIRECT),
            ("scope", SCOPES),
            ("state", "the state"),
            ("nonce", "the nonce"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("login_hint", username),
            ("client_info", "1"),
        ]);
        for (name, value) in changes {
            match value {
                Some(value) => query.insert(name, value),
                None => query.remove(name),
            };
        }
        Url::parse_with_params(&self.url(&format!("/{tenant}/oauth2/v2.0/authorize")), query).unwrap()
    }

    /// What the redirect back to the app carries.
    pub(crate) async fn authorize(
        &self,
        tenant: &str,
        username: &str,
        changes: &[(&str, Option<&str>)],
    ) -> HashMap<String, String> {
        let answer = self.http.get(self.authorize_url(tenant, username, changes)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FOUND);
        let location = Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
        assert!(location.as_str().starts_with(REDIRECT));
        location.query_pairs().into_owned().collect()
    }

    pub(crate) async fn post_token(&self, tenant: &str, form: &Form<'_>) -> reqwest::Result<Response> {
        self.http.post(self.url(&format!("/{tenant}/oauth2/v2.0/token"))).form(form).send().await
    }

    pub(crate) async fn token(&self, tenant: &str, form: &Form<'_>) -> (StatusCode, Value) {
        let answer = self.post_token(tenant, form).await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    pub(crate) async fn sign_in(&self, tenant: &str, username: &str) -> Value {
        let code = self.authorize(tenant, username, &[]).await.remove("code").unwrap();
        let (status, tokens) = self.token(tenant, &code_form(&code)).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        tokens
    }

    pub(crate) async fn refresh(&self, tenant: &str, refresh_token: &Value) -> (StatusCode, Value) {
        self.token(tenant, &refresh_form(refresh_token)).await
    }
}

pub(crate) fn code_form(code: &str) -> Form<'static> {
    form(&[
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_info", "1"),
    ])
}

pub(crate) fn refresh_form(refresh_token: &Value) -> Form<'static> {
    form(&[
        ("grant_type", "refresh_token"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("refresh_token", refresh_token.as_str().unwrap()),
        ("scope", SCOPES),
        ("client_info", "1"),
    ])
}

pub(crate) fn form(pairs: &[(&'static str, &str)]) -> Form<'static> {
    pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

pub(crate) fn change(mut form: Form<'static>, name: &'static str, value: Option<&str>) -> Form<'static> {
    form.retain(|(own, _)| *own != name);
    form.extend(value.map(|value| (name, value.to_owned())));
    form
}

/// The claims of a token, unchecked.
pub(crate) fn claims(token: &Value) -> Value {
    let part = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}
