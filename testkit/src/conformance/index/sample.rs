//! Events to test with: written out, or at random from a seed.

use common::account::{CacheKey, ClientId, Environment, HomeAccountId, TenantId, Username};
use common::event::{
    AccountDetails, AccountHint, AcquisitionFailure, Activity, ActivityEvent, ErrorCode, EventId, EventSource,
    FailureReason, Properties,
};
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use serde_json::json;

/// The time that is `micros` after an instant all samples are near to.
pub(super) fn at(micros: i64) -> Timestamp {
    let noon: Timestamp = "2026-11-22T12:00:00Z".parse().expect("a time");
    noon + SignedDuration::from_micros(micros)
}

pub(super) fn key(text: &str) -> CacheKey {
    CacheKey::new(text).expect("a cache key")
}

pub(super) fn tenant(text: &str) -> TenantId {
    TenantId::new(text).expect("a tenant id")
}

pub(super) fn client(text: &str) -> ClientId {
    ClientId::new(text).expect("a client id")
}

pub(super) fn username(text: &str) -> Username {
    Username::new(text).expect("a username")
}

/// Details of an account at client `app` and tenant `tenant-0`, without a name.
pub(super) fn details() -> AccountDetails {
    AccountDetails {
        home_account_id: HomeAccountId::new("uid.tenant-0").expect("an id"),
        object_id: None,
        tenant_id: Some(tenant("tenant-0")),
        environment: Environment::new("login.microsoftonline.com").expect("a host"),
        client_id: client("app"),
        username: None,
        access_token_expires_on: None,
        refresh_token_expires_on: None,
        has_refresh_token: true,
        properties: Properties::default(),
    }
}

/// The same with a name.
pub(super) fn named(name: &str) -> AccountDetails {
    AccountDetails { username: Some(username(name)), ..details() }
}

pub(super) fn failure(reason: FailureReason) -> AcquisitionFailure {
    let error = ErrorCode::new("invalid_grant").ok();
    AcquisitionFailure { reason, error, suberror: None, retry_after: None, account: AccountHint::default() }
}

/// An event `micros` after noon, with a fresh id.
pub(super) fn event(subject: &str, micros: i64, activity: Activity) -> ActivityEvent {
    ActivityEvent {
        id: EventId::fresh(),
        source: EventSource::new("/apps/test").expect("a source"),
        subject: key(subject),
        time: at(micros),
        traceparent: None,
        activity,
    }
}

pub(super) fn activity(subject: &str, micros: i64, details: AccountDetails) -> ActivityEvent {
    event(subject, micros, Activity::UserActivity(details))
}

pub(super) fn hydrated(subject: &str, micros: i64, details: AccountDetails) -> ActivityEvent {
    event(subject, micros, Activity::Hydrated(details))
}

pub(super) fn failed(subject: &str, micros: i64, reason: FailureReason) -> ActivityEvent {
    event(subject, micros, Activity::AcquisitionFailed(failure(reason)))
}

pub(super) fn removed(subject: &str, micros: i64) -> ActivityEvent {
    event(subject, micros, Activity::Removed(AccountHint::default()))
}

pub(super) const REASONS: [FailureReason; 9] = [
    FailureReason::CacheMissing,
    FailureReason::Undecryptable,
    FailureReason::MalformedCache,
    FailureReason::NoRefreshToken,
    FailureReason::InteractionRequired,
    FailureReason::Revoked,
    FailureReason::Throttled,
    FailureReason::IdentityProviderUnavailable,
    FailureReason::StoreUnavailable,
];

/// `count` events of every kind about `keys`, whose times and ids often collide.
pub fn random_events(random: &mut StdRng, keys: &[String], count: usize) -> Vec<ActivityEvent> {
    (0..count).map(|_| random_event(random, keys)).collect()
}

fn random_event(random: &mut StdRng, keys: &[String]) -> ActivityEvent {
    let activity = match random.random_range(0..10) {
        0..4 => Activity::UserActivity(random_details(random)),
        4..6 => Activity::Hydrated(random_details(random)),
        6..9 => Activity::AcquisitionFailed(failure(pick(random, &REASONS))),
        _ => Activity::Removed(AccountHint::default()),
    };
    let subject = keys.choose(random).expect("a key");
    let mut event = event(subject, random.random_range(0..8), activity);
    if random.random_bool(0.5) {
        event.id = EventId::new(format!("01930000-0000-7000-8000-00000000000{}", random.random_range(0..3)))
            .expect("an event id");
    }
    event
}

fn random_details(random: &mut StdRng) -> AccountDetails {
    let names = [None, Some("alice@contoso.com"), Some("Alice@Contoso.com"), Some("bob@fabrikam.com")];
    let properties = match random.random_range(0..4) {
        0 => json!({ "department": "R&D", "level": random.random::<f64>() }),
        _ => json!({}),
    };
    AccountDetails {
        tenant_id: pick(random, &[None, Some("tenant-0"), Some("tenant-1"), Some("Tenant-1")]).map(tenant),
        client_id: client(pick(random, &["app", "other app"])),
        username: pick(random, &names).map(username),
        access_token_expires_on: random.random_bool(0.5).then(|| random.random_range(0..4_000_000_000)),
        has_refresh_token: random.random(),
        properties: serde_json::from_value(properties).expect("properties"),
        ..details()
    }
}

fn pick<T: Copy>(random: &mut StdRng, of: &[T]) -> T {
    *of.choose(random).expect("one to pick")
}

/// The events in any order, some of them again.
pub(super) fn shuffled_with_duplicates(random: &mut StdRng, events: &[ActivityEvent]) -> Vec<ActivityEvent> {
    let again = events.choose_multiple(random, events.len() / 2).cloned();
    let mut all: Vec<ActivityEvent> = events.iter().cloned().chain(again).collect();
    all.shuffle(random);
    all
}
