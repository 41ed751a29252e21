//! One pipeline on real servers or on one file, for the tests: adapter, relay, projector and index.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use common::account::{CacheKey, TenantId, Username};
use common::backends::{Backends, Log, TokenCache};
use common::event::EventSource;
use common::index::{AccountActivity, ActivityStore, Filter, ListRequest, Query};
use common::log::ActivityLog;
use common::settings::Connections;
use consumer::projector::{Projector, ProjectorSettings};
use producer::adapter::{AdapterSettings, TokenCacheAdapter};
use producer::relay::{Relay, RelaySettings};
use testkit::servers::KeyPrefix;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    connections: Connections,
}

/// A running pipeline; it stops when it is dropped.
pub(crate) struct Pipeline {
    pub(crate) adapter: TokenCacheAdapter,
    pub(crate) index: Arc<dyn ActivityStore>,
    pub(crate) cache: TokenCache,
    pub(crate) log: Arc<dyn ActivityLog>,
    _stop: DropGuard,
}

/// The flags for the log of `broker`, with index and token cache under `prefix`.
pub(crate) fn on_servers(broker: &str, prefix: &KeyPrefix) -> Vec<String> {
    let (index, cache) = (format!("{}index:", prefix.as_str()), format!("{}cache:", prefix.as_str()));
    let redis = prefix.redis_url();
    [
        ["--log-url", broker],
        ["--index-url", redis],
        ["--cache-url", redis],
        ["--index-prefix", &index],
        ["--cache-instance-name", &cache],
    ]
    .as_flattened()
    .iter()
    .map(|word| (*word).to_owned())
    .collect()
}

/// The flags for one SQLite file.
pub(crate) fn in_file(path: &std::path::Path) -> Vec<String> {
    let url = format!("sqlite://{}", path.display());
    [["--log-url", &url], ["--index-url", &url], ["--cache-url", &url]]
        .as_flattened()
        .iter()
        .map(|word| (*word).to_owned())
        .collect()
}

/// What flags mean.
pub(crate) fn connections(flags: &[String]) -> Connections {
    Settings::parse_from(std::iter::once("test").chain(flags.iter().map(String::as_str))).connections
}

/// The program, which `cargo test --workspace` has built beside the demo.
pub(crate) fn consumer() -> std::path::PathBuf {
    let consumer = std::path::Path::new(env!("CARGO_BIN_EXE_demo")).with_file_name("consumer");
    assert!(consumer.is_file(), "{} is not there: run scripts/test", consumer.display());
    consumer
}

impl Pipeline {
    /// On the log of `broker`, with index and token cache under `prefix`.
    pub(crate) async fn on_servers(broker: &str, prefix: &KeyPrefix) -> Self {
        Self::on(&on_servers(broker, prefix)).await
    }

    /// On one SQLite file.
    pub(crate) async fn in_file(path: &std::path::Path) -> Self {
        Self::on(&in_file(path)).await
    }

    /// Where the flags say.
    pub(crate) async fn on(flags: &[String]) -> Self {
        Self::with(flags, RelaySettings::default(), ProjectorSettings::default()).await
    }

    /// The same, noticing at once that there are more partitions.
    pub(crate) async fn eager(flags: &[String]) -> Self {
        let look_every = Duration::from_millis(100);
        let relay = RelaySettings { look_every, ..RelaySettings::default() };
        Self::with(flags, relay, ProjectorSettings { look_every, ..ProjectorSettings::default() }).await
    }

    async fn with(flags: &[String], relay: RelaySettings, projector: ProjectorSettings) -> Self {
        let backends = Backends::new(connections(flags));
        backends.declare_log().await.unwrap();
        let Log { log, dead_letters } = backends.log().await.unwrap();
        let index = backends.index().await.unwrap();
        let cache = backends.token_cache().await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(Relay::new(cache.outbox.clone(), log.clone(), relay).run(stop.clone()));
        let projector = Projector::new(log.clone(), dead_letters, index.clone(), projector);
        tokio::spawn(projector.run(stop.clone()));
        let source = EventSource::new("/apps/test").unwrap();
        let adapter = TokenCacheAdapter::new(cache.store.clone(), AdapterSettings::new(source));
        Self { adapter, index, cache, log, _stop: stop.drop_guard() }
    }

    pub(crate) async fn get(&self, key: &str) -> Option<AccountActivity> {
        self.index.get(&CacheKey::new(key).unwrap()).await.unwrap()
    }

    pub(crate) async fn listed(&self) -> u64 {
        self.index.counts(None).await.unwrap().listed
    }

    pub(crate) async fn of_user(&self, username: &str) -> Vec<AccountActivity> {
        self.list(Query::User(Username::new(username).unwrap()), Filter::default()).await
    }

    pub(crate) async fn of_tenant(&self, tenant: &str) -> Vec<AccountActivity> {
        let filter = Filter { tenant: Some(TenantId::new(tenant).unwrap()), ..Filter::default() };
        self.list(Query::ActiveSince(jiff::Timestamp::UNIX_EPOCH), filter).await
    }

    async fn list(&self, query: Query, filter: Filter) -> Vec<AccountActivity> {
        let request = ListRequest { query, filter, limit: 1000, cursor: None };
        self.index.list(&request).await.unwrap().accounts
    }
}
