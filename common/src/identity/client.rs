//! The confidential client: signs users in, and has tokens renewed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreJsonWebKeySet};
use openidconnect::{AuthUrl, CsrfToken, IssuerUrl, Nonce, PkceCodeChallenge, RedirectUrl, Scope};
use secrecy::SecretString;
use url::Url;

use super::clock::Clock;
use super::discovery::{DiscoveryError, Issuer, Provider, discover, shown};
use super::grant::{GrantType, TokenEndpoint};
use super::grant_error::{GrantError, UnusableAnswer};
use super::http::Http;
use super::id_token::{Expected, IdToken, IdTokenError, IdentityClaims};
use super::keys::SigningKeys;
use super::scopes::Scopes;
use super::secret::AccessToken;
use super::settings::{ProviderKind, ProviderSettings, Tenant, is_protected};
use super::sign_in::{
    AuthorizationOptions, AuthorizationRequest, AuthorizationRequestError, AuthorizationResponse, PendingSignIn,
    SignInError, SignedIn,
};
use super::throttle::Throttle;
use super::tokens::{TokenAnswer, TokenResponse, assertion_cache_key};
use crate::account::{CacheKey, ClientId, Environment, HomeAccountId, TenantId};

/// A confidential OAuth and OpenID Connect client of one identity provider. Cheap to clone.
#[derive(Debug, Clone)]
pub struct IdentityClient {
    shared: Arc<Shared>,
    /// Whose tokens it gets: the provider's issuer, or that of one tenant of it.
    issuer: Issuer,
    /// The tenant that grants are asked from, where it is not the one of the settings.
    tenant: Option<TenantId>,
}

#[derive(Debug)]
struct Shared {
    settings: ProviderSettings,
    provider: Provider,
    environment: Environment,
    http: Http,
    keys: SigningKeys,
    throttle: Throttle,
    clock: Clock,
}

/// Under which key an on-behalf-of session is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnBehalfOfSession {
    /// Under the assertion's hash: as long as the caller has the same token.
    Assertion,
    /// Under a key of the caller's own, for work that goes on when the assertion has expired.
    LongRunning(CacheKey),
}

impl OnBehalfOfSession {
    /// Where the session's blob is kept.
    pub fn cache_key(&self, assertion: &SecretString) -> CacheKey {
        match self {
            Self::Assertion => assertion_cache_key(assertion),
            Self::LongRunning(key) => key.clone(),
        }
    }
}

impl IdentityClient {
    /// Reads the provider's configuration and signing keys.
    ///
    /// # Errors
    /// [`DiscoveryError`]; where it [is transient](DiscoveryError::is_transient), try again later.
    pub async fn discover(settings: ProviderSettings) -> Result<Self, DiscoveryError> {
        Self::discover_at(settings, Clock::default()).await
    }

    /// The same, by another clock than the machine's.
    ///
    /// # Errors
    /// [`DiscoveryError`].
    pub async fn discover_at(settings: ProviderSettings, clock: Clock) -> Result<Self, DiscoveryError> {
        let http = Http::new(&settings.http, &settings.authority, clock.clone())?;
        let provider = discover(&settings, &http).await?;
        let environment = match &settings.environment {
            Some(environment) => environment.clone(),
            None => Environment::new(settings.authority.url().host_str().unwrap_or_default())
                .map_err(DiscoveryError::Environment)?,
        };
        let failed = |source| DiscoveryError::Keys { authority: shown(&settings), source };
        let keys = SigningKeys::read(provider.jwks_uri.clone(), &http, clock.clone()).await.map_err(failed)?;
        let throttle = Throttle::default();
        let issuer = provider.issuer.clone();
        let shared = Shared { settings, provider, environment, http, keys, throttle, clock };
        Ok(Self { shared: Arc::new(shared), issuer, tenant: None })
    }

    /// The same client, asking another tenant for tokens: the home tenant of a user who signed in under `common`, or
    /// one they are a guest in. Only Microsoft Entra ID has tenants; with another provider it is the same client.
    #[must_use]
    pub fn in_tenant(&self, tenant: &TenantId) -> Self {
        let issuer = self.shared.provider.issuer.in_tenant(tenant);
        let tenant = issuer.is_some().then(|| tenant.clone());
        let issuer = issuer.unwrap_or_else(|| self.shared.provider.issuer.clone());
        Self { shared: Arc::clone(&self.shared), issuer, tenant }
    }

