//! Publishing with confirms: one task owns the channel, because confirms go astray where several tasks share one.
//!
//! Everything is published as mandatory. A broker that has just started takes connections before it has its bindings
//! back, that of the alternate exchange among them, and confirms what it drops in that moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered};
use futures_util::{FutureExt, StreamExt, poll};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Event};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backoff::Backoff;
use super::connection::{self, Connector};
use super::error;
use super::topology::open_channel;
use crate::backend::{BackendError, Trouble};
use crate::log::LogError;

/// Messages that wait for their confirm. A multiple ack looks through all of them, so more makes it slower.
const MAX_IN_FLIGHT: usize = 1_000;
/// Their bodies; while the broker blocks its publishers, these are what is kept.
const MAX_BYTES_IN_FLIGHT: usize = 32 * 1024 * 1024;
/// Messages that wait for the owner; their callers hold them anyway.
const MAX_WAITING: usize = 16;
/// How long a caller waits for its confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that is not blocked and confirms nothing for so long is given up.
const STALL: Duration = Duration::from_secs(60);
/// How long lapin may take to say why a connection, and each message on it, has failed.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long confirms are awaited at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// One message.
pub(super) struct Message {
    pub(super) routing_key: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// What the broker said to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Confirmed,
    Nacked,
    /// This message, or another one of those in flight with it, found no queue.
    Returned,
}

type Answer = oneshot::Sender<Result<Outcome, LogError>>;

struct Request {
    message: Message,
    answer: Answer,
}

/// Hands messages to the task that publishes them.
#[derive(Debug)]
pub(super) struct Publisher {
    address: String,
    requests: mpsc::Sender<Request>,
    blocked: Arc<AtomicBool>,
    losses: Arc<AtomicU64>,
}

impl Publisher {
    /// Starts the task, which publishes to `exchange`. It connects at the first message, and ends when `stop` is
    /// cancelled or the publisher dropped.
    pub(super) fn start(
        connector: Arc<Connector>,
        role: &'static str,
        exchange: &'static str,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (requests, incoming) = mpsc::channel(MAX_WAITING);
        let address = connector.address().to_owned();
        let (blocked, losses) = (Arc::default(), Arc::default());
        let publisher = Self { address, requests, blocked: Arc::clone(&blocked), losses: Arc::clone(&losses) };
        let owner = Owner { connector, role, exchange, incoming, stop, blocked, losses, backoff: Backoff::new() };
        tasks.spawn(owner.run());
        publisher
    }

    /// How many connections were given up, whether something was in flight or not.
    pub(super) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// Publishes `messages` in order and gives what the broker said to each.
    ///
    /// A message whose caller gave up waiting stays in flight until the broker settles it.
    pub(super) async fn publish(&self, messages: Vec<Message>) -> Result<Vec<Outcome>, LogError> {
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        let outcomes = timeout_at(deadline, async {
            let mut answers = Vec::with_capacity(messages.len());
            for message in messages {
                answers.push(self.hand_over(message).await?);
            }
            let mut outcomes = Vec::with_capacity(answers.len());
            for answer in answers {
                outcomes.push(answer.await.map_err(|_| self.cut_off())??);
            }
            Ok(outcomes)
        });
        outcomes.await.unwrap_or_else(|_| Err(self.late()))
    }

    async fn hand_over(&self, message: Message) -> Result<oneshot::Receiver<Result<Outcome, LogError>>, LogError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { message, answer }).await.map_err(|_| self.closed())?;
        Ok(answered)
    }

    fn unavailable(&self, message: &str) -> LogError {
        BackendError::plain(Trouble::Unavailable, &self.address, message).into()
    }

    fn closed(&self) -> LogError {
        self.unavailable("the log was closed")
    }

    fn cut_off(&self) -> LogError {
        self.unavailable("the connection to RabbitMQ failed before it confirmed")
    }

    fn late(&self) -> LogError {
        if self.blocked.load(Ordering::Relaxed) {
            return self
                .unavailable("RabbitMQ is short of memory or disk and takes no messages for now; look at its alarms");
        }
        self.unavailable("RabbitMQ did not confirm in time")
    }
}

