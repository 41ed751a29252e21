//! The bare commands that keep the same structures as the index, in large pipelines: what Redis can do at best.
//!
//! They read nothing, merge nothing, and compare nothing; each account of a batch is written once.

use std::collections::HashMap;
use std::time::Instant;

use common::event::{Activity, ActivityEvent};
use common::redis_pool::RedisPool;
use redis::Pipeline;
use sha2::{Digest as _, Sha256};

/// Events of a batch, as many as the projector applies together.
const BATCH: usize = 10_000;
/// Accounts of a pipeline.
const PIPELINE: usize = 500;
/// Of a record of the index for such an event.
const RECORD_BYTES: usize = 120;

/// Writes the events under `prefix`. Gives events per second.
pub(crate) async fn write_in_pipelines(
    events: &[ActivityEvent],
    pool: &RedisPool,
    prefix: &str,
) -> anyhow::Result<f64> {
    let mut connection = pool.dedicated().await?;
    let begun = Instant::now();
    for batch in events.chunks(BATCH) {
        let newest: HashMap<&str, &ActivityEvent> = batch.iter().map(|event| (event.subject.as_str(), event)).collect();
        let newest: Vec<&ActivityEvent> = newest.into_values().collect();
        for accounts in newest.chunks(PIPELINE) {
            pipeline(accounts, prefix).query_async::<()>(&mut connection).await?;
        }
    }
    Ok(events.len() as f64 / begun.elapsed().as_secs_f64())
}

fn pipeline(accounts: &[&ActivityEvent], prefix: &str) -> Pipeline {
    let record = [0_u8; RECORD_BYTES];
    let mut pipeline = redis::pipe();
    for event in accounts {
        let member: [u8; 14] = first_bytes(event.subject.as_str());
        let score = event.time.as_microsecond();
        pipeline.hset(format!("{prefix}accounts"), &member[..], &record[..]).ignore();
        pipeline.zadd(format!("{prefix}active"), &member[..], score).ignore();
        if let Activity::UserActivity(details) = &event.activity {
            let lists = [
                details.tenant_id.as_ref().map(|tenant| format!("{prefix}tenant:{tenant}")),
                details.username.as_ref().map(|username| {
                    let [high, low]: [u8; 2] = first_bytes(username.as_str());
                    format!("{prefix}user:{high:02x}{low:02x}")
                }),
            ];
            for list in lists.into_iter().flatten() {
                pipeline.zadd(list, &member[..], score).ignore();
            }
        }
    }
    pipeline
}

fn first_bytes<const N: usize>(text: &str) -> [u8; N] {
    let digest = Sha256::digest(text.as_bytes());
    std::array::from_fn(|place| digest[place])
}
