//! The broker is stopped: sign-ins go on as before, and nothing is missing when it is back.

use std::time::{Duration, Instant};

use common::token_cache::Expiry;
use producer::simulate::Population;
use testkit::servers::{KeyPrefix, PrivateRabbitMq, RabbitMqOptions};

use crate::pipeline::{PATIENCE, Pipeline};

const POPULATION: Population = Population { seed: 11, tenants: 4, access_token_lifetime: Duration::from_secs(3600) };

/// Writes the caches of these users one after the other, and gives the median time of a write.
async fn write(pipeline: &Pipeline, users: std::ops::Range<u64>) -> Duration {
    let mut times = Vec::new();
    for number in users {
        let user = POPULATION.user(number);
        let blob = POPULATION.blob(&user, jiff::Timestamp::now().as_second());
        let started = Instant::now();
        pipeline.adapter.write(&user.cache_key(), &blob, Expiry::default()).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn a_thousand_writes_with_the_broker_down_succeed_and_are_all_indexed_when_it_is_back() {
    let mut broker = PrivateRabbitMq::start(RabbitMqOptions::default()).await;
    let prefix = KeyPrefix::fresh().await;
    let pipeline = Pipeline::on_servers(&broker.url(), &prefix).await;

    let before = write(&pipeline, 0..1000).await;
    testkit::wait_until(PATIENCE, || async { pipeline.listed().await == 1000 }).await;
    broker.stop().await;
    let meanwhile = write(&pipeline, 1000..2000).await;
    tracing::info!(?before, ?meanwhile, "median write with the broker, and without");
    assert_eq!(pipeline.listed().await, 1000, "no event passes a broker that is down");
    broker.start_again().await;
    testkit::wait_until(PATIENCE, || async { pipeline.listed().await == 2000 }).await;
}