/// The task's side.
struct Owner {
    connector: Arc<Connector>,
    role: &'static str,
    exchange: &'static str,
    incoming: mpsc::Receiver<Request>,
    stop: CancellationToken,
    blocked: Arc<AtomicBool>,
    losses: Arc<AtomicU64>,
    backoff: Backoff,
}

impl Owner {
    async fn run(mut self) {
        while let Some(request) = self.next_request().await {
            match self.open_line().await {
                Ok(line) => self.serve(line, request).await,
                Err(error) => self.refuse(request, error),
            }
        }
    }

    async fn next_request(&mut self) -> Option<Request> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            request = self.incoming.recv() => request,
        }
    }

    async fn open_line(&mut self) -> Result<Line, LogError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(BackendError::plain(
                Trouble::Unavailable, self.connector.address(), "the log was closed").into()),
            line = async {
                self.backoff.wait().await;
                Line::open(&self.connector, self.role, self.exchange).await
            } => line,
        }
    }

    /// Tells everybody who waits that there is no connection.
    fn refuse(&mut self, first: Request, error: LogError) {
        self.backoff.failed();
        tracing::warn!(%error, "rabbitmq cannot be published to");
        let (trouble, message) = match &error {
            LogError::Backend(error) => (error.trouble, error.message.clone()),
            error => (Trouble::Unavailable, error.to_string()),
        };
        // A caller that is gone needs no answer.
        let _ = first.answer.send(Err(error));
        while let Ok(request) = self.incoming.try_recv() {
            let error = BackendError::plain(trouble, self.connector.address(), message.clone());
            let _ = request.answer.send(Err(error.into()));
        }
    }

    /// Publishes over one connection until it fails or all is done.
    async fn serve(&mut self, mut line: Line, first: Request) {
        self.blocked.store(false, Ordering::Relaxed);
        line.send(first).await;
        let mut until = None;
        while until.is_none() || !line.in_flight.is_empty() {
            let (patience, takes_more) = (line.patience(until), until.is_none() && line.has_room());
            let work_on = tokio::select! {
                Some(settled) = line.in_flight.next() => self.settle(&mut line, settled),
                request = self.incoming.recv(), if takes_more => {
                    match request {
                        Some(request) => line.send(request).await,
                        None => until = Some(Instant::now() + DRAIN_TIMEOUT),
                    }
                    true
                }
                Some(event) = line.events.next() => self.note(&event),
                () = self.stop.cancelled(), if until.is_none() => {
                    until = Some(Instant::now() + DRAIN_TIMEOUT);
                    true
                }
                () = sleep_until(patience) => {
                    line.last_progress = Instant::now();
                    until.is_none() && (line.in_flight.is_empty() || self.blocked.load(Ordering::Relaxed))
                }
            };
            if !work_on {
                return self.give_up(line).await;
            }
        }
        connection::close(&line.connection).await;
    }

    fn settle(&mut self, line: &mut Line, settled: Settled) -> bool {
        line.bytes_in_flight -= settled.bytes;
        line.last_progress = Instant::now();
        let answer = self.outcome(settled.result);
        line.has_return |= matches!(answer, Ok(Outcome::Returned));
        let failed = answer.is_err() || line.has_return;
        if matches!(answer, Ok(Outcome::Confirmed)) {
            self.backoff.succeeded();
        }
        // The caller may have gone; the message is settled all the same.
        let _ = settled.answer.send(answer);
        !failed
    }

    fn outcome(&self, result: lapin::Result<Confirmation>) -> Result<Outcome, LogError> {
        let address = self.connector.address();
        match result {
            Ok(Confirmation::Ack(None)) => Ok(Outcome::Confirmed),
            Ok(Confirmation::Ack(Some(_))) => Ok(Outcome::Returned),
            Ok(Confirmation::Nack(_)) => Ok(Outcome::Nacked),
            Ok(Confirmation::NotRequested) => {
                let message = "RabbitMQ was not asked for confirms";
                Err(BackendError::plain(Trouble::Unavailable, address, message).into())
            }
            Err(error) => Err(error::operating(address, &format!("exchange {}", self.exchange), "publish", &error)),
        }
    }

    fn note(&self, event: &Event) -> bool {
        match event {
            Event::ConnectionBlocked(reason) => {
                self.blocked.store(true, Ordering::Relaxed);
                tracing::warn!(reason, "rabbitmq takes no messages for now");
            }
            Event::ConnectionUnblocked => {
                self.blocked.store(false, Ordering::Relaxed);
                tracing::info!("rabbitmq takes messages again");
            }
            Event::Error(error) => {
                tracing::debug!(%error, "the connection for publishing failed");
                return false;
            }
            _ => {}
        }
        true
    }

    /// Answers those that lapin has an answer for; the others learn that they were cut off as their answers drop.
    ///
    /// Lapin gives a returned message to whichever confirm comes next, so after one of them no confirm is believed.
    async fn give_up(&mut self, mut line: Line) {
        self.losses.fetch_add(1, Ordering::Relaxed);
        self.backoff.failed();
        self.blocked.store(false, Ordering::Relaxed);
        let (in_flight, has_return) = (line.in_flight.len(), line.has_return);
        tracing::warn!(in_flight, has_return, "the connection for publishing was given up");
        let until = Instant::now() + LAST_WORDS;
        while let Ok(Some(settled)) = timeout_at(until, line.in_flight.next()).await {
            let answer = match self.outcome(settled.result) {
                Ok(_) if line.has_return => Ok(Outcome::Returned),
                answer => answer,
            };
            let _ = settled.answer.send(answer);
        }
        if line.has_return {
            connection::close(&line.connection).await;
        }
    }
}

