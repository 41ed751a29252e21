//! What may go wrong while a token is acquired: the provider, the store, other writers, sign-outs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::account::CacheKey;
use common::event::{AccountHint, FailureReason};
use common::identity::{AcquireError, SilentRequest, TokenSource};
use common::token_cache::TokenCacheStore as _;
use common::token_cache::msal::TokenCacheBlob;
use futures_util::FutureExt as _;
use testkit::identity_provider::{Fault, FaultRule, Options, Rotation, User};

use super::rig::{Interference, Rig, blob_of};
use super::{HOME, OTHER, client, provider, scopes, sign_in, tenant};

async fn rig() -> Rig {
    let provider = provider(Options { rotation: Rotation::Strict, ..Options::default() }).await;
    let client = client(&provider, HOME).await;
    let rig = Rig::new(&provider, client).await;
    rig.expire();
    rig
}

fn other_program(rig: &Rig, change: impl FnOnce(TokenCacheBlob) -> Vec<u8> + Send + 'static) -> Interference {
    let (store, key) = (Arc::clone(&rig.store), rig.request.cache_key.clone());
    Interference::Before(
        async move {
            let blob = store.blob(&key).await.unwrap();
            store.put(&key, &change(blob)).await;
        }
        .boxed(),
    )
}

/// Adds something that no library of ours knows.
fn marked(blob: &TokenCacheBlob, mark: &str) -> Vec<u8> {
    let mut json: serde_json::Value = serde_json::from_slice(&blob.serialize()).unwrap();
    json[mark] = serde_json::json!({"by": "another program"});
    serde_json::to_vec(&json).unwrap()
}

fn sign_out(rig: &Rig) -> Interference {
    let (store, key) = (Arc::clone(&rig.store), rig.request.cache_key.clone());
    Interference::Before(
        async move {
            store.cache.remove(&key, None).await.unwrap();
        }
        .boxed(),
    )
}

#[tokio::test]
async fn each_refusal_of_the_provider_has_its_reason() {
    let rig = rig().await;
    let invalid = |suberror: Option<&str>| Fault::InvalidGrant { suberror: suberror.map(str::to_owned) };
    let cases = [
        (invalid(None), FailureReason::InteractionRequired, "invalid_grant"),
        (invalid(Some("consent_required")), FailureReason::InteractionRequired, "invalid_grant"),
        (invalid(Some("bad_token")), FailureReason::Revoked, "invalid_grant"),
        (invalid(Some("token_expired")), FailureReason::Revoked, "invalid_grant"),
        (invalid(Some("client_mismatch")), FailureReason::NoRefreshToken, "invalid_grant"),
        (invalid(Some("protection_policy_required")), FailureReason::IdentityProviderUnavailable, "invalid_grant"),
        (Fault::InteractionRequired { claims: None }, FailureReason::InteractionRequired, "interaction_required"),
        (
            Fault::ServerError { status: 500, retry_after_seconds: None },
            FailureReason::IdentityProviderUnavailable,
            "temporarily_unavailable",
        ),
    ];
    for (fault, reason, code) in cases {
        rig.provider.inject(fault.clone());
        let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
        rig.provider.clear_faults();
        let failure = error.failure(AccountHint::default());
        assert_eq!(failure.reason, reason, "{fault:?}");
        assert_eq!(failure.error.unwrap().as_str(), code, "{fault:?}");
    }
    assert!(rig.acquirer.acquire_token_silent(&rig.request).await.is_ok());
}

