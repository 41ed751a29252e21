//! One message per event, with pipelined confirms.

use std::pin::Pin;
use std::time::Instant;

use common::event::{ActivityEvent, encode};
use futures_util::StreamExt as _;
use futures_util::future::Future;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

/// Confirms that are waited for together; more make a multiple ack slower.
const WINDOW: usize = 1_000;

/// A stream that is published to through the default exchange.
pub(crate) struct PlainStream {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
    pub(crate) name: String,
}

/// Declares a stream of this name, over a connection of its own.
pub(crate) async fn declare_stream(amqp_url: &str, name: &str) -> anyhow::Result<PlainStream> {
    let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), durable, arguments).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(PlainStream { connection, channel, name: name.to_owned() })
}

/// Publishes each event as a message and waits for all confirms. Gives events per second.
pub(crate) async fn publish_one_by_one(stream: &PlainStream, events: &[ActivityEvent]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut confirms = FuturesUnordered::new();
    for event in events {
        if confirms.len() >= WINDOW {
            settle(confirms.next().await)?;
        }
        confirms.push(publish(stream, event).await?);
    }
    while let Some(confirm) = confirms.next().await {
        settle(Some(confirm))?;
    }
    Ok(events.len() as f64 / begun.elapsed().as_secs_f64())
}

type Confirm = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// Writes one message; the confirm is awaited by the caller.
async fn publish(stream: &PlainStream, event: &ActivityEvent) -> anyhow::Result<Confirm> {
    let encoded = encode(event);
    let properties = BasicProperties::default().with_content_type(encoded.content_type.into()).with_delivery_mode(2);
    let name = stream.name.as_str().into();
    let options = BasicPublishOptions::default();
    #[expect(clippy::disallowed_methods, reason = "the floor is the client used directly")]
    let confirm = stream.channel.basic_publish("".into(), name, options, &encoded.body, properties).await?;
    Ok(Box::pin(confirm))
}

fn settle(confirm: Option<lapin::Result<Confirmation>>) -> anyhow::Result<()> {
    match confirm {
        Some(Ok(Confirmation::Ack(_))) | None => Ok(()),
        Some(Ok(_)) => anyhow::bail!("rabbitmq did not confirm"),
        Some(Err(error)) => Err(error.into()),
    }
}