    /// The application (client) id.
    pub fn client_id(&self) -> &ClientId {
        &self.shared.settings.client_id
    }

    /// The host of the provider, as blobs name it.
    pub fn environment(&self) -> &Environment {
        &self.shared.environment
    }

    /// What kind of provider it is.
    pub fn kind(&self) -> ProviderKind {
        self.shared.provider.kind
    }

    /// The issuer of the tokens it gets; with `{tenantid}` in it where there is one for each tenant.
    pub fn issuer(&self) -> &str {
        self.issuer.name()
    }

    /// The clock it works by.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The scopes of the settings.
    pub fn scopes(&self) -> &Scopes {
        &self.shared.settings.scopes
    }

    /// The one tenant whose tokens this client gets, where it is known beforehand.
    pub fn tenant_id(&self) -> Option<&TenantId> {
        match &self.issuer {
            Issuer::One { tenant, .. } => tenant.as_ref(),
            Issuer::EachTenant { .. } => None,
        }
    }

    /// How the authority names the tenant, where there are tenants.
    pub(super) fn tenant_segment(&self) -> Option<&str> {
        self.shared.provider.tenant.as_ref().map(Tenant::as_str)
    }

    /// How long one call may take.
    pub(super) fn timeout(&self) -> Duration {
        self.shared.settings.http.timeout
    }

    /// The provider's page to send a browser to that signs out, and back to `return_to` where that is registered.
    pub fn sign_out_url(&self, return_to: Option<&Url>) -> Option<Url> {
        let mut url = self.shared.provider.end_session_endpoint.clone()?;
        if let Some(return_to) = return_to {
            let client_id = self.client_id().as_str();
            url.query_pairs_mut()
                .append_pair("client_id", client_id)
                .append_pair("post_logout_redirect_uri", return_to.as_str());
        }
        Some(url)
    }

    /// The provider's page about the user of an access token, where it has one.
    pub fn userinfo_endpoint(&self) -> Option<&Url> {
        self.shared.provider.userinfo_endpoint.as_ref()
    }

    /// Begins a sign-in: authorization code with PKCE (S256), state and nonce.
    ///
    /// # Errors
    /// [`AuthorizationRequestError`]: the settings are not those of an app that signs users in.
    pub fn authorization_request(
        &self,
        options: &AuthorizationOptions,
    ) -> Result<AuthorizationRequest, AuthorizationRequestError> {
        let redirect_uri = self.redirect_uri()?;
        let issuer = IssuerUrl::new(self.issuer().to_owned()).map_err(|_| AuthorizationRequestError::Issuer)?;
        let client_id = openidconnect::ClientId::new(self.client_id().as_str().to_owned());
        let client = CoreClient::new(client_id, issuer, CoreJsonWebKeySet::new(Vec::new()))
            .disable_openid_scope()
            .set_auth_uri(AuthUrl::from_url(self.shared.provider.authorization_endpoint.clone()))
            .set_redirect_uri(RedirectUrl::from_url(redirect_uri.clone()));
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let scopes = self.scopes().with_openid();
        let mut request = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(scopes.iter().map(|scope| Scope::new(scope.to_owned())))
            .set_pkce_challenge(challenge);
        for (name, value) in self.extra_parameters(options) {
            request = request.add_extra_param(name, value);
        }
        let (url, state, nonce) = request.url();
        let pending = PendingSignIn {
            state: state.into_secret().into(),
            nonce: nonce.secret().clone().into(),
            pkce_verifier: verifier.into_secret().into(),
        };
        Ok(AuthorizationRequest { url, pending })
    }

    fn redirect_uri(&self) -> Result<&Url, AuthorizationRequestError> {
        let uri = self.shared.settings.redirect_uri.as_ref().ok_or(AuthorizationRequestError::NoRedirectUri)?;
        if is_protected(uri) { Ok(uri) } else { Err(AuthorizationRequestError::InTheClear) }
    }

