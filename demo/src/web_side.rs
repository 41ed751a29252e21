//! The web app of the demo: signs users in as a browser would, and keeps their tokens through the adapter.

use std::sync::Arc;

use anyhow::Context as _;
use common::account::CacheKey;
use common::event::{EventSource, UsernamePolicy};
use common::identity::{
    Authority, AuthorizationOptions, AuthorizationResponse, Credential, IdentityClient, ProviderSettings, Scopes,
    SignedIn,
};
use common::token_cache::{Expiry, TokenCacheStore};
use indicatif::ProgressBar;
use producer::adapter::{AdapterSettings, TokenCacheAdapter};
use reqwest::header::LOCATION;
use testkit::identity_provider::{Client, IdentityProvider, Options, User};
use tokio::task::JoinSet;
use url::Url;
use uuid::Uuid;

/// How many users sign in at once.
const CONCURRENT_SIGN_INS: usize = 16;
const REDIRECT_URI: &str = "http://127.0.0.1:1/signed-in";
const SCOPES: &str = "User.Read";

/// Users, their identity provider, and the web app they sign in to.
pub(crate) struct WebSide {
    provider: IdentityProvider,
    client: IdentityClient,
    adapter: TokenCacheAdapter,
    browser: reqwest::Client,
    usernames: Vec<String>,
    /// A tenant that no other run has, so that runs on shared servers can be told apart.
    pub(crate) tenant_id: String,
}

/// What the web side did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WebReport {
    pub(crate) users: u64,
    /// Each emitted its event with it.
    pub(crate) cache_writes: u64,
}

impl WebSide {
    pub(crate) async fn start(
        users: u32,
        store: Arc<dyn TokenCacheStore>,
        policy: UsernamePolicy,
    ) -> anyhow::Result<Self> {
        let tenant_id = Uuid::new_v4().to_string();
        let provider = IdentityProvider::start(Options::default()).await?;
        let usernames: Vec<String> = (1..=users).map(|number| format!("user{number}@contoso.example")).collect();
        let registered =
            usernames.iter().map(|name| User::new(&tenant_id, name, name.split('@').next().unwrap_or(name)));
        provider.register_users(registered);
        let client = Self::register(&provider, &tenant_id).await?;
        let mut settings = AdapterSettings::new(EventSource::new("/apps/demo")?);
        settings.usernames = policy;
        let adapter = TokenCacheAdapter::new(store, settings);
        let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { provider, client, adapter, browser, usernames, tenant_id })
    }

    async fn register(provider: &IdentityProvider, tenant_id: &str) -> anyhow::Result<IdentityClient> {
        let (id, secret) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        provider.register_client(Client::confidential(&id, &secret).redirect_uri(REDIRECT_URI));
        let authority: Authority = provider.base_url().parse()?;
        let mut settings = ProviderSettings::new(authority, id.parse()?, Credential::ClientSecret(secret.into()));
        settings.tenant = Some(tenant_id.parse()?);
        settings.redirect_uri = Some(Url::parse(REDIRECT_URI)?);
        settings.scopes = SCOPES.parse::<Scopes>()?;
        Ok(IdentityClient::discover(settings).await?)
    }

    /// Signs everybody in, then renews everybody's tokens once, as a web app does while its user is there.
    pub(crate) async fn sign_everybody_in(self: &Arc<Self>, bar: &ProgressBar) -> anyhow::Result<WebReport> {
        let mut report = WebReport::default();
        let mut under_way = JoinSet::new();
        for number in 0..self.usernames.len() {
            if under_way.len() >= CONCURRENT_SIGN_INS {
                report.add(under_way.join_next().await.context("no sign-in is under way")??, bar)?;
            }
            let web = self.clone();
            under_way.spawn(async move { web.visit(&web.usernames[number]).await });
        }
        while let Some(done) = under_way.join_next().await {
            report.add(done?, bar)?;
        }
        Ok(report)
    }

    /// One user's visit: auth code grant, cache write, refresh grant, cache write. Says how many writes there were.
    async fn visit(&self, username: &str) -> anyhow::Result<u64> {
        let signed_in = self.sign_in(username).await?;
        let key = CacheKey::new(signed_in.tokens.home_account_id.as_str())?;
        self.adapter.save(&key, &signed_in.tokens, Expiry::default()).await?;
        let refresh_token = signed_in.tokens.refresh_token.clone().context("the provider gave no refresh token")?;
        let renewed =
            self.client.refresh(&refresh_token, &signed_in.tokens.home_account_id, self.client.scopes()).await?;
        self.adapter.save(&key, &renewed, Expiry::default()).await?;
        Ok(2)
    }

    async fn sign_in(&self, username: &str) -> anyhow::Result<SignedIn> {
        let options = AuthorizationOptions { login_hint: Some(username.to_owned()), ..AuthorizationOptions::default() };
        let request = self.client.authorization_request(&options)?;
        let answer = self.browser.get(request.url).send().await?;
        let location = answer.headers().get(LOCATION).context("the provider did not send the browser back")?;
        let response = response_in(&Url::parse(location.to_str()?)?);
        Ok(self.client.redeem(&response, &request.pending).await?)
    }

    /// The app's client, which its worker shares.
    pub(crate) fn client(&self) -> &IdentityClient {
        &self.client
    }

    /// Whether the provider honours this access token now.
    pub(crate) fn is_live(&self, access_token: &str) -> bool {
        self.provider.validate(access_token).is_some()
    }
}

/// What the browser brings back from the provider.
fn response_in(location: &Url) -> AuthorizationResponse {
    let parameter =
        |name: &str| location.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    AuthorizationResponse {
        code: parameter("code").map(Into::into),
        error: parameter("error"),
        state: parameter("state"),
        iss: parameter("iss"),
    }
}

impl WebReport {
    fn add(&mut self, writes: anyhow::Result<u64>, bar: &ProgressBar) -> anyhow::Result<()> {
        self.cache_writes += writes?;
        self.users += 1;
        bar.inc(1);
        Ok(())
    }
}
