//! The events everything is measured with: cache writes of many users, in turn.

use std::time::Duration;

use anyhow::Context as _;
use common::account::{ClientId, Environment, HomeAccountId, ObjectId, TenantId, Username};
use common::event::{AccountDetails, Activity, ActivityEvent, EventDraft, EventSource, Properties};
use jiff::{SignedDuration, Timestamp};
use producer::simulate::{Population, SimulatedUser};

/// Whose caches are written.
pub(crate) const POPULATION: Population =
    Population { seed: 1, tenants: 50, access_token_lifetime: Duration::from_secs(3600) };

/// What an adapter would say of the user's write.
pub(crate) fn draft(user: &SimulatedUser, now: Timestamp) -> anyhow::Result<EventDraft> {
    let key = user.cache_key();
    let details = AccountDetails {
        home_account_id: HomeAccountId::new(key.as_str())?,
        object_id: Some(ObjectId::new(user.object_id.to_string())?),
        tenant_id: Some(TenantId::new(user.tenant_id.to_string())?),
        environment: Environment::new("login.microsoftonline.com")?,
        client_id: ClientId::new("5b0c7d9e-2f43-4c1a-9d6e-7a8b9c0d1e2f")?,
        username: Some(Username::new(user.username.as_str())?),
        access_token_expires_on: Some(now.as_second() + 3600),
        refresh_token_expires_on: None,
        has_refresh_token: true,
        properties: Properties::default(),
    };
    Ok(EventDraft::new(EventSource::new("/apps/bench")?, key, Activity::UserActivity(details)))
}

/// So many events, user after user, a microsecond apart, the last of them just now.
pub(crate) fn events(count: usize, accounts: u64) -> anyhow::Result<Vec<ActivityEvent>> {
    let now = Timestamp::now();
    let first = now - SignedDuration::from_micros(i64::try_from(count).context("too many events")?);
    let mut time = first;
    let mut events = Vec::with_capacity(count);
    for number in 0..count as u64 {
        events.push(draft(&POPULATION.user(number % accounts), now)?.at(time));
        time += SignedDuration::from_micros(1);
    }
    Ok(events)
}
