//! The log on RabbitMQ: one stream per partition, written with publisher confirms, read with manual acks.
//!
//! Connections are made when they are first needed, so a broker that is down is no reason not to start. Publishing,
//! reading and dead letters each have a connection of their own: a broker that is short of memory blocks those that
//! publish, and only those.
//!
//! Beside an event that says that an account needs its user goes a signal ([`crate::event::reauthentication_signal`]), to
//! the same exchange and under a routing key of its own, which apps bind queues of their own by.

mod backoff;
mod bounds;
mod connection;
mod dead_letters;
mod error;
mod letter_round;
mod management;
mod names;
mod publisher;
mod reader;
mod tls;
mod topology;

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lapin::{BasicProperties, Connection};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::management::{RabbitMqManagement, retention_command};
pub use self::topology::{InvalidMaxAge, MaxAge, TopologyOptions, TopologyState};

use self::connection::Connector;
use self::publisher::{Message, Outcome, Publisher};
use self::reader::StreamReader;
use super::{ActivityLog, AppendError, Bounds, GrowError, Grown, LogError, LogReader, Position, grow};
use crate::backend::{BackendError, ServerUrl, TlsFiles, Trouble};
use crate::event::{EncodedEvents, SealedEvent, encode_batches, reauthentication_signal};

const PERSISTENT: u8 = 2;
/// Awaiting the last confirms and closing, for all connections together.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Where RabbitMQ is and how it is used.
#[derive(Debug, Clone)]
pub struct RabbitMqOptions {
    /// `amqp://` or `amqps://`, with user, password and vhost.
    pub url: ServerUrl,
    /// The files for `amqps://`.
    pub tls: TlsFiles,
    /// What the broker shows the connections as.
    pub connection_name: String,
    /// How many deliveries a reader lets the broker send ahead, 1 or more. They are held in memory.
    pub prefetch: u16,
    /// How [`RabbitMqLog::declare`] declares the streams; its partitions are taken to be there by a user who may
    /// not read the streams to count them.
    pub topology: TopologyOptions,
}

impl RabbitMqOptions {
    /// The options for `url`, with defaults for the rest.
    pub fn new(url: ServerUrl) -> Self {
        Self {
            url,
            tls: TlsFiles::default(),
            connection_name: "token-activity".to_owned(),
            prefetch: 200,
            topology: TopologyOptions::default(),
        }
    }
}

/// The log and its dead letters on RabbitMQ. Clones share the connections.
#[derive(Clone)]
pub struct RabbitMqLog {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Arc<Connector>,
    prefetch: u16,
    topology: TopologyOptions,
    publisher: OnceLock<Publisher>,
    dead_letter_publisher: OnceLock<Publisher>,
    /// One batch of dead letters at a time, so that a returned message is one of its own.
    parking: Mutex<()>,
    /// Lives as long as somebody reads.
    reading: Mutex<Weak<Connection>>,
    /// The partitions that were counted last.
    counted: std::sync::Mutex<Option<u32>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl fmt::Debug for RabbitMqLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RabbitMqLog({})", self.shared.connector.address())
    }
}

impl RabbitMqLog {
    /// A log that connects when it is first used.
    ///
    /// # Errors
    /// [`BackendError`]: the URL or the TLS files are wrong.
    pub fn connect(options: &RabbitMqOptions) -> Result<Self, BackendError> {
        let connector = Connector::new(&options.url, &options.tls, &options.connection_name)?;
        let shared = Shared {
            connector: Arc::new(connector),
            prefetch: options.prefetch.max(1),
            topology: options.topology.clone(),
            publisher: OnceLock::new(),
            dead_letter_publisher: OnceLock::new(),
            parking: Mutex::new(()),
            reading: Mutex::new(Weak::new()),
            counted: std::sync::Mutex::new(None),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Declares the exchanges, the queues and the streams that are not there yet. May run again and again.
    ///
    /// # Errors
    /// [`LogError::Mismatch`] where something of that name is of another kind, and the others of [`LogError`].
    pub async fn declare(&self) -> Result<(), LogError> {
        let connection = self.shared.connector.connect("topology").await?;
        let declared = topology::declare(self.shared.address(), &connection, &self.shared.topology).await;
        connection::close(&connection).await;
        declared
    }

    /// Adds partitions until there are `partitions`, while the log is in use. The user must be allowed to declare, and to
    /// read the streams.
    ///
    /// # Errors
    /// [`GrowError`].
    pub async fn grow(&self, partitions: u32) -> Result<Grown, GrowError> {
        let connection = self.shared.connector.connect("topology").await.map_err(LogError::from)?;
        let grown = self.grow_over(&connection, partitions).await;
        connection::close(&connection).await;
        grown
    }

    async fn grow_over(&self, connection: &Connection, partitions: u32) -> Result<Grown, GrowError> {
        let address = self.shared.address();
        let Some(before) = bounds::count_partitions(address, connection).await? else {
            let message = "this user may not count the partitions; take the one that declares the topology";
            return Err(LogError::from(BackendError::plain(Trouble::Refused, address, message)).into());
        };
        grow::check(before, partitions)?;
        let options = TopologyOptions { partitions, ..self.shared.topology.clone() };
        topology::grow(address, connection, before, &options).await?;
        self.shared.remember_partitions(partitions);
        Ok(Grown { before, partitions })
    }

    /// What is declared. Asks by name, which newer brokers let only those do who may declare.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn inspect(&self) -> Result<TopologyState, LogError> {
        let connection = self.shared.connector.connect("topology").await?;
        let state = topology::inspect(self.shared.address(), &connection).await;
        connection::close(&connection).await;
        state
    }

    /// Takes no more appends, awaits the confirms of those in flight, and closes; all within 20 seconds.
    /// Readers that are open stay open.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if timeout(CLOSE_TIMEOUT, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("rabbitmq did not let its connections be closed in time");
        }
    }

    /// Whether a partition is there as far as this process knows; asks where it does not.
    async fn check_partition(&self, asked: u32) -> Result<(), AppendError> {
        if asked < self.shared.known_partitions() {
            return Ok(());
        }
        match self.partitions().await? {
            partitions if asked < partitions => Ok(()),
            partitions => Err(AppendError::NoSuchPartition { asked, partitions }),
        }
    }
}

