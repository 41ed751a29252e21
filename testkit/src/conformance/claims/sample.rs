//! Accounts to claim, and requests.

use std::time::Duration;

use common::account::{CacheKey, ClientId, Environment, HomeAccountId, TenantId};
use common::event::{
    AccountDetails, AccountHint, AcquisitionFailure, Activity, ActivityEvent, EventId, EventSource, FailureReason,
    Properties,
};
use common::index::{AccountActivity, Claim, ClaimRates, ClaimRequest, Claims, DuePolicy, HeldClaim, WorkerId};
use jiff::{SignedDuration, Timestamp};

use super::TestClaims;

/// Longer than any behaviour takes.
pub(super) const LONG: Duration = Duration::from_mins(10);
/// As short as may be.
pub(super) const BRIEF: Duration = ClaimRequest::MIN_LEASE;

pub(super) fn key(text: &str) -> CacheKey {
    CacheKey::new(text).expect("a cache key")
}

pub(super) fn tenant(text: &str) -> TenantId {
    TenantId::new(text).expect("a tenant id")
}

pub(super) fn client(text: &str) -> ClientId {
    ClientId::new(text).expect("a client id")
}

pub(super) fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).expect("a worker's name")
}

pub(super) fn ago(seconds: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_secs(seconds)
}

/// What the web app says of an account that has been due for so many seconds, or will be.
pub(super) fn details(of: &str, overdue: i64) -> AccountDetails {
    let horizon = DuePolicy::default().horizon_seconds.expect("a horizon");
    AccountDetails {
        home_account_id: HomeAccountId::new("uid.utid").expect("an id"),
        object_id: None,
        tenant_id: Some(tenant(of)),
        environment: Environment::new("login.microsoftonline.com").expect("a host"),
        client_id: client("app"),
        username: None,
        access_token_expires_on: Some(Timestamp::now().as_second() + i64::from(horizon) - overdue),
        refresh_token_expires_on: None,
        has_refresh_token: true,
        properties: Properties::default(),
    }
}

pub(super) fn event(subject: &str, time: Timestamp, activity: Activity) -> AccountActivity {
    AccountActivity::of(&ActivityEvent {
        id: EventId::fresh(),
        source: EventSource::new("/apps/test").expect("a source"),
        subject: key(subject),
        time,
        traceparent: None,
        activity,
    })
}

/// An account whose user was here an hour ago.
pub(super) fn account(subject: &str, of: &str, overdue: i64) -> AccountActivity {
    event(subject, ago(3600), Activity::UserActivity(details(of, overdue)))
}

pub(super) fn account_of_app(subject: &str, of: &str, app: &str, overdue: i64) -> AccountActivity {
    let details = AccountDetails { client_id: client(app), ..details(of, overdue) };
    event(subject, ago(3600), Activity::UserActivity(details))
}

pub(super) fn hydrated(subject: &str, of: &str, due_in: i64) -> AccountActivity {
    event(subject, ago(0), Activity::Hydrated(details(of, -due_in)))
}

pub(super) fn failed(subject: &str, reason: FailureReason) -> AccountActivity {
    let account = AccountHint::default();
    let failure = AcquisitionFailure { reason, error: None, suberror: None, retry_after: None, account };
    event(subject, ago(1), Activity::AcquisitionFailed(failure))
}

pub(super) fn removed(subject: &str) -> AccountActivity {
    event(subject, ago(1), Activity::Removed(AccountHint::default()))
}

pub(super) fn ask(name: &str, limit: usize) -> ClaimRequest {
    ClaimRequest { worker: worker(name), limit, lease: LONG, tenant: None, client: None, rates: ClaimRates::default() }
}

pub(super) async fn claim(claims: &dyn Claims, request: &ClaimRequest) -> Vec<Claim> {
    claims.claim(request).await.expect("claims")
}

pub(super) async fn claim_one(claims: &dyn Claims, request: &ClaimRequest) -> HeldClaim {
    let mut claimed = claim(claims, request).await;
    assert_eq!(claimed.len(), 1, "one was due");
    claimed.remove(0).held
}

pub(super) fn keys(claims: &[Claim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.held.cache_key.as_str()).collect()
}

pub(super) async fn apply(index: &TestClaims, accounts: &[AccountActivity]) {
    index.store.apply(accounts).await.expect("applied");
}
