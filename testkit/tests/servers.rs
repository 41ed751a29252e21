//! Shared and private servers, certificates and the fault proxy.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::{Connection, ConnectionProperties};
use redis::{ClientTlsConfig, TlsCertificates};
use testkit::certificates::{CertificateAuthority, CertificateFiles};
use testkit::fault_proxy::{FaultProxy, ProxyMode};
use testkit::servers::{KeyPrefix, PrivateRabbitMq, PrivateRedis, RabbitMqOptions, RedisOptions, ServerTls, Vhost};
use testkit::wait_until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(30);

async fn amqp(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await
}

#[tokio::test]
async fn a_vhost_can_be_used_and_is_gone_in_the_end() {
    let vhost = Vhost::fresh().await;
    let connection = amqp(&vhost.amqp_url()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.queue_declare("q".into(), Default::default(), Default::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    let url = vhost.amqp_url();
    drop(vhost);
    wait_until(SOON, || async { amqp(&url).await.is_err() }).await;
}

#[tokio::test]
async fn a_key_prefix_is_new_and_its_keys_are_gone_in_the_end() {
    let (one, other) = (KeyPrefix::fresh().await, KeyPrefix::fresh().await);
    assert_ne!(one.as_str(), other.as_str());
    let client = redis::Client::open(one.redis_url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    for key in [format!("{one}a"), format!("{{{one}}}b"), format!("{other}c")] {
        redis::cmd("SET").arg(key).arg("1").exec(&mut connection).unwrap();
    }
    let other_key = format!("{other}c");
    drop(one);
    let kept: usize = redis::cmd("EXISTS").arg(&other_key).query(&mut connection).unwrap();
    assert_eq!((kept, other.remove_keys().unwrap()), (1, 1));
}

#[tokio::test]
async fn a_private_redis_keeps_its_data_through_a_crash_and_a_stop() {
    let options = RedisOptions {
        appendonly: true,
        password: Some("a-secret".to_owned()),
        config_lines: vec!["key-load-delay 200000".to_owned()],
        ..Default::default()
    };
    let mut redis = PrivateRedis::start(options).await;
    redis.command::<()>(&["SET", "k", "1"]).unwrap();
    redis.kill9();
    assert!(redis.command::<()>(&["PING"]).is_err());
    redis.start_again().await;
    assert_eq!(redis.command::<u32>(&["INCR", "k"]).unwrap(), 2);
    redis.stop().await;
    redis.start_again().await;
    assert_eq!(redis.command::<u32>(&["INCR", "k"]).unwrap(), 3);
}

#[tokio::test]
async fn a_paused_redis_answers_once_it_is_resumed() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).await.unwrap();
    redis.pause();
    stream.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 7];
    let early = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut answer)).await;
    assert!(early.is_err());
    redis.resume();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[tokio::test]
async fn a_private_redis_takes_limits_rules_and_further_lines() {
    let redis = PrivateRedis::start(RedisOptions {
        maxmemory: Some("32mb".to_owned()),
        acl: vec!["user default on nopass ~* &* +@all".to_owned(), "user reader on >pw ~app:* +get".to_owned()],
        config_lines: vec!["maxmemory-policy allkeys-lru".to_owned()],
        ..Default::default()
    })
    .await;
    let (_, policy): (String, String) = redis.command(&["CONFIG", "GET", "maxmemory-policy"]).unwrap();
    assert_eq!(policy, "allkeys-lru");
    let url = redis.url().replace("redis://", "redis://reader:pw@");
    let mut reader = redis::Client::open(url).unwrap().get_connection().unwrap();
    let refused = redis::cmd("SET").arg("app:a").arg("1").exec(&mut reader).unwrap_err();
    assert_eq!(refused.code(), Some("NOPERM"));
}

fn redis_over_tls(
    url: &str,
    authority: &CertificateAuthority,
    own: Option<&CertificateFiles>,
) -> redis::RedisResult<String> {
    let client_tls = own.map(|files| ClientTlsConfig {
        client_cert: files.certificate_pem().into_bytes(),
        client_key: files.key_pem().into_bytes(),
    });
    let root_cert = Some(std::fs::read(authority.certificate()).unwrap());
    let client = redis::Client::build_with_tls(url, TlsCertificates { client_tls, root_cert })?;
    redis::cmd("PING").query(&mut client.get_connection()?)
}

#[tokio::test]
async fn a_private_redis_over_tls_asks_for_a_client_certificate_when_told_to() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = CertificateAuthority::new();
    let own = authority.client("worker");
    let stranger = CertificateAuthority::new();
    for required in [false, true] {
        let tls = ServerTls::of(&authority);
        let tls = if required { tls.requiring_client_certificate() } else { tls };
        let redis = PrivateRedis::start(RedisOptions { tls: Some(tls), ..Default::default() }).await;
        let url = redis.tls_url();
        assert_eq!(redis_over_tls(&url, &authority, Some(&own)).unwrap(), "PONG");
        assert_eq!(redis_over_tls(&url, &authority, None).is_ok(), !required);
        assert!(redis_over_tls(&url, &stranger, Some(&own)).is_err());
    }
}