#[tokio::test]
async fn the_claims_of_a_challenge_reach_the_caller() {
    let rig = rig().await;
    let challenge = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    rig.provider.inject(Fault::InteractionRequired { claims: Some(challenge.to_owned()) });
    let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert_eq!(error.claims().unwrap().expose(), challenge);
    assert!(!format!("{error:?}").contains("acrs"));
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_unavailable() {
    let rig = rig().await;
    for fault in [Fault::DropConnection, Fault::ServerError { status: 503, retry_after_seconds: None }] {
        rig.provider.inject(fault);
        let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
        assert_eq!(error.reason(), FailureReason::IdentityProviderUnavailable);
        assert!(error.is_transient());
        rig.provider.clear_faults();
    }
    assert!(rig.acquirer.acquire_token_silent(&rig.request).await.is_ok());
}

#[tokio::test]
async fn a_provider_that_asks_for_time_gets_it_for_every_account_of_the_tenant() {
    let provider = provider(Options::default()).await;
    let client = client(&provider, "common").await;
    let rig = Rig::new(&provider, client).await;
    rig.expire();
    let in_home = FaultRule::from(Fault::TooManyRequests { retry_after_seconds: 120 }).in_tenant(HOME).times(1);
    rig.provider.inject(in_home);
    let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Throttled);
    let until = error.retry_after().unwrap();
    let calls = rig.refreshes();

    rig.provider.advance(Duration::from_secs(100));
    let mail = SilentRequest { scopes: scopes("Mail.Read"), ..rig.request.clone() };
    let held = rig.acquirer.acquire_token_silent(&mail).await.unwrap_err();
    assert_eq!((held.reason(), held.retry_after()), (FailureReason::Throttled, Some(until)));
    assert_eq!(held.failure(AccountHint::default()).retry_after, Some(until.as_second()));
    assert_eq!(rig.refreshes(), calls, "nobody asked");

    let guest = SilentRequest { tenant: Some(tenant(OTHER)), ..rig.request.clone() };
    assert!(rig.acquirer.acquire_token_silent(&guest).await.is_ok(), "another tenant is not held back");
    rig.provider.advance(Duration::from_secs(21));
    assert!(rig.acquirer.acquire_token_silent(&mail).await.is_ok());
}

#[tokio::test]
async fn a_server_error_with_retry_after_is_honoured_too() {
    let rig = rig().await;
    let busy = FaultRule::from(Fault::ServerError { status: 503, retry_after_seconds: Some(30) }).times(1);
    rig.provider.inject(busy);
    let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::IdentityProviderUnavailable);
    assert!(error.retry_after().is_some());
    assert!(rig.acquirer.acquire_token_silent(&rig.request).await.is_err());
    assert_eq!(rig.refreshes(), 1);
    rig.provider.advance(Duration::from_secs(31));
    assert!(rig.acquirer.acquire_token_silent(&rig.request).await.is_ok());
}

#[tokio::test]
async fn before_the_user_is_blamed_the_blob_is_read_again() {
    let rig = rig().await;
    let newer = sign_in(rig.acquirer.client(), super::ADA).await.tokens;
    rig.provider.inject(FaultRule::from(Fault::InvalidGrant { suberror: Some("bad_token".to_owned()) }).times(1));
    let by_other = blob_of(&newer).serialize().into_owned();
    rig.store.at_reads([Interference::None, Interference::None, other_program(&rig, move |_| by_other)]);
    let acquired = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    assert_eq!(acquired.source, TokenSource::Cache);
    assert_eq!(acquired.token.expose(), newer.access_token.expose());

    rig.expire();
    let newest = sign_in(rig.acquirer.client(), super::ADA).await.tokens;
    rig.expire();
    rig.provider.inject(FaultRule::from(Fault::InvalidGrant { suberror: None }).times(1));
    let by_other = blob_of(&newest).serialize().into_owned();
    rig.store.at_reads([Interference::None, Interference::None, other_program(&rig, move |_| by_other)]);
    let acquired = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    assert_eq!(acquired.source, TokenSource::Refreshed);
}

#[tokio::test]
async fn where_the_token_is_still_the_same_the_user_is_blamed_after_one_call() {
    let rig = rig().await;
    rig.provider.revoke(super::ADA);
    let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Revoked);
    assert_eq!(rig.refreshes(), 1);
}

