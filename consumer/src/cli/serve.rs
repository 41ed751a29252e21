//! `consumer serve`: the HTTP API, until told to stop.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use common::backends::Backends;
use common::event::{EventSource, UsernamePolicy};
use common::http_server::HttpBounds;
use common::identity::{IdentityClient, SilentOptions};
use common::index::{ClaimRates, DuePolicy};
use common::output;
use common::program::{Outcome, WrongUsage};
use common::settings::{IdentityProviderSettings, span};
use consumer::api::{self, Api, ApiSettings, ApiStores, TokenFile};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::health;

/// Answer the HTTP API: accounts and claims for workers in any language
#[derive(Args)]
pub(super) struct Serve {
    /// Where to listen; put a proxy that does TLS before anything but loopback
    #[arg(long, env = "API_LISTEN", default_value = "127.0.0.1:8090", value_name = "ADDRESS")]
    api_listen: SocketAddr,
    /// Who may ask: a line for each token, as `consumer api-token new` makes them; read again when it changes
    #[arg(long, env = "API_TOKENS_FILE", value_name = "FILE")]
    api_tokens_file: PathBuf,
    /// Answer /livez, /readyz and /metrics there, such as 127.0.0.1:9466
    #[arg(long, env = "API_HEALTH_LISTEN", value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
    /// How many requests a second each token is good for; a second's worth may come at once
    #[arg(long, env = "API_RATE", default_value = "100", value_name = "N")]
    api_rate: NonZeroU32,
    /// How many requests may be under way at once; one more is sent away with 503
    #[arg(long, env = "API_CONCURRENCY", default_value_t = 256, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    api_concurrency: u16,
    /// How long one request may take
    #[arg(long, env = "API_REQUEST_TIME", default_value = "30s", value_parser = some_time, value_name = "DURATION")]
    api_request_time: Duration,
    /// How long a shutdown waits for the requests under way
    #[arg(long, env = "API_SHUTDOWN_GRACE", default_value = "20s", value_parser = span, value_name = "DURATION")]
    api_shutdown_grace: Duration,
    /// The most accounts of one tenant that are claimed per minute, over all workers, which are set alike
    #[arg(long, env = "WORKER_RATE_PER_TENANT", value_name = "N")]
    rate_per_tenant: Option<NonZeroU32>,
    /// The most accounts that are claimed per minute, over all workers, which are set alike
    #[arg(long, env = "WORKER_RATE", value_name = "N")]
    rate: Option<NonZeroU32>,
    /// Hand users' access tokens out, to tokens of the scope `token` that hold a claim
    #[arg(long, env = "API_HAND_OUT_TOKENS")]
    hand_out_tokens: bool,
    /// The `source` of the events it emits
    #[arg(long, env = "API_SOURCE", default_value = "/consumer/api", value_name = "TEXT")]
    api_source: EventSource,
    #[command(flatten)]
    provider: IdentityProviderSettings,
}

/// What makes an account due has to be refreshed: a token that expires within the horizon is not valid for long enough.
async fn horizon(backends: &Backends) -> anyhow::Result<Duration> {
    let generations = backends.index_generations().await?;
    let live = generations.generations().await?.live;
    let policy = generations.due_policy(live, &DuePolicy::default()).await?;
    let horizon = Duration::from_secs(policy.horizon_seconds.unwrap_or_default().into());
    Ok(horizon.max(SilentOptions::default().min_remaining))
}

fn some_time(text: &str) -> Result<Duration, String> {
    let time = span(text).map_err(|error| error.to_string())?;
    (!time.is_zero()).then_some(time).ok_or_else(|| "give more than 0s".to_owned())
}

impl Serve {
    pub(super) async fn run(
        self,
        backends: &Backends,
        usernames: UsernamePolicy,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Outcome> {
        let tokens = TokenFile::open(self.api_tokens_file.clone())
            .map_err(|error| WrongUsage(format!("--api-tokens-file (API_TOKENS_FILE): {error}")))?;
        let listener = TcpListener::bind(self.api_listen)
            .await
            .with_context(|| format!("the API cannot listen on {}", self.api_listen))?;
        let client = match self.hand_out_tokens {
            true => Some(IdentityClient::discover(self.provider.provider()?).await?),
            false => None,
        };
        let stores = ApiStores {
            index: backends.index().await?,
            claims: backends.claims().await?,
            cache: backends.token_cache().await?,
            client,
        };
        let api = Api::new(stores, &tokens, self.settings(usernames, horizon(backends).await?), shutdown.clone());
        let _health = match self.health_listen {
            Some(address) => Some(health::listen(address, Arc::new(api.clone()), shutdown).await?),
            None => None,
        };
        output::line(&format!("http://{}", listener.local_addr()?));
        api::run(listener, api, tokens).await;
        Ok(Outcome::Done)
    }

    fn settings(&self, usernames: UsernamePolicy, min_valid: Duration) -> ApiSettings {
        ApiSettings {
            rate: self.api_rate,
            concurrency: usize::from(self.api_concurrency),
            claim_rates: ClaimRates { per_tenant: self.rate_per_tenant, overall: self.rate },
            min_valid,
            request_time: self.api_request_time,
            http: HttpBounds { shutdown_grace: self.api_shutdown_grace, ..HttpBounds::default() },
            ..ApiSettings::new(usernames, self.api_source.clone())
        }
    }
}