    fn extra_parameters(&self, options: &AuthorizationOptions) -> Vec<(&'static str, String)> {
        let is_entra = self.kind() == ProviderKind::Entra;
        let client_info = is_entra.then(|| ("client_info", "1".to_owned()));
        let login_hint = options.login_hint.clone().map(|hint| ("login_hint", hint));
        let claims = options.claims.as_ref().map(|claims| ("claims", claims.expose().to_owned()));
        let prompt = match options.prompt {
            Some(prompt) => Some(prompt.as_str()),
            // OpenID Connect Core, section 11: without consent there is no offline access.
            None => (!is_entra).then_some("consent"),
        };
        let prompt = prompt.map(|prompt| ("prompt", prompt.to_owned()));
        [client_info, login_hint, claims, prompt].into_iter().flatten().collect()
    }

    /// Ends a sign-in: checks what the browser brought back against what was `pending`, redeems the code, and checks
    /// the id token (signature, issuer, audience, authorized party, times, nonce, `at_hash`) and the tenant.
    ///
    /// # Errors
    /// [`SignInError`].
    ///
    /// # Cancel safety
    /// A dropped call may have used the code up; begin again.
    pub async fn redeem(
        &self,
        response: &AuthorizationResponse,
        pending: &PendingSignIn,
    ) -> Result<SignedIn, SignInError> {
        if !response.state.as_deref().is_some_and(|state| pending.is_of(state)) {
            return Err(SignInError::State);
        }
        if self.shared.provider.names_itself && response.iss.is_none() {
            return Err(SignInError::Issuer);
        }
        let code = match (&response.code, response.error_answer()) {
            (Some(code), None) => code,
            (_, error) => return Err(SignInError::Denied { code: error.and_then(|answer| answer.error) }),
        };
        let redirect_uri = self.shared.settings.redirect_uri.as_ref().map(Url::as_str).unwrap_or_default();
        let grant = GrantType::AuthorizationCode { code, redirect_uri, verifier: &pending.pkce_verifier };
        let scopes = self.scopes().with_openid();
        let answer = self.token_endpoint().request(&grant, &scopes).await?;
        let token = IdToken::parse(answer.id_token.as_ref().ok_or(IdTokenError::Missing)?)?;
        let identity = self.verify(&token, &pending.nonce(), &answer.access_token).await?;
        if !self.is_issuer(response.iss.as_deref(), &identity) {
            return Err(SignInError::Issuer);
        }
        let tokens = self.tokens(answer, &scopes, Some(identity.clone()), None).map_err(GrantError::Unusable)?;
        Ok(SignedIn { tokens, identity })
    }

    async fn verify(
        &self,
        token: &IdToken,
        nonce: &Nonce,
        access_token: &SecretString,
    ) -> Result<IdentityClaims, SignInError> {
        let Shared { keys, http, .. } = &*self.shared;
        let known = keys.current(http).await;
        match token.verify(&known, nonce, access_token, &self.expected()) {
            Err(IdTokenError::UnknownKey) => {}
            checked => return Ok(checked?),
        }
        let newer = keys.newer_than(&known, http).await.map_err(SignInError::Keys)?;
        Ok(token.verify(&newer, nonce, access_token, &self.expected())?)
    }

    /// RFC 9207: who answers must be who issued the id token, or the provider by its own name.
    fn is_issuer(&self, named: Option<&str>, identity: &IdentityClaims) -> bool {
        named.is_none_or(|issuer| issuer == identity.issuer || issuer == self.issuer())
    }

    /// Has tokens of `account` renewed: asks for `scopes` and `openid profile offline_access`.
    ///
    /// An answer that is about another account is refused; one that names nobody is taken to be about this one.
    /// Without a refresh token in it, the old one stays in force.
    ///
    /// # Errors
    /// [`GrantError`].
    ///
    /// # Cancel safety
    /// Not cancel safe: a provider that rotates refresh tokens may have used this one up, and the new one is lost.
    pub async fn refresh(
        &self,
        refresh_token: &SecretString,
        account: &HomeAccountId,
        scopes: &Scopes,
    ) -> Result<TokenResponse, GrantError> {
        let grant = GrantType::RefreshToken { refresh_token };
        let tokens = self.grant(&grant, scopes, Some(account)).await?;
        if tokens.home_account_id != *account {
            return Err(GrantError::Unusable(UnusableAnswer::OtherAccount));
        }
        Ok(tokens)
    }

