//! The log on RabbitMQ, in a vhost of each test's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::backend::Trouble;
use common::event::{
    AccountHint, AcquisitionFailure, Activity, ContractError, FailureReason, REAUTHENTICATION_REQUIRED, Refused,
};
use common::log::{
    ActivityLog, AppendError, Bounds, DeadLetter, DeadLetterError, DeadLetters, LetterQueue, LogError, LogReader,
    ParkLetters as _, Position, RabbitMqLog, RabbitMqOptions, TopologyOptions,
};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use testkit::conformance::log::{self, LogUnderTest, sample_events};
use testkit::fault_proxy::{FaultProxy, ProxyMode};
use testkit::servers::Vhost;
use testkit::wait_until;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

struct OnRabbitMq {
    log: RabbitMqLog,
    foreign: Foreign,
}

#[async_trait]
impl LogUnderTest for OnRabbitMq {
    fn log(&self) -> Arc<dyn ActivityLog> {
        Arc::new(self.log.clone())
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(self.log.clone())
    }

    async fn append_raw(&self, partition: u32, content_type: &'static str, body: &[u8]) {
        let properties = BasicProperties::default().with_content_type(content_type.into());
        self.foreign.publish("tokencache.activity", &partition.to_string(), body, properties).await;
    }
}

/// Another program.
struct Foreign {
    channel: Channel,
    _connection: Connection,
}

