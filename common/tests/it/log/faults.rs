//! The log while its broker is killed, blocked, locked and barred: one private broker, one fault after the other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use common::backend::{TlsFiles, Trouble};
use common::event::ActivityEvent;
use common::log::{
    ActivityLog, AppendError, GrowError, Grown, LogError, ParkLetters as _, Position, RabbitMqLog, RabbitMqOptions,
    TopologyOptions,
};
use testkit::certificates::{CertificateAuthority, CertificateFiles};
use testkit::conformance::log::sample_events;
use testkit::servers::{PrivateRabbitMq, RabbitMqOptions as Broker, ServerTls};
use testkit::wait_until;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_broker_lose_nothing_that_was_confirmed() {
    let (authority, strangers) = (CertificateAuthority::new(), CertificateAuthority::new());
    let tls = Some(ServerTls::of(&authority).requiring_client_certificate());
    let mut broker = PrivateRabbitMq::start(Broker { tls, ..Broker::default() }).await;
    let log = log_at(&broker.url(), TlsFiles::default());
    log.declare().await.unwrap();

    tls_with_a_private_ca_and_a_client_certificate(&broker, &authority, &strangers).await;
    each_role_needs_only_its_narrow_permissions(&broker).await;
    a_blocked_broker_is_waited_for(&broker, &log).await;
    confirmed_appends_survive_the_end_of_connections_and_of_the_broker(&mut broker, &log).await;
    log.close().await;
    let closed = log.append(0, &sample_events(1)).await.unwrap_err();
    assert!(closed.to_string().contains("the log was closed"), "{closed}");
}

fn log_at(url: &str, tls: TlsFiles) -> RabbitMqLog {
    let topology = TopologyOptions { partitions: 2, ..TopologyOptions::default() };
    RabbitMqLog::connect(&RabbitMqOptions { tls, topology, ..RabbitMqOptions::new(url.parse().unwrap()) }).unwrap()
}

fn files(authority: &CertificateAuthority, client: Option<CertificateFiles>) -> TlsFiles {
    TlsFiles {
        ca: Some(authority.certificate()),
        client_certificate: client.as_ref().map(|files| files.certificate.clone()),
        client_key: client.map(|files| files.key),
    }
}

async fn tls_with_a_private_ca_and_a_client_certificate(
    broker: &PrivateRabbitMq,
    authority: &CertificateAuthority,
    strangers: &CertificateAuthority,
) {
    let trusted = log_at(&broker.tls_url(), files(authority, Some(authority.client("relay"))));
    trusted.append(0, &sample_events(1)).await.unwrap();
    assert_eq!(trusted.partitions().await.unwrap(), 2);
    trusted.close().await;
    let refused = [
        (files(strangers, Some(authority.client("relay"))), "certificate is not trusted"),
        // The server's word on the client's certificate may be lost with the connection, so only the advice is sure.
        (files(authority, None), "client certificate of a CA it knows"),
        (files(authority, Some(strangers.client("relay"))), "client certificate of a CA it knows"),
    ];
    for (files, text) in refused {
        let error = log_at(&broker.tls_url(), files).append(0, &sample_events(1)).await.unwrap_err();
        let AppendError::Log(LogError::Backend(error)) = error else { panic!("{error}") };
        assert!(error.message.contains(text), "{error:?}");
    }
}

async fn each_role_needs_only_its_narrow_permissions(broker: &PrivateRabbitMq) {
    let roles = [
        ("stranger", "^$", "^tokencache\\.activity$", "^$"),
        ("producer", "^$", "^tokencache\\.activity$", "^tokencache\\.activity\\.partition-[0-9]+$"),
        ("projector", "^$", "^tokencache\\.activity\\.dead$", "^tokencache\\.activity(-|\\.partition-)[0-9]+$"),
        ("setup", OURS, OURS, OURS),
    ];
    for (name, configure, write, read) in roles {
        broker.rabbitmqctl(&["add_user", name, "s3cret"]).await;
        broker.rabbitmqctl(&["set_permissions", name, configure, write, read]).await;
    }
    let as_role =
        |name: &str| log_at(&broker.url().replace("guest:guest", &format!("{name}:s3cret")), TlsFiles::default());
    let (producer, projector) = (as_role("producer"), as_role("projector"));
    assert_eq!(as_role("stranger").partitions().await.unwrap(), 2, "who may not read believes its settings");
    assert_eq!(producer.partitions().await.unwrap(), 2);
    producer.append(1, &sample_events(1)).await.unwrap();
    assert!(refused(&producer.read(1, Position::First).await.err().unwrap()));
    assert!(refused(&producer.declare().await.unwrap_err()));

    assert_eq!(projector.partitions().await.unwrap(), 2);
    let mut reader = projector.read(1, Position::First).await.unwrap();
    assert_eq!(reader.next(1, PATIENCE).await.unwrap().len(), 1);
    assert_eq!(projector.bounds(1).await.unwrap().next, 1);
    projector.park(&[super::rabbitmq::letter(7)]).await.unwrap();
    let append = projector.append(1, &sample_events(1)).await.unwrap_err();
    let AppendError::Log(append) = append else { panic!("{append}") };
    assert!(refused(&append), "{append}");
    assert!(!format!("{append:?}").contains("'projector'"), "{append:?}");

    let setup = as_role("setup");
    assert_eq!(setup.grow(3).await.unwrap(), Grown { before: 2, partitions: 3 });
    assert!(matches!(producer.grow(4).await.unwrap_err(), GrowError::Log(error) if refused(&error)));
    assert_eq!((producer.partitions().await.unwrap(), projector.partitions().await.unwrap()), (3, 3));
    producer.append(2, &sample_events(1)).await.unwrap();
    let mut reader = projector.read(2, Position::First).await.unwrap();
    assert_eq!(reader.next(1, PATIENCE).await.unwrap().len(), 1);
}