/// A message the broker, or the connection's end, has settled.
struct Settled {
    answer: Answer,
    bytes: usize,
    result: lapin::Result<Confirmation>,
}

/// A connection with its confirm channel and what is in flight on it.
struct Line {
    channel: Channel,
    exchange: &'static str,
    in_flight: FuturesUnordered<BoxFuture<'static, Settled>>,
    bytes_in_flight: usize,
    last_progress: Instant,
    /// Whether a message came back because no queue took it.
    has_return: bool,
    events: BoxStream<'static, Event>,
    // Last, so that the channel is closed before it.
    connection: Connection,
}

impl Line {
    async fn open(connector: &Connector, role: &str, exchange: &'static str) -> Result<Self, LogError> {
        let connection = connector.connect(role).await?;
        let events = connection.events_listener().boxed();
        let channel = open_channel(connector.address(), &connection).await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        match timeout(CONFIRM_TIMEOUT, confirms).await {
            Ok(done) => {
                done.map_err(|e| error::operating(connector.address(), "the channel", "ask for confirms", &e))?;
            }
            Err(_) => return Err(error::late(connector.address(), "turn on confirms").into()),
        }
        Ok(Self {
            channel,
            exchange,
            in_flight: FuturesUnordered::new(),
            bytes_in_flight: 0,
            last_progress: Instant::now(),
            has_return: false,
            events,
            connection,
        })
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < MAX_IN_FLIGHT && self.bytes_in_flight < MAX_BYTES_IN_FLIGHT
    }

    /// When to look whether anything moves, or to stop waiting.
    fn patience(&self, until: Option<Instant>) -> Instant {
        until.unwrap_or(self.last_progress + STALL)
    }

    /// Publishes a message, unless its caller has gone while it waited: nobody would learn of it.
    async fn send(&mut self, request: Request) {
        if request.answer.is_closed() {
            return;
        }
        if self.in_flight.is_empty() {
            self.last_progress = Instant::now();
        }
        self.bytes_in_flight += request.message.body.len();
        let mut publishing = publish(self.channel.clone(), self.exchange, request).boxed();
        // The first poll takes the delivery tag and queues the frames, so it must come in the order of the messages.
        match poll!(&mut publishing) {
            std::task::Poll::Ready(settled) => self.in_flight.push(std::future::ready(settled).boxed()),
            std::task::Poll::Pending => self.in_flight.push(publishing),
        }
    }
}

async fn publish(channel: Channel, exchange: &'static str, request: Request) -> Settled {
    let Request { message, answer } = request;
    let Message { routing_key, properties, body } = message;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    #[expect(clippy::disallowed_methods, reason = "this is the one place that publishes")]
    let published = channel.basic_publish(exchange.into(), routing_key.into(), options, &body, properties).await;
    let result = match published {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    Settled { answer, bytes: body.len(), result }
}