impl Shared {
    fn address(&self) -> &str {
        self.connector.address()
    }

    fn publisher(&self) -> &Publisher {
        self.publisher.get_or_init(|| self.start_publisher("publisher", names::EXCHANGE))
    }

    fn dead_letter_publisher(&self) -> &Publisher {
        self.dead_letter_publisher.get_or_init(|| self.start_publisher("dead letters", names::DEAD_LETTERS))
    }

    fn start_publisher(&self, role: &'static str, exchange: &'static str) -> Publisher {
        Publisher::start(Arc::clone(&self.connector), role, exchange, &self.tasks, self.stop.clone())
    }

    /// The connection for reading, shared by those who read at the time.
    async fn reading(&self) -> Result<Arc<Connection>, LogError> {
        let mut shared = self.reading.lock().await;
        if let Some(connection) = shared.upgrade().filter(|connection| connection.status().connected()) {
            return Ok(connection);
        }
        let connection = Arc::new(self.connector.connect("reader").await?);
        *shared = Arc::downgrade(&connection);
        Ok(connection)
    }

    fn known_partitions(&self) -> u32 {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.unwrap_or(0).max(self.topology.partitions)
    }

    fn remember_partitions(&self, partitions: u32) {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some(partitions);
    }
}

#[async_trait]
impl ActivityLog for RabbitMqLog {
    async fn partitions(&self) -> Result<u32, LogError> {
        let connection = self.shared.reading().await?;
        let counted = bounds::count_partitions(self.shared.address(), &connection).await?;
        let partitions = counted.unwrap_or(self.shared.topology.partitions);
        self.shared.remember_partitions(partitions);
        Ok(partitions)
    }

    async fn append_sealed(&self, partition: u32, events: &[SealedEvent]) -> Result<(), AppendError> {
        if events.is_empty() {
            return Ok(());
        }
        self.check_partition(partition).await?;
        let key = partition.to_string();
        let mut messages: Vec<Message> =
            encode_batches(events).into_iter().map(|encoded| message(key.clone(), encoded)).collect();
        let signals = events.iter().filter_map(reauthentication_signal);
        messages.extend(signals.map(|signal| message(names::REAUTHENTICATION_KEY.to_owned(), signal)));
        let outcomes = self.shared.publisher().publish(messages).await?;
        match outcomes.iter().find(|outcome| **outcome != Outcome::Confirmed) {
            None => Ok(()),
            Some(Outcome::Returned) => Err(AppendError::Unrouted),
            Some(_) => Err(AppendError::Nacked),
        }
    }

    async fn read(&self, partition: u32, position: Position) -> Result<Box<dyn LogReader>, LogError> {
        let connection = self.shared.reading().await?;
        Ok(Box::new(StreamReader::open(Arc::clone(&self.shared), connection, partition, position).await?))
    }

    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        let connection = self.shared.reading().await?;
        bounds::bounds(self.shared.address(), &connection, partition).await
    }

    fn append_connection_losses(&self) -> u64 {
        self.shared.publisher.get().map_or(0, Publisher::losses)
    }
}

fn message(routing_key: String, encoded: EncodedEvents) -> Message {
    let properties = BasicProperties::default()
        .with_content_type(encoded.content_type.into())
        .with_delivery_mode(PERSISTENT)
        .with_timestamp(now_in_seconds());
    Message { routing_key, properties, body: encoded.body }
}

fn now_in_seconds() -> u64 {
    Timestamp::now().as_second().unsigned_abs()
}
