//! `producer web`: the reference web app, until told to stop.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Args;
use common::backends::{Backends, TokenCache};
use common::event::{EventSource, UsernamePolicy};
use common::identity::{HttpSettings, IdentityClient};
use common::output;
use common::program::{Outcome, WrongUsage};
use common::settings::IdentityProviderSettings;
use producer::adapter::{AdapterSettings, TokenCacheAdapter};
use producer::relay::{Relay, RelayReport, RelaySettings};
use producer::web::{self, ApiSetupError, PublicUrl, WebApp, WebSettings};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Sign users in, keep their tokens through the adapter, and act for them on a page
#[derive(Args)]
pub(super) struct Web {
    /// Where to listen; put a proxy that does TLS before anything but loopback
    #[arg(long, env = "WEB_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where browsers find the app; /signed-in under it is the redirect URI [default: http://localhost and the port]
    #[arg(long, env = "WEB_PUBLIC_URL", value_name = "URL")]
    public_url: Option<PublicUrl>,
    /// The API to call with the user's token [default: the provider's userinfo endpoint]
    #[arg(long, env = "WEB_API_URL", value_name = "URL")]
    api_url: Option<Url>,
    /// The `source` of the app's events
    #[arg(long, default_value = "/apps/web", env = "EVENT_SOURCE")]
    source: EventSource,
    /// Move the events to the log too, as `producer relay` does
    #[arg(long)]
    relay: bool,
    #[command(flatten)]
    provider: IdentityProviderSettings,
}

impl Web {
    pub(super) async fn run(
        self,
        backends: &Backends,
        usernames: UsernamePolicy,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Outcome> {
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("the web app cannot listen on {}", self.listen))?;
        let public_url = self.public_url(listener.local_addr()?.port())?;
        let cache = backends.token_cache().await?;
        let relay = if self.relay { Some(start_relay(backends, &cache, &shutdown).await?) } else { None };
        let app = self.app(public_url.clone(), cache, usernames).await?;
        output::line(&format!("{public_url}"));
        web::run(listener, app, shutdown.clone()).await;
        shutdown.cancel();
        if let Some(relay) = relay {
            relay.await?;
        }
        Ok(Outcome::Done)
    }

    /// Entra ID lets `http` redirect URIs be registered for `localhost` alone, so that is the name by default.
    fn public_url(&self, port: u16) -> anyhow::Result<PublicUrl> {
        match &self.public_url {
            Some(url) => Ok(url.clone()),
            None => Ok(format!("http://localhost:{port}").parse()?),
        }
    }

    async fn app(&self, url: PublicUrl, cache: TokenCache, usernames: UsernamePolicy) -> anyhow::Result<WebApp> {
        let mut provider = self.provider.provider()?;
        provider.redirect_uri = Some(url.redirect_uri());
        let http: HttpSettings = provider.http.clone();
        let client = IdentityClient::discover(provider).await?;
        let adapter_settings = AdapterSettings { usernames, ..AdapterSettings::new(self.source.clone()) };
        let adapter = TokenCacheAdapter::new(cache.store, adapter_settings);
        let settings = WebSettings { api_url: self.api_url.clone(), ..WebSettings::new(url) };
        WebApp::new(client, adapter, cache.refresh_lock, &http, settings).map_err(|error| match error {
            ApiSetupError::InTheClear => WrongUsage(format!("--api-url (WEB_API_URL): {error}")).into(),
            ApiSetupError::Http(_) => error.into(),
        })
    }
}

async fn start_relay(
    backends: &Backends,
    cache: &TokenCache,
    shutdown: &CancellationToken,
) -> anyhow::Result<JoinHandle<RelayReport>> {
    let relay = Relay::new(cache.outbox.clone(), backends.log().await?.log, RelaySettings::default());
    Ok(tokio::spawn(relay.run(shutdown.clone())))
}
