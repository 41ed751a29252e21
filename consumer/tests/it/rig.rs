//! A log and an index of a test's own, and the projector between them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::account::{CacheKey, ClientId, Environment, HomeAccountId, TenantId};
use common::backend::TlsFiles;
use common::event::{
    AccountDetails, AccountHint, AcquisitionFailure, Activity, ActivityEvent, EncodedEvents, EventDraft, EventSource,
    FailureReason, Properties, SINGLE_CONTENT_TYPE,
};
use common::index::{
    AccountActivity, ActivityStore, Claims, IndexGenerations, IndexUpkeep, PartitionLeases, RedisIndex,
    RedisPartitionLeases, SqliteIndex, SqlitePartitionLeases, fold,
};
use common::log::{
    ActivityLog, DeadLetters, ParkLetters, ParkedLetter, Position, RabbitMqLog, RabbitMqOptions, SqliteLog,
    TopologyOptions,
};
use common::redis_pool::RedisPool;
use common::retry::RetryDelays;
use common::sqlite::Database;
use consumer::projector::{
    PartitionStatus, Projector, ProjectorError, ProjectorReport, ProjectorSettings, ProjectorStatus,
};
use jiff::{SignedDuration, Timestamp};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use testkit::servers::{KeyPrefix, Vhost};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::program::Servers;

/// The bound of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// As it is set by default, but impatient.
pub(crate) fn settings() -> ProjectorSettings {
    let retry = RetryDelays {
        first: Duration::from_millis(5),
        longest: Duration::from_millis(50),
        refused: Duration::from_millis(200),
    };
    ProjectorSettings { look_every: Duration::from_millis(100), retry, ..ProjectorSettings::default() }
}

/// A log, its dead letters and an index, and what they live in.
pub(crate) struct Rig {
    pub(crate) log: Arc<dyn ActivityLog>,
    pub(crate) letters: Arc<dyn DeadLetters>,
    pub(crate) store: Arc<dyn ActivityStore>,
    pub(crate) generations: Arc<dyn IndexGenerations>,
    pub(crate) claims: Arc<dyn Claims>,
    pub(crate) raw: Raw,
}

/// The way of another program's messages into the log.
pub(crate) enum Raw {
    File { log: SqliteLog, database: Database, _folder: TempDir },
    Servers { vhost: Vhost, prefix: Option<KeyPrefix> },
}