async fn amqp_over_tls(
    url: &str,
    authority: &CertificateAuthority,
    own: Option<&CertificateFiles>,
) -> lapin::Result<()> {
    let tls = OwnedTLSConfig {
        identity: own.map(|files| OwnedIdentity::PKCS8 {
            pem: files.certificate_pem().into_bytes(),
            key: files.key_pem().into_bytes(),
        }),
        cert_chain: Some(std::fs::read_to_string(authority.certificate()).unwrap()),
    };
    let runtime = lapin::runtime::default_runtime()?;
    let properties = ConnectionProperties::default();
    let connection = Connection::connect_with_config(url, properties, tls, runtime).await?;
    connection.close(200, "done".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_rabbitmq_keeps_its_data_is_killed_paused_stopped_and_speaks_tls() {
    let authority = CertificateAuthority::new();
    let own = authority.client("producer");
    let tls = ServerTls::of(&authority).requiring_client_certificate();
    let config_lines = vec!["heartbeat = 11".to_owned()];
    let options = RabbitMqOptions { plugins: vec!["rabbitmq_management".to_owned()], tls: Some(tls), config_lines };
    let mut broker = PrivateRabbitMq::start(options).await;

    broker.rabbitmqctl(&["add_vhost", "kept"]).await;
    assert!(broker.rabbitmqctl(&["environment"]).await.contains("{heartbeat,11}"));
    amqp_over_tls(&broker.tls_url(), &authority, Some(&own)).await.unwrap();
    assert!(amqp_over_tls(&broker.tls_url(), &authority, None).await.is_err());

    let vhost = Vhost::on(broker.url().parse().unwrap(), broker.management_url().parse().unwrap()).await;
    amqp(&vhost.amqp_url()).await.unwrap();
    let url = vhost.amqp_url();
    drop(vhost);
    assert!(amqp(&url).await.is_err());

    let connection = amqp(&broker.url()).await.unwrap();
    broker.pause();
    let early = tokio::time::timeout(Duration::from_millis(300), connection.create_channel()).await;
    assert!(early.is_err());
    broker.resume();
    connection.create_channel().await.unwrap();

    broker.kill9();
    assert!(amqp(&broker.url()).await.is_err());
    broker.start_again().await;
    amqp(&broker.url()).await.unwrap();
    broker.stop().await;
    assert!(amqp(&broker.url()).await.is_err());
    broker.start_again().await;
    assert!(broker.rabbitmqctl(&["list_vhosts"]).await.contains("kept"));
}

/// A server that sends back what it gets.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn echoed(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

#[tokio::test]
async fn the_proxy_passes_delays_and_stalls() {
    let mut proxy = FaultProxy::start(&echo().await).await;
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    echoed(&mut stream).await.unwrap();

    proxy.set(ProxyMode::Delay(Duration::from_millis(100))).await;
    let asked = Instant::now();
    echoed(&mut stream).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(200), "once in each direction");

    proxy.set(ProxyMode::Stall).await;
    let mut fresh = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    for stream in [&mut stream, &mut fresh] {
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        let early = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut answer)).await;
        assert!(early.is_err());
    }
    proxy.set(ProxyMode::Pass).await;
    for stream in [&mut stream, &mut fresh] {
        stream.read_exact(&mut [0; 4]).await.unwrap();
        echoed(stream).await.unwrap();
    }
}

#[tokio::test]
async fn the_proxy_resets() {
    let mut proxy = FaultProxy::start(&echo().await).await;
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    echoed(&mut stream).await.unwrap();
    proxy.set(ProxyMode::Reset).await;
    let error = stream.read_exact(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut fresh = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    assert!(fresh.read_exact(&mut [0; 1]).await.is_err());
}

#[tokio::test]
async fn the_proxy_cuts_and_comes_back_on_its_port() {
    let target = echo().await;
    let mut proxy = FaultProxy::start(&target).await;
    let port = proxy.port();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    echoed(&mut stream).await.unwrap();
    proxy.set(ProxyMode::Cut).await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    let refused = TcpStream::connect(("127.0.0.1", port)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.set(ProxyMode::Pass).await;
    echoed(&mut TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await.unwrap();
    assert_eq!(proxy.in_front_of("amqp://u:p@example.org:5672/%2f"), format!("amqp://u:p@127.0.0.1:{port}/%2f"));
}

#[tokio::test]
async fn the_proxy_passes_the_end_of_a_stream_on() {
    let proxy = FaultProxy::start(&echo().await).await;
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    stream.write_all(b"last words").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"last words");
}
