//! The log is given more partitions while relay and projectors run: what comes then is spread over all of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use common::token_cache::Expiry;
use producer::simulate::Population;
use serde_json::Value;
use testkit::servers::{KeyPrefix, Vhost};
use tokio::process::Command;

use crate::pipeline::{PATIENCE, Pipeline, consumer, in_file, on_servers};

const POPULATION: Population = Population { seed: 12, tenants: 4, access_token_lifetime: Duration::from_secs(3600) };

#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_servers_grows_in_use() {
    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    grows_in_use(on_servers(&vhost.amqp_url(), &prefix)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_log_grows_in_use() {
    let folder = tempfile::tempdir().unwrap();
    grows_in_use(in_file(&folder.path().join("all.sqlite"))).await;
}

async fn grows_in_use(flags: Vec<String>) {
    let with_two = [flags.clone(), vec!["--log-partitions".to_owned(), "2".to_owned()]].concat();
    let pipeline = Pipeline::eager(&with_two).await;
    let users = AtomicU64::new(0);
    sign_in(&pipeline, &users).await;
    grow(&flags, 6).await;
    let all_are_used = || async {
        sign_in(&pipeline, &users).await;
        are_used(&pipeline, 6).await
    };
    testkit::wait_until(PATIENCE, all_are_used).await;
    testkit::wait_until(PATIENCE, || async { pipeline.listed().await == users.load(Relaxed) }).await;
    grow(&flags, 6).await;
    let output = run(&flags, 3).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("has 6 partitions, and none is ever taken away"), "{said}");
}

async fn are_used(pipeline: &Pipeline, partitions: u32) -> bool {
    for partition in 0..partitions {
        if pipeline.log.bounds(partition).await.unwrap().next == 0 {
            return false;
        }
    }
    true
}

/// Some users more.
async fn sign_in(pipeline: &Pipeline, users: &AtomicU64) {
    for _ in 0..5 {
        let user = POPULATION.user(users.fetch_add(1, Relaxed));
        let blob = POPULATION.blob(&user, jiff::Timestamp::now().as_second());
        pipeline.adapter.write(&user.cache_key(), &blob, Expiry::default()).await.unwrap();
    }
}

/// As often as one likes.
async fn grow(flags: &[String], partitions: usize) {
    let output = run(flags, partitions).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), partitions);
}

async fn run(flags: &[String], partitions: usize) -> std::process::Output {
    let mut command = Command::new(consumer());
    command.args(["topology", "grow", "--json", "--partitions", &partitions.to_string()]).args(flags);
    command.output().await.unwrap()
}
