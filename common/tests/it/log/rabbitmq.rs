//! The log on RabbitMQ, in a vhost of each test's own.

use std::sync::Arc;

use async_trait::async_trait;
use common::log::{ActivityLog, DeadLetters, RabbitMqLog, RabbitMqOptions, TopologyOptions};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use testkit::conformance::log::{self, LogUnderTest};
use testkit::servers::Vhost;

struct OnRabbitMq {
    log: RabbitMqLog,
    vhost: Vhost,
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
        publish(&self.vhost.amqp_url(), &partition.to_string(), body, properties).await;
    }
}

/// Publishes as another program would, and awaits the confirm.
async fn publish(url: &str, routing_key: &str, body: &[u8], properties: BasicProperties) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(Default::default()).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "this stands for another program")]
    let confirm = channel
        .basic_publish(
            "tokencache.activity".into(),
            routing_key.into(),
            BasicPublishOptions::default(),
            body,
            properties,
        )
        .await
        .unwrap();
    assert!(confirm.await.unwrap().is_ack());
    connection.close(200, "bye".into()).await.unwrap();
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
    let subject = OnRabbitMq { log, vhost };
    log::run_all(&subject).await;
    subject.log.close().await;
}