impl Rig {
    /// All in one SQLite file.
    pub(crate) async fn embedded(partitions: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}/all.db", folder.path().display());
        let database = Database::open(&url.parse().unwrap()).await.unwrap();
        let log = SqliteLog::open(database.clone(), partitions).await.unwrap();
        let store = SqliteIndex::open(database.clone()).await.unwrap();
        Self {
            log: Arc::new(log.clone()),
            letters: Arc::new(log.clone()),
            store: Arc::new(store.clone()),
            generations: Arc::new(store.clone()),
            claims: Arc::new(store),
            raw: Raw::File { log, database, _folder: folder },
        }
    }

    /// On the shared servers, in a vhost and under a prefix of its own.
    pub(crate) async fn on_servers(partitions: u32) -> Self {
        let prefix = KeyPrefix::fresh().await;
        let store = redis_index(prefix.redis_url(), prefix.as_str()).await;
        Self::with_index(partitions, store, Some(prefix)).await
    }

    /// On the shared servers, with one stream that forgets within seconds.
    pub(crate) async fn on_servers_that_forget() -> Self {
        let prefix = KeyPrefix::fresh().await;
        let store = redis_index(prefix.redis_url(), prefix.as_str()).await;
        let topology =
            TopologyOptions { partitions: 1, max_age: Some("1s".parse().unwrap()), max_segment_bytes: Some(20_000) };
        Self::declared(topology, store, Some(prefix)).await
    }

    pub(crate) async fn with_index(partitions: u32, store: Arc<RedisIndex>, prefix: Option<KeyPrefix>) -> Self {
        Self::declared(TopologyOptions { partitions, ..TopologyOptions::default() }, store, prefix).await
    }

    async fn declared(topology: TopologyOptions, store: Arc<RedisIndex>, prefix: Option<KeyPrefix>) -> Self {
        let vhost = Vhost::fresh().await;
        let options = RabbitMqOptions { topology, ..RabbitMqOptions::new(vhost.amqp_url().parse().unwrap()) };
        let log = RabbitMqLog::connect(&options).unwrap();
        log.declare().await.unwrap();
        let log = Arc::new(log);
        Self {
            log: log.clone(),
            letters: log,
            store: store.clone(),
            generations: store.clone(),
            claims: store,
            raw: Raw::Servers { vhost, prefix },
        }
    }

    /// Appends events in messages of up to 10, in any partition, and some of them twice.
    pub(crate) async fn append_shuffled(&self, events: &[ActivityEvent], seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let partitions = self.log.partitions().await.unwrap();
        let mut left = events;
        while !left.is_empty() {
            let (message, rest) = left.split_at(random.random_range(1..=10).min(left.len()));
            for _ in 0..random.random_range(1..=2) {
                self.log.append(random.random_range(0..partitions), message).await.unwrap();
            }
            left = rest;
        }
    }

    /// Appends a body as another program would.
    pub(crate) async fn append_raw(&self, partition: u32, content_type: &'static str, body: &[u8]) {
        match &self.raw {
            Raw::File { log, .. } => {
                let body = EncodedEvents { content_type, body: body.to_vec(), events: 1 };
                log.append_bodies(partition, &[body]).await.unwrap();
            }
            Raw::Servers { vhost, .. } => publish(&vhost.amqp_url(), partition, content_type, body).await,
        }
    }

    pub(crate) async fn append_text(&self, partition: u32, body: &str) {
        self.append_raw(partition, SINGLE_CONTENT_TYPE, body.as_bytes()).await;
    }

    pub(crate) fn database(&self) -> Database {
        let Raw::File { database, .. } = &self.raw else { panic!("only the embedded log is a file") };
        database.clone()
    }

    /// The file that the embedded log and index are in.
    pub(crate) fn url(&self) -> String {
        self.database().address().to_owned()
    }

    /// The leases beside the index, as another process has them.
    pub(crate) async fn leases(&self) -> Arc<dyn PartitionLeases> {
        match &self.raw {
            Raw::File { database, .. } => Arc::new(SqlitePartitionLeases::open(database.clone()).await.unwrap()),
            Raw::Servers { prefix, .. } => {
                let prefix = prefix.as_ref().expect("an index under a prefix of its own");
                Arc::new(RedisPartitionLeases::new(redis_pool(prefix.redis_url()), prefix.as_str()))
            }
        }
    }

    /// Where a program finds log and index.
    pub(crate) fn servers(&self) -> Servers {
        match &self.raw {
            Raw::File { .. } => Servers { log: Some(self.url()), index: Some(self.url()), index_prefix: None },
            Raw::Servers { vhost, prefix } => {
                let prefix = prefix.as_ref().expect("an index under a prefix of its own");
                Servers {
                    log: Some(vhost.amqp_url()),
                    index: Some(prefix.redis_url().to_owned()),
                    index_prefix: Some(prefix.as_str().to_owned()),
                }
            }
        }
    }

    /// Forgets the embedded log's messages.
    pub(crate) async fn cut_log(&self) {
        let Raw::File { log, .. } = &self.raw else { panic!("only the embedded log is cut") };
        log.trim(Duration::ZERO).await.unwrap();
    }

    /// Lets retention reach all that is in partition 0 now, and appends `newer`: once or, where only what comes makes
    /// the log forget, until it has forgotten.
    pub(crate) async fn age_out(&self, newer: &[ActivityEvent]) {
        if let Raw::File { .. } = &self.raw {
            self.cut_log().await;
            return self.log.append(0, newer).await.unwrap();
        }
        let end = self.log.bounds(0).await.unwrap().next;
        let mut messages = newer.chunks(5).cycle();
        testkit::wait_until(PATIENCE, || {
            let message = messages.next().unwrap();
            async move {
                self.log.append(0, message).await.unwrap();
                match self.log.bounds(0).await {
                    Ok(bounds) => bounds.first >= end,
                    // RabbitMQ may fail the connection that opens a stream while a file of it is taken away.
                    Err(error) if error.is_transient() => false,
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
    }

    /// Gives the embedded log more partitions.
    pub(crate) async fn grow_log(&self, partitions: u32) {
        let Raw::File { database, .. } = &self.raw else { panic!("only the embedded log is grown") };
        SqliteLog::open(database.clone(), partitions).await.unwrap();
    }

    pub(crate) fn projector(&self, settings: ProjectorSettings) -> Running {
        Running::start(self.log.clone(), self.letters.clone(), self.store.clone(), settings)
    }

    /// The next offset of every partition of the log.
    pub(crate) async fn ends(&self) -> HashMap<u32, u64> {
        let mut ends = HashMap::new();
        for partition in 0..self.log.partitions().await.unwrap() {
            ends.insert(partition, self.log.bounds(partition).await.unwrap().next);
        }
        ends
    }

    /// Waits until everything that is in the log now is applied and the checkpoints say so.
    pub(crate) async fn projected(&self) {
        let ends = self.ends().await;
        testkit::wait_until(PATIENCE, || async {
            for (partition, end) in &ends {
                if self.checkpoint(*partition).await < *end {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// The generation that answers, as those who look after the index have it.
    pub(crate) async fn live(&self) -> Arc<dyn IndexUpkeep> {
        self.generations.generation(self.generations.generations().await.unwrap().live)
    }

    /// Makes exactly `with` of an account, as nothing that follows the log ever would.
    pub(crate) async fn tamper(&self, key: &CacheKey, with: Option<&AccountActivity>) {
        let live = self.live().await;
        let found = live.get(key).await.unwrap();
        assert_ne!(found.as_ref(), with);
        assert!(live.replace(found.as_ref(), with).await.unwrap());
    }

    pub(crate) async fn checkpoint(&self, partition: u32) -> u64 {
        self.store.checkpoint(partition).await.unwrap().map_or(0, |checkpoint| checkpoint.next_offset)
    }

    /// Holds the index against the fold of the whole log.
    pub(crate) async fn assert_index_is_fold_of_log(&self) {
        let events = self.good_events_of_log().await;
        let expected = fold(&events);
        assert!(!expected.is_empty());
        for (key, account) in &expected {
            let found = self.store.get(key).await.unwrap();
            assert_eq!(found.as_ref(), Some(account), "account {key}");
        }
        let listed = expected.values().filter(|account| account.is_listed()).count();
        assert_eq!(self.store.counts(None).await.unwrap().listed, u64::try_from(listed).unwrap());
    }

    async fn good_events_of_log(&self) -> Vec<ActivityEvent> {
        let mut events = Vec::new();
        for (partition, end) in self.ends().await {
            let mut next = 0;
            let mut reader = self.log.read(partition, Position::First).await.unwrap();
            while next < end {
                let messages = reader.next(100, PATIENCE).await.unwrap();
                assert!(!messages.is_empty(), "offset {next} of partition {partition} did not come");
                next = messages.last().unwrap().offset + 1;
                events.extend(messages.into_iter().flat_map(|message| message.events).flatten());
            }
        }
        let now = Timestamp::now();
        events.retain(|event| event.check_time(now).is_ok());
        events
    }

    pub(crate) async fn parked(&self) -> Vec<ParkedLetter> {
        self.letters.peek(1_000).await.unwrap()
    }
}

pub(crate) async fn redis_index(url: &str, prefix: &str) -> Arc<RedisIndex> {
    Arc::new(RedisIndex::open(redis_pool(url), prefix).await.unwrap())
}

fn redis_pool(url: &str) -> RedisPool {
    RedisPool::new(&url.parse().unwrap(), &TlsFiles::default(), 4).unwrap()
}

async fn publish(url: &str, partition: u32, content_type: &str, body: &[u8]) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let properties = BasicProperties::default().with_content_type(content_type.into());
    let (key, options) = (partition.to_string(), BasicPublishOptions::default());
    #[expect(clippy::disallowed_methods, reason = "this stands for another program")]
    let publishing =
        channel.basic_publish("tokencache.activity".into(), key.as_str().into(), options, body, properties);
    assert!(publishing.await.unwrap().await.unwrap().is_ack());
    connection.close(200, "bye".into()).await.unwrap();
}

/// Events of every kind about few accounts, of the last hour, in no order.
pub(crate) fn random_events(count: usize, accounts: usize, seed: u64) -> Vec<ActivityEvent> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random_event(random.random_range(0..accounts), &mut random)).collect()
}

fn random_event(account: usize, random: &mut StdRng) -> ActivityEvent {
    let details = details(account, random);
    let hint = AccountHint::from(&details);
    let reasons = [FailureReason::Throttled, FailureReason::Revoked, FailureReason::InteractionRequired];
    let reason = *reasons.choose(random).unwrap();
    let failure = AcquisitionFailure { reason, error: None, suberror: None, retry_after: None, account: hint.clone() };
    let activity = match random.random_range(0..10) {
        0 => Activity::Removed(hint),
        1..3 => Activity::AcquisitionFailed(failure),
        3..5 => Activity::Hydrated(details),
        _ => Activity::UserActivity(details),
    };
    let age = SignedDuration::from_micros(random.random_range(0..3_600_000_000));
    let key = CacheKey::new(format!("user-{account}.tenant")).unwrap();
    EventDraft::new(EventSource::new("/apps/test").unwrap(), key, activity).at(Timestamp::now() - age)
}

pub(crate) fn details(account: usize, random: &mut StdRng) -> AccountDetails {
    AccountDetails {
        home_account_id: HomeAccountId::new(format!("user-{account}.tenant")).unwrap(),
        object_id: None,
        tenant_id: Some(TenantId::new(format!("tenant-{}", account % 3)).unwrap()),
        environment: Environment::new("login.microsoftonline.com").unwrap(),
        client_id: ClientId::new("client").unwrap(),
        username: None,
        access_token_expires_on: Some(random.random_range(1_795_000_000..1_796_000_000)),
        refresh_token_expires_on: None,
        has_refresh_token: random.random(),
        properties: Properties::default(),
    }
}

/// A projector at work.
pub(crate) struct Running {
    pub(crate) status: watch::Receiver<ProjectorStatus>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<ProjectorReport, ProjectorError>>,
}

impl Running {
    pub(crate) fn start(
        log: Arc<dyn ActivityLog>,
        letters: Arc<dyn ParkLetters>,
        store: Arc<dyn ActivityStore>,
        settings: ProjectorSettings,
    ) -> Self {
        Self::of(Projector::new(log, letters, store, settings))
    }

    pub(crate) fn of(projector: Projector) -> Self {
        let shutdown = CancellationToken::new();
        Self { status: projector.status(), task: tokio::spawn(projector.run(shutdown.clone())), shutdown }
    }

    /// Waits until the projector says so of itself.
    pub(crate) async fn until(&mut self, what: impl FnMut(&ProjectorStatus) -> bool) -> ProjectorStatus {
        let status = tokio::time::timeout(PATIENCE, self.status.wait_for(what)).await;
        status.expect("the projector did not come to it in time").unwrap().clone()
    }

    /// Waits until the projector says so of one partition.
    pub(crate) async fn until_partition(
        &mut self,
        partition: u32,
        mut what: impl FnMut(&PartitionStatus) -> bool,
    ) -> PartitionStatus {
        let status = self.until(|status| status.partitions.get(&partition).is_some_and(&mut what)).await;
        status.partitions[&partition].clone()
    }

    pub(crate) async fn stop(self) -> ProjectorReport {
        self.shutdown.cancel();
        self.ended().await.unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(self) -> Result<ProjectorReport, ProjectorError> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the projector did not stop in time").unwrap()
    }

    /// As a crash does it.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err());
    }
}