/// What the user who declares may do, and do it with.
const OURS: &str = "^tokencache\\.activity.*$";

fn refused(error: &LogError) -> bool {
    matches!(error, LogError::Backend(error) if error.trouble == Trouble::Refused)
}

async fn a_blocked_broker_is_waited_for(broker: &PrivateRabbitMq, log: &RabbitMqLog) {
    log.append(0, &sample_events(1)).await.unwrap();
    let before = log.bounds(0).await.unwrap().next;
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0"]).await;
    let blocked: Vec<_> = (0..20)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move { log.append(0, &sample_events(1)).await })
        })
        .collect();
    let mut reader = log.read(0, Position::First).await.unwrap();
    assert!(!reader.next(1, PATIENCE).await.unwrap().is_empty(), "reading goes on meanwhile");
    assert!(blocked.iter().any(|append| !append.is_finished()), "the broker takes nothing");
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    for append in blocked {
        append.await.unwrap().unwrap();
    }
    assert_eq!(log.bounds(0).await.unwrap().next, before + 20, "what waited was appended once");
}

async fn confirmed_appends_survive_the_end_of_connections_and_of_the_broker(
    broker: &mut PrivateRabbitMq,
    log: &RabbitMqLog,
) {
    let (from, losses) = (log.bounds(1).await.unwrap().next, log.append_connection_losses());
    let writing = CancellationToken::new();
    let writers: Vec<_> = (0..4).map(|_| write_until(writing.clone(), log.clone())).collect();
    let reading = read_until_seen(log.clone(), from);

    more_is_read(&reading.seen).await;
    broker.rabbitmqctl(&["close_all_connections", "a test"]).await;
    more_is_read(&reading.seen).await;
    broker.kill9();
    let down = log.append(1, &sample_events(1)).await.unwrap_err();
    assert!(matches!(&down, AppendError::Log(error) if error.is_transient()), "{down}");
    broker.start_again().await;
    more_is_read(&reading.seen).await;
    writing.cancel();

    let mut confirmed = Vec::new();
    for writer in writers {
        confirmed.extend(writer.await.unwrap());
    }
    assert!(confirmed.len() > 20, "only {} appends were confirmed", confirmed.len());
    // A stream confirms before it syncs, so a killed broker forgets some. (Hundreds, once, were probably those it confirmed and
    // dropped right after its start, before it had its bindings back; that is why all is published as mandatory.) Whoever
    // appended is told of the loss of the connection, and sends again.
    assert!(log.append_connection_losses() > losses);
    for events in confirmed.chunks(500) {
        log.append(1, events).await.unwrap();
    }
    let confirmed: HashSet<String> = confirmed.iter().map(|event| event.id.to_string()).collect();
    wait_until(PATIENCE, || async { confirmed.is_subset(&*reading.seen.lock().unwrap()) }).await;
    reading.task.abort();
}

/// Appends events one by one, each again until it is confirmed or all is over; gives the confirmed ones.
fn write_until(over: CancellationToken, log: RabbitMqLog) -> JoinHandle<Vec<ActivityEvent>> {
    tokio::spawn(async move {
        let mut confirmed = Vec::new();
        while !over.is_cancelled() {
            let event: ActivityEvent = sample_events(1).remove(0);
            while !over.is_cancelled() {
                match log.append(1, std::slice::from_ref(&event)).await {
                    Ok(()) => {
                        confirmed.push(event);
                        break;
                    }
                    Err(AppendError::Log(error)) => assert!(error.is_transient(), "{error}"),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        confirmed
    })
}

type Seen = Arc<std::sync::Mutex<HashSet<String>>>;

struct Reading {
    seen: Seen,
    task: JoinHandle<()>,
}

/// Reads as the projector does: opens again after every error, at the offset after the last message.
fn read_until_seen(log: RabbitMqLog, mut next: u64) -> Reading {
    let seen = Seen::default();
    let into = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        loop {
            if let Err(error) = read_on(&log, &mut next, &into).await {
                assert!(error.is_transient(), "{error}");
            }
        }
    });
    Reading { seen, task }
}

async fn read_on(log: &RabbitMqLog, next: &mut u64, seen: &Seen) -> Result<(), LogError> {
    let mut reader = log.read(1, Position::Offset(*next)).await?;
    loop {
        for message in reader.next(100, PATIENCE).await? {
            assert_eq!(message.offset, *next, "no message is given twice or left out");
            *next = message.offset + 1;
            seen.lock().unwrap().extend(message.events.into_iter().map(|event| event.unwrap().id.to_string()));
        }
    }
}

async fn more_is_read(seen: &Seen) {
    let before = seen.lock().unwrap().len();
    wait_until(PATIENCE, || async { seen.lock().unwrap().len() > before + 20 }).await;
}
