//! The token endpoint: one form for every grant, the client's proof with it, and what its answer means.

use secrecy::{ExposeSecret, SecretString};
use url::{Url, form_urlencoded};

use super::certificate::{ASSERTION_TYPE, AssertionAlgorithm};
use super::clock::Clock;
use super::discovery::Provider;
use super::grant_error::{ErrorAnswer, GrantError};
use super::http::Http;
use super::scopes::Scopes;
use super::settings::{Credential, ProviderKind, ProviderSettings};
use super::throttle::Throttle;
use super::tokens::TokenAnswer;

const ON_BEHALF_OF: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// What tokens are asked for with.
pub(super) enum GrantType<'a> {
    AuthorizationCode { code: &'a SecretString, redirect_uri: &'a str, verifier: &'a SecretString },
    RefreshToken { refresh_token: &'a SecretString },
    OnBehalfOf { assertion: &'a SecretString },
}

impl<'a> GrantType<'a> {
    fn parameters(&self) -> Vec<(&'static str, &'a str)> {
        match self {
            Self::AuthorizationCode { code, redirect_uri, verifier } => vec![
                ("grant_type", "authorization_code"),
                ("code", code.expose_secret()),
                ("redirect_uri", redirect_uri),
                ("code_verifier", verifier.expose_secret()),
            ],
            Self::RefreshToken { refresh_token } => {
                vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose_secret())]
            }
            Self::OnBehalfOf { assertion } => vec![
                ("grant_type", ON_BEHALF_OF),
                ("assertion", assertion.expose_secret()),
                ("requested_token_use", "on_behalf_of"),
            ],
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::AuthorizationCode { .. } => "authorization_code",
            Self::RefreshToken { .. } => "refresh_token",
            Self::OnBehalfOf { .. } => "on_behalf_of",
        }
    }
}

/// The token endpoint of one tenant.
pub(super) struct TokenEndpoint<'a> {
    pub(super) url: Url,
    /// What is left alone when it throttles.
    pub(super) throttle_key: &'a str,
    pub(super) settings: &'a ProviderSettings,
    pub(super) provider: &'a Provider,
    pub(super) http: &'a Http,
    pub(super) throttle: &'a Throttle,
    pub(super) clock: &'a Clock,
}

impl TokenEndpoint<'_> {
    /// Asks for tokens, unless the tenant is to be left alone.
    pub(super) async fn request(&self, grant: &GrantType<'_>, scopes: &Scopes) -> Result<TokenAnswer, GrantError> {
        if let Some(until) = self.throttle.in_force(self.throttle_key, self.clock.now()) {
            return Err(GrantError::Throttled { until, answer: ErrorAnswer::default() });
        }
        let outcome = self.ask(grant, scopes).await;
        if let Err(error) = &outcome {
            self.note(grant, error);
        }
        outcome
    }

    async fn ask(&self, grant: &GrantType<'_>, scopes: &Scopes) -> Result<TokenAnswer, GrantError> {
        let scope = scopes.to_string();
        let proof = self.proof()?;
        let mut form = grant.parameters();
        form.push(("scope", &scope));
        form.push(("client_id", self.settings.client_id.as_str()));
        if self.provider.kind == ProviderKind::Entra {
            form.push(("client_info", "1"));
        }
        form.extend(proof.parameters());
        let answer = self.http.post(&self.url, &form, proof.basic()).await.map_err(GrantError::no_answer)?;
        if answer.status != 200 {
            return Err(GrantError::from_answer(&answer, self.clock.now()));
        }
        TokenAnswer::parse(&answer.body).map_err(GrantError::Unusable)
    }

    /// Logs the codes of an error, and keeps the time it asks for.
    fn note(&self, grant: &GrantType<'_>, error: &GrantError) {
        tracing::debug!(grant = grant.name(), reason = error.reason().as_str(), %error, "no tokens");
        if let Some(until) = error.retry_after() {
            self.throttle.set(self.throttle_key, until, self.clock.now());
        }
    }

    fn proof(&self) -> Result<Proof<'_>, GrantError> {
        match &self.settings.credential {
            Credential::ClientSecret(secret) if self.provider.secret_in_header => {
                let text = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                // RFC 6749, section 2.3.1: both are form-encoded before they go into the header.
                let user = text(self.settings.client_id.as_str());
                Ok(Proof::Header { user, password: text(secret.expose_secret()).into() })
            }
            Credential::ClientSecret(secret) => Ok(Proof::Secret(secret)),
            Credential::Certificate(certificate) => {
                let default =
                    if self.provider.checks_ps256 { AssertionAlgorithm::Ps256 } else { AssertionAlgorithm::Rs256 };
                let client_id = self.settings.client_id.as_str();
                let assertion = certificate.assertion(client_id, self.url.as_str(), default, self.clock.now());
                Ok(Proof::Assertion(assertion.map_err(|_| GrantError::Signing)?.into()))
            }
        }
    }
}

/// What proves that the request is the client's.
enum Proof<'a> {
    Header { user: String, password: SecretString },
    Secret(&'a SecretString),
    Assertion(SecretString),
}

impl Proof<'_> {
    fn parameters(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Header { .. } => Vec::new(),
            Self::Secret(secret) => vec![("client_secret", secret.expose_secret())],
            Self::Assertion(assertion) => {
                vec![("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion.expose_secret())]
            }
        }
    }

    fn basic(&self) -> Option<(&str, &str)> {
        match self {
            Self::Header { user, password } => Some((user, password.expose_secret())),
            Self::Secret(_) | Self::Assertion(_) => None,
        }
    }
}
