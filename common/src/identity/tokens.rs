//! Tokens as the token endpoint answered them, and as a blob keeps them.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de};
use sha2::{Digest as _, Sha256};

use super::grant_error::UnusableAnswer;
use super::id_token::IdentityClaims;
use super::secret::AccessToken;
use crate::account::{CacheKey, ClientId, Environment, HomeAccountId};
use crate::token_cache::msal::{self, TokenCacheBlob};

/// The life of an access token whose answer does not say it: MSAL's assumption.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// What a grant brought, checked: everything that a blob keeps of it. `Debug` shows no token.
#[derive(Clone)]
pub struct TokenResponse {
    /// Whose tokens they are: `uid.utid` of `client_info`, else the `sub` of the id token.
    pub home_account_id: HomeAccountId,
    /// The host of the provider.
    pub environment: Environment,
    /// The client they were issued to.
    pub client_id: ClientId,
    /// The tenant that issued them; at other providers the first segment of the issuer's path, as MSAL has it.
    pub realm: String,
    /// `MSSTS`, or `Generic` at other providers.
    pub authority_type: &'static str,
    /// The granted scopes.
    pub scopes: Vec<String>,
    /// The access token, a bearer token.
    pub access_token: AccessToken,
    /// How long the access token is valid from [`received_at`](Self::received_at).
    pub expires_in: Duration,
    /// How long it may be used in an outage of the provider.
    pub ext_expires_in: Option<Duration>,
    /// After how long it should be renewed although it is valid.
    pub refresh_in: Option<Duration>,
    /// The refresh token; an answer without one leaves the old one in force.
    pub refresh_token: Option<SecretString>,
    /// How long the refresh token lives, where the provider says so.
    pub refresh_token_expires_in: Option<Duration>,
    /// The family of clients that may use the refresh token.
    pub family_id: Option<String>,
    /// The id token.
    pub id_token: Option<SecretString>,
    /// `client_info` as it came.
    pub client_info: Option<String>,
    /// What the id token says, where there is one.
    pub identity: Option<IdentityClaims>,
    /// In on-behalf-of and long-running sessions: what the tokens were had for.
    pub assertion_hash: Option<String>,
    /// When the answer came.
    pub received_at: Timestamp,
}

impl TokenResponse {
    /// Saves the tokens into a blob.
    pub fn save_into(&self, blob: &mut TokenCacheBlob) {
        blob.save(&self.for_blob(), self.received_at.as_second());
    }

    fn for_blob(&self) -> msal::TokenResponse {
        let identity = self.identity.as_ref();
        msal::TokenResponse {
            home_account_id: self.home_account_id.as_str().to_owned(),
            environment: self.environment.as_str().to_owned(),
            client_id: self.client_id.as_str().to_owned(),
            realm: self.realm.clone(),
            scopes: self.scopes.clone(),
            access_token: self.access_token.expose().to_owned().into(),
            expires_in: self.expires_in,
            ext_expires_in: self.ext_expires_in,
            refresh_in: self.refresh_in,
            refresh_token: self.refresh_token.clone(),
            family_id: self.family_id.clone(),
            id_token: self.id_token.clone(),
            client_info: self.client_info.clone(),
            username: identity.and_then(|identity| identity.username.clone()),
            name: identity.and_then(|identity| identity.name.clone()),
            local_account_id: identity.map(IdentityClaims::local_account_id),
            authority_type: Some(self.authority_type.to_owned()),
            assertion_hash: self.assertion_hash.clone(),
        }
    }
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponse")
            .field("home_account_id", &self.home_account_id)
            .field("environment", &self.environment)
            .field("realm", &self.realm)
            .field("scopes", &self.scopes)
            .field("access_token", &self.access_token)
            .field("has_refresh_token", &self.refresh_token.is_some())
            .finish_non_exhaustive()
    }
}

/// The JSON of RFC 6749, section 5.1, with OpenID Connect's and Microsoft Entra ID's additions.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    #[serde(deserialize_with = "secret")]
    pub(super) access_token: SecretString,
    token_type: String,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<Duration>,
    #[serde(default, deserialize_with = "seconds")]
    pub(super) ext_expires_in: Option<Duration>,
    #[serde(default, deserialize_with = "seconds")]
    pub(super) refresh_in: Option<Duration>,
    #[serde(default, deserialize_with = "optional_secret")]
    pub(super) refresh_token: Option<SecretString>,
    #[serde(default, deserialize_with = "seconds")]
    pub(super) refresh_token_expires_in: Option<Duration>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default, deserialize_with = "optional_secret")]
    pub(super) id_token: Option<SecretString>,
    #[serde(default)]
    pub(super) client_info: Option<String>,
    #[serde(default)]
    pub(super) foci: Option<String>,
}

impl TokenAnswer {
    pub(super) fn parse(body: &[u8]) -> Result<Self, UnusableAnswer> {
        let answer: Self = serde_json::from_slice(body)
            .map_err(|e| UnusableAnswer::NotTokens { line: e.line(), column: e.column() })?;
        if !answer.token_type.eq_ignore_ascii_case("Bearer") {
            return Err(UnusableAnswer::NotBearer);
        }
        Ok(answer)
    }

    pub(super) fn lifetime(&self) -> Duration {
        self.expires_in.unwrap_or(DEFAULT_LIFETIME)
    }

    /// The granted scopes; those that were asked for where the answer does not say.
    pub(super) fn scopes(&self, requested: &str) -> Vec<String> {
        let granted = self.scope.as_deref().filter(|scope| !scope.trim().is_empty());
        granted.unwrap_or(requested).split_whitespace().map(str::to_owned).collect()
    }

    /// `uid.utid` of `client_info`, else the subject of the id token.
    pub(super) fn home_account_id(&self, identity: Option<&IdentityClaims>) -> Option<HomeAccountId> {
        let by_info = self.client_info.as_deref().and_then(home_account_id);
        let subject = || identity.map(|identity| identity.subject.clone());
        by_info.or_else(subject).and_then(|id| HomeAccountId::new(id).ok())
    }
}

/// `client_info`: base64url of `{"uid": …, "utid": …}`.
fn home_account_id(client_info: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct ClientInfo {
        uid: String,
        utid: String,
    }
    let json = URL_SAFE_NO_PAD.decode(client_info.trim_end_matches('=')).ok()?;
    let info: ClientInfo = serde_json::from_slice(&json).ok()?;
    let is_pair = !info.uid.is_empty() && !info.utid.is_empty();
    is_pair.then(|| format!("{}.{}", info.uid, info.utid))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Err(de::Error::custom("empty")) } else { Ok(text.into()) }
}

fn optional_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(SecretString::from))
}

/// Seconds as a number or, as some providers write them, as a text.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(f64),
        Text(String),
    }
    let seconds = match Option::<Seconds>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Seconds::Number(number)) => number,
        Some(Seconds::Text(text)) => text.trim().parse().map_err(|_| de::Error::custom("not seconds"))?,
    };
    // A life of more than a century is no life that a clock can be compared with.
    const LONGEST: f64 = 100.0 * 366.0 * 86_400.0;
    Duration::try_from_secs_f64(seconds.clamp(0.0, LONGEST)).map(Some).map_err(|_| de::Error::custom("not seconds"))
}

/// Where the session of an on-behalf-of assertion is kept: unpadded base64url of the assertion's SHA-256.
pub fn assertion_cache_key(assertion: &SecretString) -> CacheKey {
    CacheKey::of_digest(&Sha256::digest(assertion.expose_secret()).into())
}
