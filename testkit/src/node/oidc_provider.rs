//! The certified `oidc-provider`: short-lived access tokens, and refresh tokens that serve once.

use serde::{Deserialize, Serialize};

use super::script::Script;

/// A running provider. It ends when it is dropped.
#[derive(Debug)]
pub struct OidcProvider {
    issuer: String,
    _script: Script,
}

/// The app that is registered there.
#[derive(Debug, Clone, Serialize)]
pub struct OidcClient {
    /// Its id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// Where sign-ins come back to.
    pub redirect_uri: String,
    /// Where sign-outs come back to.
    pub post_logout_redirect_uri: String,
    /// How long its access tokens live.
    pub access_token_seconds: u32,
}

/// What the provider has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct OidcCounts {
    /// Codes that were redeemed.
    pub authorization_code: u64,
    /// Refreshes.
    pub refresh_token: u64,
    /// Grants that were refused.
    pub refused: u64,
    /// Sign-ins that were revoked with all their tokens: a refresh token was used twice.
    pub revoked: u64,
}

#[derive(Deserialize)]
struct Started {
    issuer: String,
}

impl OidcProvider {
    /// Starts a provider that knows this app, and whoever types a name on its sign-in page.
    ///
    /// # Panics
    /// When there is no Node.js, or the provider does not start.
    pub async fn start(client: &OidcClient) -> Self {
        let argument = serde_json::to_string(client).unwrap_or_else(|error| panic!("no JSON: {error}"));
        let mut script = Script::start("oidc_provider.mjs", &argument);
        let Started { issuer } = script.hear().await;
        Self { issuer, _script: script }
    }

    /// `http://127.0.0.1:{port}`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What it has seen.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn counts(&self) -> OidcCounts {
        let url = format!("{}/dev/counts", self.issuer);
        let client = reqwest::Client::builder().no_proxy().build().unwrap_or_else(|error| panic!("{error}"));
        let answer = async { client.get(url).send().await?.json().await };
        answer.await.unwrap_or_else(|error: reqwest::Error| panic!("the provider does not answer: {error}"))
    }

    /// Whether it takes this access token now.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn takes(&self, access_token: &str) -> bool {
        let url = format!("{}/me", self.issuer);
        let client = reqwest::Client::builder().no_proxy().build().unwrap_or_else(|error| panic!("{error}"));
        let answer = client.get(url).bearer_auth(access_token).send().await;
        answer.unwrap_or_else(|error| panic!("the provider does not answer: {error}")).status().is_success()
    }
}
