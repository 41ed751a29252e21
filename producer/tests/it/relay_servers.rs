//! The relay while the broker itself stops, crashes and blocks.

use std::time::Duration;

use producer::relay::RelaySettings;
use testkit::servers::{PrivateRabbitMq, RabbitMqOptions};

use crate::relay::settings;
use crate::rig::{Rig, rabbitmq_log};

/// The broker's own times are long: a boot takes some seconds.
const EAGER: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_at_the_start_and_crashes_later_gets_everything() {
    let mut broker = PrivateRabbitMq::start(RabbitMqOptions::default()).await;
    let rig = Rig::with_log(rabbitmq_log(&broker.url(), 1).await).await;
    broker.stop().await;
    let mut ids = rig.fill(300).await;
    let mut relay = rig.relay(RelaySettings { rewind_every: EAGER, ..settings() });
    relay.until(|status| status.log.is_down()).await;
    broker.start_again().await;
    rig.drained().await;

    let before = relay.until(|status| status.log.is_up() && status.rewinds > 0).await;
    ids.extend(rig.fill(300).await);
    rig.drained().await;
    broker.kill9();
    ids.extend(rig.fill(300).await);
    broker.start_again().await;
    let after = relay.until(|status| status.rewinds > before.rewinds && status.log.is_up()).await;
    assert!(after.failures > 0);
    rig.drained().await;
    assert_eq!(relay.stop().await.left, 0);
    assert!(rig.is_in_log(&ids).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_that_nobody_was_publishing_through_is_noticed() {
    let mut broker = PrivateRabbitMq::start(RabbitMqOptions::default()).await;
    let rig = Rig::with_log(rabbitmq_log(&broker.url(), 1).await).await;
    let mut relay = rig.relay(RelaySettings { rewind_every: EAGER, ..settings() });
    relay.until(|status| status.rewinds == 1).await;
    let ids = rig.fill(50).await;
    rig.drained().await;
    broker.remember_what_was_declared().await;
    broker.kill9();
    broker.start_again().await;
    relay.until(|status| status.rewinds > 1 && status.events_published >= 100).await;
    rig.drained().await;
    relay.stop().await;
    assert!(rig.is_in_log(&ids).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_blocks_fills_no_memory_and_gets_everything_later() {
    let broker = PrivateRabbitMq::start(RabbitMqOptions::default()).await;
    let rig = Rig::with_log(rabbitmq_log(&broker.url(), 1).await).await;
    let bounded = RelaySettings { held_events: 100, batch_events: 10, outstanding_batches: 4, ..settings() };
    let mut relay = rig.relay(bounded);
    let mut ids = rig.fill(50).await;
    rig.drained().await;
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0"]).await;
    ids.extend(rig.fill(500).await);
    // Longer than the visibility time.
    let blocked = relay.until(|status| status.backlog.oldest.is_some_and(|age| age > Duration::from_secs(3))).await;
    assert!(blocked.held_events <= 100 && blocked.outstanding_batches <= 4, "{blocked:?}");
    assert!(blocked.backlog.unconfirmed >= 400, "{blocked:?}");
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    rig.drained().await;
    assert_eq!(relay.stop().await.left, 0);
    assert!(rig.is_in_log(&ids).await);
}
