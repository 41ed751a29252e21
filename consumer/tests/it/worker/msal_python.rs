//! The real MSAL for Python and our worker on one blob in Redis, in turns.

use common::account::CacheKey;
use common::identity::SilentOptions;
use common::token_cache::Layout;
use consumer::worker::{AccountOutcome, WorkerSettings};
use testkit::python::{MsalClient, StoredCache};

use super::rig::{ADA, CLIENT, GRACE, Rig, SECRET, TENANT, details_of, strict};

fn python(rig: &Rig) -> MsalClient<'_> {
    MsalClient { provider: &rig.provider, tenant: TENANT, client_id: CLIENT, client_secret: SECRET, scope: "User.Read" }
}

fn stored<'a>(rig: &'a Rig, layout: Layout, key: &'a str) -> StoredCache<'a> {
    let prefix = rig.prefix.as_ref().unwrap();
    StoredCache { redis_url: prefix.redis_url(), prefix: prefix.as_str(), key, is_hash: layout == Layout::Aspnet }
}

fn forced() -> WorkerSettings {
    let silent = SilentOptions { force_refresh: true, ..SilentOptions::default() };
    WorkerSettings { silent, ..WorkerSettings::default() }
}

/// One user, signed in by whoever; then both sides refresh in turns.
async fn take_turns(rig: &Rig, layout: Layout, username: &str, key: &CacheKey) {
    let python = python(rig);
    let stored = stored(rig, layout, key.as_str());
    rig.age(key).await;
    let report = rig.hydrate().await;
    assert_eq!(report.hydrated, 1, "we refresh what has expired: {report:?}");
    let answer = python.silent_in(&stored, username, false).await;
    assert_eq!((answer.kind.as_str(), answer.network_calls), ("cache", 0), "MSAL finds our token in the cache");
    assert!(rig.provider.validate(&answer.access_token.unwrap()).is_some());

    rig.age(key).await;
    let answer = python.silent_in(&stored, username, false).await;
    assert_eq!(answer.kind, "identity_provider", "after its expiry MSAL refreshes with our refresh token");
    assert!(rig.provider.validate(&answer.access_token.unwrap()).is_some());
    assert_eq!(rig.hydrate().await.count(AccountOutcome::StillValid), 1, "we find MSAL's token in the cache");

    for turn in 0..10 {
        if turn % 2 == 0 {
            let report = rig.hydrate_with(forced()).await;
            assert_eq!(report.hydrated, 1, "turn {turn}: {report:?}");
        } else {
            let answer = python.silent_in(&stored, username, true).await;
            assert_eq!(answer.kind, "identity_provider", "turn {turn}: {:?}", answer.error);
        }
    }
    let blob = rig.blob(key).await;
    assert_eq!((blob.refresh_tokens().count(), blob.access_tokens().count()), (1, 1), "nothing has piled up");
    assert_eq!(rig.provider.families_revoked(), 0);
}

async fn signed_in_by_msal(layout: Layout) {
    let rig = Rig::on_redis(strict(), layout).await;
    let key: CacheKey = testkit::identity_provider::User::new(TENANT, ADA, ADA).home_account_id().parse().unwrap();
    let signed_in = python(&rig).sign_in_to(&stored(&rig, layout, key.as_str()), ADA).await;
    assert_eq!(signed_in.home_account_id, key.as_str());
    let tokens = rig.tokens(ADA).await;
    rig.list(&key, &details_of(&tokens, ADA)).await;
    take_turns(&rig, layout, ADA, &key).await;
}

async fn signed_in_by_us(layout: Layout) {
    let rig = Rig::on_redis(strict(), layout).await;
    let grace = rig.sign_in(GRACE).await;
    let answer = python(&rig).silent_in(&stored(&rig, layout, grace.key.as_str()), GRACE, false).await;
    assert_eq!((answer.kind.as_str(), answer.network_calls), ("cache", 0), "MSAL finds the sign-in's token");
    take_turns(&rig, layout, GRACE, &grace.key).await;
}

#[tokio::test]
async fn msal_for_python_signs_in_and_both_refresh_in_turns_in_plain_values() {
    signed_in_by_msal(Layout::String).await;
}

#[tokio::test]
async fn msal_for_python_signs_in_and_both_refresh_in_turns_in_hashes() {
    signed_in_by_msal(Layout::Aspnet).await;
}

#[tokio::test]
async fn we_sign_in_and_msal_for_python_refreshes_in_turns_with_the_worker() {
    signed_in_by_us(Layout::String).await;
}
