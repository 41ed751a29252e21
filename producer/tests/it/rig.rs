//! An outbox and a log of a test's own, on files or on servers.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use common::account::{CacheKey, ClientId, Environment, HomeAccountId};
use common::backend::TlsFiles;
use common::event::{AccountDetails, Activity, EventDraft, EventSource, Properties};
use common::log::{ActivityLog, Position, RabbitMqLog, RabbitMqOptions, SqliteLog, TopologyOptions};
use common::redis_pool::RedisPool;
use common::sqlite::Database;
use common::token_cache::{Outbox, RedisTokenCache, RedisTokenCacheOptions, SqliteTokenCache, SqliteTokenCacheOptions};
use producer::relay::{Relay, RelayReport, RelaySettings, RelayStatus};
use tempfile::TempDir;
use testkit::servers::{KeyPrefix, Vhost};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The bound of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An outbox and a log, and what they live in.
pub(crate) struct Rig {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) log: Arc<dyn ActivityLog>,
    _home: Box<dyn Any>,
}

impl Rig {
    /// Both in one SQLite file, with three partitions.
    pub(crate) async fn embedded() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}/all.db", folder.path().display());
        let database = Database::open(&url.parse().unwrap()).await.unwrap();
        let outbox = SqliteTokenCache::open(database.clone(), SqliteTokenCacheOptions::default()).await.unwrap();
        let log = SqliteLog::open(database, 3).await.unwrap();
        Self { outbox: Arc::new(outbox), log: Arc::new(log), _home: Box::new(folder) }
    }

    /// On the shared servers, in a vhost and under a prefix of its own.
    pub(crate) async fn on_servers(partitions: u32) -> Self {
        let vhost = Vhost::fresh().await;
        let log = rabbitmq_log(&vhost.amqp_url(), partitions).await;
        let rig = Self::with_log(log).await;
        Self { _home: Box::new((rig._home, vhost)), ..rig }
    }

    /// The outbox on the shared Redis, and this log.
    pub(crate) async fn with_log(log: Arc<dyn ActivityLog>) -> Self {
        let prefix = KeyPrefix::fresh().await;
        let pool = RedisPool::new(&prefix.redis_url().parse().unwrap(), &TlsFiles::default(), 4).unwrap();
        let options = RedisTokenCacheOptions { instance_name: prefix.to_string(), ..RedisTokenCacheOptions::default() };
        let outbox = RedisTokenCache::open(pool, options).await.unwrap();
        Self { outbox: Arc::new(outbox), log, _home: Box::new(prefix) }
    }

    /// Puts `count` events into the outbox and says their ids.
    pub(crate) async fn fill(&self, count: usize) -> HashSet<String> {
        fill(&*self.outbox, count).await
    }

    /// Waits until everything is confirmed in the outbox.
    pub(crate) async fn drained(&self) {
        testkit::wait_until(PATIENCE, || async { self.outbox.backlog().await.unwrap().unconfirmed == 0 }).await;
    }

    /// How often each event is in the log.
    pub(crate) async fn in_log(&self) -> HashMap<String, usize> {
        in_log(&*self.log).await
    }

    pub(crate) async fn is_in_log(&self, ids: &HashSet<String>) -> bool {
        let found = self.in_log().await;
        ids.iter().all(|id| found.contains_key(id))
    }

    pub(crate) fn relay(&self, settings: RelaySettings) -> Running {
        Running::start(Arc::clone(&self.outbox), Arc::clone(&self.log), settings)
    }
}

/// The log of the broker at `url`, declared with `partitions`.
pub(crate) async fn rabbitmq_log(url: &str, partitions: u32) -> Arc<dyn ActivityLog> {
    let topology = TopologyOptions { partitions, ..TopologyOptions::default() };
    let options = RabbitMqOptions { topology, ..RabbitMqOptions::new(url.parse().unwrap()) };
    let log = RabbitMqLog::connect(&options).unwrap();
    log.declare().await.unwrap();
    Arc::new(log)
}

pub(crate) async fn fill(outbox: &dyn Outbox, count: usize) -> HashSet<String> {
    let mut ids = HashSet::new();
    for number in 0..count {
        let draft = draft(number);
        outbox.append(&draft).await.unwrap();
        ids.insert(draft.id.as_str().to_owned());
    }
    ids
}

pub(crate) async fn in_log(log: &dyn ActivityLog) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    for partition in 0..log.partitions().await.unwrap() {
        let bounds = log.bounds(partition).await.unwrap();
        let mut next = bounds.first;
        let mut reader = log.read(partition, Position::First).await.unwrap();
        while next < bounds.next {
            let messages = reader.next(100, PATIENCE).await.unwrap();
            assert!(!messages.is_empty(), "partition {partition} ends at {}, and {next} did not come", bounds.next);
            for message in messages {
                next = message.offset + 1;
                for event in message.events {
                    *found.entry(event.unwrap().id.as_str().to_owned()).or_default() += 1;
                }
            }
        }
    }
    found
}

fn draft(number: usize) -> EventDraft {
    let key = format!("{number:032x}.9188040d-6c67-4c5b-b112-36a304b66dad");
    let details = AccountDetails {
        home_account_id: HomeAccountId::new(key.as_str()).unwrap(),
        object_id: None,
        tenant_id: None,
        environment: Environment::new("login.microsoftonline.com").unwrap(),
        client_id: ClientId::new("6731de76-14a6-49ae-97bc-6eba6914391e").unwrap(),
        username: None,
        access_token_expires_on: Some(1_795_400_000),
        refresh_token_expires_on: None,
        has_refresh_token: true,
        properties: Properties::default(),
    };
    let source = EventSource::new("/apps/test").unwrap();
    EventDraft::new(source, CacheKey::new(key).unwrap(), Activity::UserActivity(details))
}

/// A relay at work.
pub(crate) struct Running {
    pub(crate) status: watch::Receiver<RelayStatus>,
    shutdown: CancellationToken,
    task: JoinHandle<RelayReport>,
}

impl Running {
    pub(crate) fn start(outbox: Arc<dyn Outbox>, log: Arc<dyn ActivityLog>, settings: RelaySettings) -> Self {
        let relay = Relay::new(outbox, log, settings);
        let shutdown = CancellationToken::new();
        Self { status: relay.status(), task: tokio::spawn(relay.run(shutdown.clone())), shutdown }
    }

    /// Waits until the relay says so of itself.
    pub(crate) async fn until(&mut self, what: impl FnMut(&RelayStatus) -> bool) -> RelayStatus {
        if let Ok(status) = tokio::time::timeout(PATIENCE, self.status.wait_for(what)).await {
            return status.unwrap().clone();
        }
        panic!("the relay did not come to it in time: {:#?}", *self.status.borrow())
    }

    pub(crate) async fn stop(self) -> RelayReport {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the relay did not stop in time").unwrap()
    }

    /// As a crash does it.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err());
    }
}