impl Foreign {
    async fn connect(vhost: &Vhost) -> Self {
        let connection = Connection::connect(&vhost.amqp_url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { channel, _connection: connection }
    }

    /// Publishes and awaits the confirm.
    async fn publish(&self, exchange: &str, routing_key: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        #[expect(clippy::disallowed_methods, reason = "this stands for another program")]
        let publishing = self.channel.basic_publish(exchange.into(), routing_key.into(), options, body, properties);
        assert!(publishing.await.unwrap().await.unwrap().is_ack());
    }

    async fn declare_queue(&self, name: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(name.into(), options, arguments).await.unwrap();
    }

    /// Declares a fanout exchange of the queue's name in front of it.
    async fn bind_fanout(&self, name: &str) {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default;
        self.channel.exchange_declare(name.into(), ExchangeKind::Fanout, options, none()).await.unwrap();
        self.channel
            .queue_bind(name.into(), name.into(), "".into(), QueueBindOptions::default(), none())
            .await
            .unwrap();
    }

    async fn delete_queue(&self, name: &str) {
        self.channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    async fn messages(&self, name: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap().message_count()
    }
}

fn options(url: &str, partitions: u32) -> RabbitMqOptions {
    let topology = TopologyOptions { partitions, ..TopologyOptions::default() };
    RabbitMqOptions { topology, ..RabbitMqOptions::new(url.parse().unwrap()) }
}

async fn declared(url: &str, partitions: u32) -> RabbitMqLog {
    let log = RabbitMqLog::connect(&options(url, partitions)).unwrap();
    log.declare().await.unwrap();
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_on_rabbitmq_conforms() {
    let vhost = Vhost::fresh().await;
    let log = declared(&vhost.amqp_url(), log::PARTITIONS).await;
    let subject = OnRabbitMq { log, foreign: Foreign::connect(&vhost).await };
    log::run_all(&subject).await;
    subject.log.close().await;
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_said_in_one_line_without_the_password() {
    let shared = testkit::servers::amqp_url().await;
    let [mut wrong_password, mut wrong_vhost, mut nobody] = [shared.clone(), shared.clone(), shared];
    wrong_password.set_password(Some("s3cret")).unwrap();
    wrong_vhost.set_path("nowhere");
    nobody.set_port(Some(1)).unwrap();
    let expected = [
        (wrong_password, Trouble::Refused, "refused the user or password"),
        (wrong_vhost, Trouble::Refused, "no vhost `nowhere`"),
        (nobody, Trouble::Unavailable, "nothing answers there"),
    ];
    for (url, trouble, text) in expected {
        let user = format!("'{}'", url.username());
        let log = RabbitMqLog::connect(&options(url.as_str(), 1)).unwrap();
        let failures =
            [log.append(0, &sample_events(1)).await.unwrap_err().to_string(), chain(&log.declare().await.unwrap_err())];
        for failure in failures {
            assert!(failure.contains(text), "{failure}");
            assert!(!failure.contains("s3cret") && !failure.contains(&user), "{failure}");
        }
        let Err(LogError::Backend(error)) = log.partitions().await else { panic!("a server that cannot be used") };
        assert_eq!(error.trouble, trouble);
    }
}

#[tokio::test]
async fn a_topology_that_is_missing_or_of_another_kind_is_said_so() {
    let vhost = Vhost::fresh().await;
    let log = RabbitMqLog::connect(&options(&vhost.amqp_url(), 1)).unwrap();
    let missing = |error: &LogError| matches!(error, LogError::Missing { .. });
    assert!(missing(&log.partitions().await.unwrap_err()));
    assert!(missing(&log.bounds(0).await.unwrap_err()));
    assert!(missing(&log.read(0, Position::First).await.err().unwrap()));
    let append = log.append(0, &sample_events(1)).await.unwrap_err();
    assert!(append.to_string().contains("exchange tokencache.activity is not declared"), "{append}");
    let park = log.park(&[letter(0)]).await.unwrap_err();
    assert!(park.to_string().contains("tokencache.activity.dead is not declared"), "{park}");

    let other = Foreign::connect(&vhost).await;
    let full = [
        ("x-max-length".into(), AMQPValue::LongLongInt(1)),
        ("x-overflow".into(), AMQPValue::LongString("reject-publish".into())),
    ];
    other.declare_queue("tokencache.activity.dead", BTreeMap::from(full).into()).await;
    other.bind_fanout("tokencache.activity.dead").await;
    let letters: Vec<DeadLetter> = (0..5).map(letter).collect();
    let park = log.park(&letters).await.unwrap_err();
    assert!(matches!(park, DeadLetterError::Nacked), "a full queue takes no letter: {park}");
    other.delete_queue("tokencache.activity.dead").await;

    other.declare_queue("tokencache.activity-0", FieldTable::default()).await;
    let mismatch = log.declare().await.unwrap_err();
    assert!(matches!(&mismatch, LogError::Mismatch { what, .. } if what == "queue tokencache.activity-0"));
    let text = mismatch.to_string();
    assert!(text.contains("x-queue-type") && text.contains("delete it or use another vhost"), "{text}");
    other.publish("", "tokencache.activity-0", b"precious", BasicProperties::default()).await;
    let error = first_error(&log, Position::First).await;
    assert!(matches!(&error, LogError::Mismatch { .. }) && error.to_string().contains("delete it"), "{error}");
    wait_until(PATIENCE, async || other.messages("tokencache.activity-0").await == 1).await;
}

#[tokio::test]
async fn declaring_again_changes_nothing_and_adds_partitions() {
    let vhost = Vhost::fresh().await;
    let one = declared(&vhost.amqp_url(), 1).await;
    one.append(0, &sample_events(1)).await.unwrap();
    let three = declared(&vhost.amqp_url(), 3).await;
    three.declare().await.unwrap();
    assert_eq!(one.partitions().await.unwrap(), 3, "those that were added are seen");
    one.append(2, &sample_events(1)).await.unwrap();
    assert_eq!(one.bounds(0).await.unwrap(), Bounds { first: 0, next: 1 });

    let foreign = Foreign::connect(&vhost).await;
    foreign.publish("tokencache.activity", "99", b"{}", BasicProperties::default()).await;
    let state = one.inspect().await.unwrap();
    assert!(state.is_complete(), "{state:?}");
    assert_eq!((state.partitions, state.dead_letters, state.unrouted), (3, Some(0), Some(1)));

    let mut other_age = options(&vhost.amqp_url(), 1);
    other_age.topology.max_age = Some("7D".parse().unwrap());
    let error = RabbitMqLog::connect(&other_age).unwrap().declare().await.unwrap_err().to_string();
    assert!(error.contains("x-max-age") && error.contains("with the setting it has"), "{error}");
}

#[tokio::test]
async fn a_log_that_was_cut_or_made_anew_is_a_gap_and_never_a_silent_skip() {
    let vhost = Vhost::fresh().await;
    let log = RabbitMqLog::connect(&options(&vhost.amqp_url(), 1)).unwrap();
    let foreign = Foreign::connect(&vhost).await;
    let small = |name: &str, bytes: i64| (name.into(), AMQPValue::LongLongInt(bytes));
    let arguments: BTreeMap<_, _> = [
        ("x-queue-type".into(), AMQPValue::LongString("stream".into())),
        small("x-max-length-bytes", 40_000),
        small("x-stream-max-segment-size-bytes", 20_000),
    ]
    .into();
    foreign.declare_queue("tokencache.activity-0", arguments.clone().into()).await;
    let first = async || log.bounds(0).await.unwrap().first;
    foreign.publish("", "tokencache.activity-0", b"the first of all", BasicProperties::default()).await;
    let mut behind = log.read(0, Position::First).await.unwrap();
    assert_eq!(behind.next(1, PATIENCE).await.unwrap()[0].offset, 0);
    wait_until(PATIENCE, async || {
        foreign.publish("", "tokencache.activity-0", &[b'x'; 15_000], BasicProperties::default()).await;
        first().await > 2
    })
    .await;
    let gap = |error: &LogError, offset: u64| matches!(error, LogError::Gap { asked, first, .. } if *asked == offset && *first > offset);
    let cut = first_error(&log, Position::Offset(1)).await;
    assert!(gap(&cut, 1), "{cut}");
    let cut = first_error(&log, Position::Offset(0)).await;
    assert!(gap(&cut, 0), "{cut}");
    let from = first().await;
    let mut kept = log.read(0, Position::Offset(from)).await.unwrap();
    assert_eq!(kept.next(1, PATIENCE).await.unwrap()[0].offset, from, "the first one that is kept can be had");

    foreign.delete_queue("tokencache.activity-0").await;
    let ended = its_end(&mut *kept).await;
    assert!(ended.is_transient(), "a stream that went away is an error of its reader: {ended}");
    foreign.declare_queue("tokencache.activity-0", arguments.into()).await;
    foreign.publish("", "tokencache.activity-0", b"the first again", BasicProperties::default()).await;
    let anew = first_error(&log, Position::Offset(from)).await;
    assert!(matches!(anew, LogError::Gap { first: 0, next: 1, .. }), "{anew}");
}

#[tokio::test]
async fn dead_letters_survive_many_looks() {
    let vhost = Vhost::fresh().await;
    let log = declared(&vhost.amqp_url(), 1).await;
    let letters: Vec<DeadLetter> = (0..250).map(letter).collect();
    log.park(&letters).await.unwrap();
    for _ in 0..25 {
        assert_eq!(log.peek(3).await.unwrap().len(), 3);
    }
    let mut offsets: Vec<u64> = log.peek(1_000).await.unwrap().into_iter().map(|letter| letter.offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..250).collect::<Vec<u64>>());
}

#[tokio::test]
async fn one_at_a_time_goes_through_the_letters() {
    let vhost = Vhost::fresh().await;
    let (one, other) = (declared(&vhost.amqp_url(), 1).await, declared(&vhost.amqp_url(), 1).await);
    one.park(&[letter(0), letter(1)]).await.unwrap();
    let mut round = one.open(LetterQueue::Dead).await.unwrap();
    let (ticket, _) = round.next().await.unwrap().unwrap();
    let busy = other.open(LetterQueue::Dead).await.err().unwrap();
    assert!(matches!(busy, DeadLetterError::Busy), "{busy}");
    other.open(LetterQueue::Unrouted).await.unwrap().close().await.unwrap();
    other.park(&[letter(2)]).await.unwrap();
    round.take_out(ticket).await.unwrap();
    round.close().await.unwrap();
    let mut ids: Vec<String> = other.peek(10).await.unwrap().into_iter().map(|letter| letter.id).collect();
    ids.sort();
    assert_eq!(ids, ["0-1", "0-2"]);
}

#[tokio::test]
async fn what_no_stream_takes_is_found_among_the_unrouted() {
    let vhost = Vhost::fresh().await;
    let log = declared(&vhost.amqp_url(), 1).await;
    let foreign = Foreign::connect(&vhost).await;
    let event = sample_events(1).remove(0);
    let encoded = common::event::encode(&event);
    let properties = BasicProperties::default().with_content_type(encoded.content_type.into());
    foreign.publish("tokencache.activity", "7", &encoded.body, properties).await;
    foreign.publish("tokencache.activity", "seven", b"{}", BasicProperties::default()).await;
    let mut round = log.open(LetterQueue::Unrouted).await.unwrap();
    let (ticket, letter) = round.next().await.unwrap().unwrap();
    assert_eq!((letter.partition, letter.reason.as_str()), (7, "unrouted"));
    assert_eq!(letter.events(), [Ok(event)]);
    round.take_out(ticket).await.unwrap();
    let (_, letter) = round.next().await.unwrap().unwrap();
    assert_eq!(letter.detail, "the routing key is no partition's number");
    round.close().await.unwrap();
    assert_eq!(log.inspect().await.unwrap().unrouted, Some(1));
}

#[tokio::test]
async fn an_app_hears_of_users_who_have_to_sign_in_again_and_of_nothing_else() {
    let vhost = Vhost::fresh().await;
    let (log, foreign) = (declared(&vhost.amqp_url(), 1).await, Foreign::connect(&vhost).await);
    foreign.declare_queue("my-app", FieldTable::default()).await;
    let (options, key) = (QueueBindOptions::default(), "reauthentication-required");
    let bound = foreign.channel.queue_bind(
        "my-app".into(),
        "tokencache.activity".into(),
        key.into(),
        options,
        FieldTable::default(),
    );
    bound.await.unwrap();
    let failures = [FailureReason::Revoked, FailureReason::Throttled];
    let mut events = sample_events(3);
    for (event, reason) in events.iter_mut().zip(failures) {
        let account = AccountHint::default();
        let failure = AcquisitionFailure { reason, error: None, suberror: None, retry_after: None, account };
        event.activity = Activity::AcquisitionFailed(failure);
    }
    log.append(0, &events).await.unwrap();
    let heard = foreign.channel.basic_get("my-app".into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    let heard: serde_json::Value = serde_json::from_slice(&heard.delivery.data).unwrap();
    assert_eq!(heard["type"], REAUTHENTICATION_REQUIRED);
    assert_eq!((&heard["subject"], &heard["data"]["reason"]), (&events[0].subject.as_str().into(), &"revoked".into()));
    assert_eq!(foreign.messages("my-app").await, 0, "one of the three needs the user");
    assert_eq!(foreign.messages("tokencache.activity.unrouted").await, 0);
    log.close().await;
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_noticed_and_appends_go_on_after_it() {
    let vhost = Vhost::fresh().await;
    declared(&vhost.amqp_url(), 1).await;
    let broker: url::Url = vhost.amqp_url().parse().unwrap();
    let target = format!("{}:{}", broker.host_str().unwrap(), broker.port().unwrap_or(5672));
    let mut proxy = FaultProxy::start(&target).await;
    let url = format!("{}?heartbeat=1", proxy.in_front_of(&vhost.amqp_url()));
    let log = RabbitMqLog::connect(&options(&url, 1)).unwrap();
    log.append(0, &sample_events(1)).await.unwrap();
    let mut reader = log.read(0, Position::First).await.unwrap();
    assert_eq!(reader.next(10, PATIENCE).await.unwrap().len(), 1);

    proxy.set(ProxyMode::Stall).await;
    let append = log.append(0, &sample_events(1)).await.unwrap_err();
    assert!(matches!(&append, AppendError::Log(error) if error.is_transient()), "{append}");
    assert!(reader.next(1, PATIENCE).await.unwrap_err().is_transient());
    proxy.set(ProxyMode::Pass).await;
    wait_until(PATIENCE, async || log.append(0, &sample_events(1)).await.is_ok()).await;
    let mut again = log.read(0, Position::Offset(1)).await.unwrap();
    assert_eq!(again.next(1, PATIENCE).await.unwrap()[0].offset, 1, "reading goes on where it was");
}

pub(super) fn letter(offset: u64) -> DeadLetter {
    let error = ContractError::NotJson { line: 1, column: 2 };
    DeadLetter {
        partition: 0,
        offset,
        content_type: None,
        refused: Refused { index: None, error, raw: b"poison".to_vec() },
    }
}

async fn first_error(log: &RabbitMqLog, position: Position) -> LogError {
    match log.read(0, position).await {
        Err(error) => error,
        Ok(mut reader) => reader.next(1, PATIENCE).await.unwrap_err(),
    }
}

/// Reads on until there is an error.
async fn its_end(reader: &mut dyn LogReader) -> LogError {
    let reading = async {
        loop {
            if let Err(error) = reader.next(100, PATIENCE).await {
                return error;
            }
        }
    };
    timeout(PATIENCE, reading).await.unwrap()
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