    /// Gets tokens for another API on behalf of the user that `assertion` (an access token for this app) speaks for.
    /// The response says under which key its session is kept: [`TokenResponse::assertion_hash`].
    ///
    /// # Errors
    /// [`GrantError`].
    pub async fn on_behalf_of(
        &self,
        assertion: &SecretString,
        scopes: &Scopes,
        session: &OnBehalfOfSession,
    ) -> Result<TokenResponse, GrantError> {
        let mut tokens = self.grant(&GrantType::OnBehalfOf { assertion }, scopes, None).await?;
        tokens.assertion_hash = Some(session.cache_key(assertion).as_str().to_owned());
        Ok(tokens)
    }

    async fn grant(
        &self,
        grant: &GrantType<'_>,
        scopes: &Scopes,
        account: Option<&HomeAccountId>,
    ) -> Result<TokenResponse, GrantError> {
        let scopes = scopes.with_openid();
        let answer = self.token_endpoint().request(grant, &scopes).await?;
        let identity = match &answer.id_token {
            Some(token) => Some(self.check_claims(token).map_err(|e| GrantError::Unusable(e.into()))?),
            None => None,
        };
        self.tokens(answer, &scopes, identity, account).map_err(GrantError::Unusable)
    }

    fn check_claims(&self, token: &SecretString) -> Result<IdentityClaims, IdTokenError> {
        IdToken::parse(token)?.check_claims(&self.expected())
    }

    fn expected(&self) -> Expected<'_> {
        Expected {
            issuer: &self.issuer,
            algorithms: &self.shared.provider.id_token_algorithms,
            client_id: self.client_id(),
            allowed_tenants: &self.shared.settings.allowed_tenants,
            now: self.shared.clock.now(),
        }
    }

    fn token_endpoint(&self) -> TokenEndpoint<'_> {
        let Shared { settings, provider, http, throttle, clock, .. } = &*self.shared;
        TokenEndpoint { url: self.token_url(), throttle_key: self.issuer(), settings, provider, http, throttle, clock }
    }

    /// The token endpoint, with the tenant's id in the place of the tenant of the settings.
    fn token_url(&self) -> Url {
        let mut url = self.shared.provider.token_endpoint.clone();
        if let Some(tenant) = &self.tenant {
            let rest = url.path().trim_start_matches('/').split_once('/').map(|(_, rest)| rest.to_owned());
            url.set_path(&format!("/{tenant}/{}", rest.unwrap_or_default()));
        }
        url
    }

    fn tokens(
        &self,
        answer: TokenAnswer,
        requested: &Scopes,
        identity: Option<IdentityClaims>,
        account: Option<&HomeAccountId>,
    ) -> Result<TokenResponse, UnusableAnswer> {
        let named = answer.home_account_id(identity.as_ref()).or_else(|| account.cloned());
        let received_at = self.clock().now();
        let expires_in = answer.lifetime();
        let expires_on = received_at.checked_add(expires_in).unwrap_or(Timestamp::MAX);
        Ok(TokenResponse {
            home_account_id: named.ok_or(UnusableAnswer::NoAccount)?,
            environment: self.environment().clone(),
            client_id: self.client_id().clone(),
            realm: self.realm(identity.as_ref()),
            authority_type: self.authority_type(),
            scopes: answer.scopes(&requested.to_string()),
            access_token: AccessToken::new(answer.access_token, expires_on),
            expires_in,
            ext_expires_in: answer.ext_expires_in,
            refresh_in: answer.refresh_in,
            refresh_token: answer.refresh_token,
            refresh_token_expires_in: answer.refresh_token_expires_in,
            family_id: answer.foci,
            id_token: answer.id_token,
            client_info: answer.client_info,
            identity,
            assertion_hash: None,
            received_at,
        })
    }

    fn realm(&self, identity: Option<&IdentityClaims>) -> String {
        let tenant = identity.and_then(|identity| identity.tenant_id.as_ref()).or(self.tenant_id());
        match tenant {
            Some(tenant) => tenant.as_str().to_owned(),
            None => first_segment(self.issuer()),
        }
    }

    fn authority_type(&self) -> &'static str {
        match self.kind() {
            ProviderKind::Entra => "MSSTS",
            ProviderKind::Generic => "Generic",
        }
    }
}

/// What MSAL takes for the tenant of an authority that is not Microsoft's.
fn first_segment(issuer: &str) -> String {
    let url = Url::parse(issuer).ok();
    let segment = url.as_ref().and_then(|url| url.path_segments()?.next());
    segment.unwrap_or_default().to_owned()
}
