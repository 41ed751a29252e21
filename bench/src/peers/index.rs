//! A peer's index, read back: per account a hash, and whether the sorted sets list it.

use std::collections::HashMap;

use common::account::CacheKey;
use common::event::{AccountDetails, Activity, ActivityEvent};
use common::redis_pool::RedisPool;

/// Accounts of a pipeline.
const PIPELINE: usize = 500;

/// What a peer keeps of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// `details` and `failure` as JSON; `last_activity`, `last_hydration`, `failure_at` as text or in microseconds.
    pub(super) hash: HashMap<String, String>,
    /// How many of its three sorted sets list it: all accounts, its tenant's, its username's.
    pub(super) lists: usize,
}

type Read = (HashMap<String, String>, Option<f64>, Option<f64>, Option<f64>);

/// Reads what is kept under `prefix` of the accounts that `events` are about.
pub(super) async fn read(
    pool: &RedisPool,
    prefix: &str,
    events: &[ActivityEvent],
) -> anyhow::Result<HashMap<CacheKey, Kept>> {
    let mut connection = pool.dedicated().await?;
    let accounts: Vec<(&CacheKey, Option<&AccountDetails>)> = details_of(events).into_iter().collect();
    let mut kept = HashMap::with_capacity(accounts.len());
    for chunk in accounts.chunks(PIPELINE) {
        let mut pipeline = redis::pipe();
        for (key, details) in chunk {
            let tenant = details.and_then(|details| details.tenant_id.as_ref()).map_or("", |tenant| tenant.as_str());
            let username = details.and_then(|details| details.username.as_ref()).map_or("", |name| name.as_str());
            let member = key.as_str();
            pipeline.hgetall(format!("{prefix}account:{key}")).zscore(format!("{prefix}active"), member);
            pipeline.zscore(format!("{prefix}tenant:{tenant}"), member);
            pipeline.zscore(format!("{prefix}user:{username}"), member);
        }
        let answers: Vec<redis::Value> = pipeline.query_async(&mut connection).await?;
        for ((key, _), answer) in chunk.iter().zip(answers.chunks_exact(4)) {
            let (hash, active, tenant, user): Read = redis::from_redis_value(redis::Value::Array(answer.to_vec()))?;
            let lists = [active, tenant, user].iter().flatten().count();
            kept.insert((*key).clone(), Kept { hash, lists });
        }
    }
    Ok(kept)
}

/// Names and tenants stay the same here, so any event with details tells which lists an account may be in.
fn details_of(events: &[ActivityEvent]) -> HashMap<&CacheKey, Option<&AccountDetails>> {
    let mut known = HashMap::new();
    for event in events {
        let of_account = known.entry(&event.subject).or_default();
        if let Activity::UserActivity(details) | Activity::Hydrated(details) = &event.activity {
            *of_account = Some(details);
        }
    }
    known
}
