//! The projector while the servers themselves stop, freeze and start again.

use consumer::projector::{PartitionState, PartitionStatus};
use testkit::servers::{PrivateRedis, RedisOptions};

use crate::rig::{Rig, random_events, redis_index, settings};

fn is_paused(status: &PartitionStatus) -> bool {
    matches!(status.state, PartitionState::Paused { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stops_pauses_the_projector_which_then_catches_up() {
    let mut redis = PrivateRedis::start(RedisOptions { appendonly: true, ..RedisOptions::default() }).await;
    let rig = Rig::with_index(1, redis_index(&redis.url(), "test:").await, None).await;
    let mut projector = rig.projector(settings());
    rig.append_shuffled(&random_events(100, 10, 50), 51).await;
    rig.projected().await;
    redis.kill9();
    rig.append_shuffled(&random_events(100, 10, 52), 53).await;
    projector.until_partition(0, is_paused).await;
    rig.append_shuffled(&random_events(100, 10, 54), 55).await;
    redis.start_again().await;
    rig.projected().await;
    projector.until(|status| status.is_ready()).await;
    let report = projector.stop().await;
    assert!(report.is_complete && report.refused.is_empty(), "{report:?}");
    assert!(rig.parked().await.is_empty());
    rig.assert_index_is_fold_of_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_freezes_pauses_the_projector_which_then_catches_up() {
    let redis = PrivateRedis::start(RedisOptions::default()).await;
    let rig = Rig::with_index(1, redis_index(&redis.url(), "test:").await, None).await;
    let mut projector = rig.projector(settings());
    rig.append_shuffled(&random_events(100, 10, 56), 57).await;
    rig.projected().await;
    redis.pause();
    rig.append_shuffled(&random_events(100, 10, 58), 59).await;
    projector.until_partition(0, is_paused).await;
    redis.resume();
    rig.projected().await;
    projector.stop().await;
    assert!(rig.parked().await.is_empty());
    rig.assert_index_is_fold_of_log().await;
}