#[tokio::test]
async fn what_another_program_wrote_meanwhile_is_merged() {
    let rig = rig().await;
    rig.store.at_writes([
        other_program(&rig, |blob| marked(&blob, "First")),
        other_program(&rig, |blob| marked(&blob, "Second")),
    ]);
    let acquired = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&rig.blob().await.serialize()).unwrap();
    assert!(json["First"].is_object() && json["Second"].is_object());
    assert!(rig.provider.validate(acquired.token.expose()).is_some());
    assert_eq!(rig.acquirer.acquire_token_silent(&rig.request).await.unwrap().source, TokenSource::Cache);
    assert_eq!(rig.store.writes.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn conflicts_without_end_are_given_up() {
    let rig = rig().await;
    rig.store.at_writes((0..9).map(|n| other_program(&rig, move |blob| marked(&blob, &format!("Mark{n}")))));
    let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert!(matches!(error, AcquireError::Contended(5)), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_cache_that_was_removed_meanwhile_is_not_made_again() {
    let rig = rig().await;
    rig.store.at_writes([sign_out(&rig)]);
    let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert!(matches!(error, AcquireError::Removed), "{error:?}");
    assert!(rig.store.blob(&rig.request.cache_key).await.is_none());
    let gone = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert!(matches!(gone, AcquireError::CacheMissing), "{gone:?}");
    assert_eq!(gone.reason(), FailureReason::CacheMissing);
}

#[tokio::test]
async fn a_cache_that_was_removed_before_the_refresh_is_not_refreshed() {
    let rig = rig().await;
    rig.store.at_reads([Interference::None, sign_out(&rig)]);
    let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert!(matches!(error, AcquireError::Removed), "{error:?}");
    assert_eq!(rig.refreshes(), 0);
}

#[tokio::test]
async fn an_account_that_signed_out_of_a_shared_blob_stays_out() {
    let rig = rig().await;
    let user = rig.request.home_account_id.as_str().to_owned();
    rig.store.at_writes([other_program(&rig, move |mut blob| {
        blob.remove_account(&user);
        marked(&blob, "Left")
    })]);
    let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert!(matches!(error, AcquireError::Removed), "{error:?}");
    assert_eq!(rig.blob().await.refresh_tokens().count(), 0);
}

#[tokio::test]
async fn a_store_that_is_down_is_never_told_as_no_token() {
    let rig = rig().await;
    rig.store.at_reads([Interference::Down]);
    let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::StoreUnavailable);
    assert!(error.is_transient());
    assert_eq!(rig.refreshes(), 0, "nothing was spent");
}

#[tokio::test]
async fn a_refreshed_token_is_not_given_up_because_the_store_is_away_for_a_moment() {
    let rig = rig().await;
    rig.store.at_writes([Interference::Down, Interference::Down]);
    rig.store.at_reads([Interference::None, Interference::None, Interference::Down]);
    let acquired = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    assert_eq!(acquired.source, TokenSource::Refreshed);
    assert_eq!(rig.acquirer.acquire_token_silent(&rig.request).await.unwrap().source, TokenSource::Cache);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_counts_as_written() {
    let rig = rig().await;
    rig.store.at_writes([Interference::AnswerLost]);
    rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    assert_eq!(rig.store.writes.load(Ordering::SeqCst), 1);
    assert_eq!(rig.acquirer.acquire_token_silent(&rig.request).await.unwrap().source, TokenSource::Cache);
}

#[tokio::test]
async fn a_blob_that_cannot_be_used_is_told_apart_and_nobody_gets_another_user_s_token() {
    let rig = rig().await;
    rig.provider.register_user(User::new(HOME, "bob@contoso.com", "Bob"));
    let bob = sign_in(rig.acquirer.client(), "bob@contoso.com").await.tokens;
    let mut without = blob_of(&bob);
    without.remove_account(bob.home_account_id.as_str());
    let cases = [
        (blob_of(&bob).serialize().into_owned(), FailureReason::MalformedCache),
        (without.serialize().into_owned(), FailureReason::NoRefreshToken),
        (b"{\"AccessToken\":".to_vec(), FailureReason::MalformedCache),
        (b"\x09\xF0\xC9\xF0 protected".to_vec(), FailureReason::Undecryptable),
    ];
    for (blob, reason) in cases {
        rig.store.put(&rig.request.cache_key, &blob).await;
        let error = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error:?}");
    }
    assert_eq!(rig.refreshes(), 0);
    let nobody = SilentRequest { cache_key: CacheKey::new("nobody").unwrap(), ..rig.request.clone() };
    let error = rig.acquirer.acquire_token_silent(&nobody).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::CacheMissing);
}
