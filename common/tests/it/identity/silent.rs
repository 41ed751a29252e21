//! Acquiring tokens silently: from the blob, by a refresh, in the background, by many at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::account::CacheKey;
use common::event::FailureReason;
use common::identity::{AcquireError, OnBehalfOfSession, SilentRequest, TokenSource};
use common::token_cache::msal::TokenCacheBlob;
use testkit::identity_provider::{Fault, Options, Rotation, User};

use super::rig::{Rig, Watched, acquirer, blob_of};
use super::{ADA, CLIENT, HOME, OTHER, client, discover, provider, scopes, settings, sign_in, tenant};

async fn rig(options: Options) -> Rig {
    let provider = provider(options).await;
    let client = client(&provider, HOME).await;
    Rig::new(&provider, client).await
}

fn strict() -> Options {
    Options { rotation: Rotation::Strict, ..Options::default() }
}

fn refresh_token(blob: &TokenCacheBlob) -> String {
    blob.refresh_tokens().next().unwrap().secret.expose_secret().to_owned()
}

#[tokio::test]
async fn a_valid_token_costs_one_read_and_no_call() {
    let rig = rig(Options::default()).await;
    let acquired = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    assert_eq!(acquired.source, TokenSource::Cache);
    assert_eq!(acquired.token.expose(), rig.signed_in.access_token.expose());
    assert_eq!((rig.store.reads.load(Ordering::SeqCst), rig.store.writes.load(Ordering::SeqCst)), (1, 0));
    assert_eq!(rig.refreshes(), 0);
}

#[tokio::test]
async fn an_expired_token_is_refreshed_and_written_back() {
    let rig = rig(strict()).await;
    for round in 1..=3 {
        rig.expire();
        let before = refresh_token(&rig.blob().await);
        let acquired = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
        assert_eq!(acquired.source, TokenSource::Refreshed);
        assert!(rig.provider.validate(acquired.token.expose()).is_some());
        let blob = rig.blob().await;
        assert_ne!(refresh_token(&blob), before, "the rotated token is kept");
        assert_eq!((blob.refresh_tokens().count(), blob.access_tokens().count()), (1, 1));
        let again = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
        assert_eq!((again.source, again.token.expose()), (TokenSource::Cache, acquired.token.expose()));
        assert_eq!(rig.refreshes(), round);
    }
    assert_eq!(rig.provider.families_revoked(), 0);
}

#[tokio::test]
async fn less_than_five_minutes_are_not_enough_unless_the_caller_says_so() {
    let rig = rig(Options::default()).await;
    rig.provider.advance(Duration::from_secs(3600 - 200));
    let mut modest = rig.request.clone();
    modest.options.min_remaining = Duration::from_secs(60);
    assert_eq!(rig.acquirer.acquire_token_silent(&modest).await.unwrap().source, TokenSource::Cache);
    assert_eq!(rig.acquirer.acquire_token_silent(&rig.request).await.unwrap().source, TokenSource::Refreshed);
}

#[tokio::test]
async fn a_forced_refresh_asks_the_provider_although_the_token_is_valid() {
    let rig = rig(Options::default()).await;
    let acquired = rig.acquirer.acquire_token_silent(&rig.request.clone().forced()).await.unwrap();
    assert_eq!(acquired.source, TokenSource::Refreshed);
    assert_ne!(acquired.token.expose(), rig.signed_in.access_token.expose());
}

#[tokio::test]
async fn other_scopes_are_had_with_the_same_refresh_token() {
    let rig = rig(strict()).await;
    let mail = SilentRequest { scopes: scopes("Mail.Read"), ..rig.request.clone() };
    let acquired = rig.acquirer.acquire_token_silent(&mail).await.unwrap();
    assert_eq!(rig.provider.validate(acquired.token.expose()).unwrap().permissions, "Mail.Read");
    assert_eq!(rig.blob().await.access_tokens().count(), 2);
    assert_eq!(rig.acquirer.acquire_token_silent(&rig.request).await.unwrap().source, TokenSource::Cache);
}

#[tokio::test]
async fn a_token_that_is_due_is_handed_out_and_renewed_behind_it() {
    let rig = rig(Options { refresh_in: Some(Duration::from_secs(1800)), ..strict() }).await;
    rig.provider.advance(Duration::from_secs(1801));
    let acquired = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    assert_eq!(acquired.source, TokenSource::CacheRefreshDue);
    assert_eq!(acquired.token.expose(), rig.signed_in.access_token.expose());
    rig.acquirer.drain().await;
    assert_eq!(rig.refreshes(), 1);
    let renewed = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    assert_eq!(renewed.source, TokenSource::Cache);
    assert_ne!(renewed.token.expose(), acquired.token.expose());
}

#[tokio::test]
async fn where_the_renewal_fails_the_valid_token_serves_and_the_provider_is_left_alone_for_a_minute() {
    let rig = rig(Options { refresh_in: Some(Duration::from_secs(1800)), ..strict() }).await;
    rig.provider.advance(Duration::from_secs(1801));
    rig.provider.inject(Fault::ServerError { status: 500, retry_after_seconds: None });
    for calls in [1, 1, 2] {
        let acquired = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
        assert_eq!(acquired.token.expose(), rig.signed_in.access_token.expose());
        rig.acquirer.drain().await;
        assert_eq!(rig.refreshes(), calls);
        rig.provider.advance(Duration::from_secs(40));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_callers_at_once_cost_one_call_and_share_its_token() {
    let rig = Arc::new(rig(strict()).await);
    rig.expire();
    rig.provider.inject(Fault::Delay { millis: 50 });
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move { rig.acquirer.acquire_token_silent(&rig.request).await.unwrap() })
        })
        .collect();
    let mut tokens = HashSet::new();
    for call in calls {
        tokens.insert(call.await.unwrap().token.expose().to_owned());
    }
    assert_eq!((rig.refreshes(), tokens.len()), (1, 1));
}

#[tokio::test]
async fn a_hundred_callers_share_one_failure() {
    let rig = rig(Options::default()).await;
    rig.expire();
    rig.provider.inject(Fault::InteractionRequired { claims: None });
    let calls = (0..100).map(|_| rig.acquirer.acquire_token_silent(&rig.request));
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(outcome.unwrap_err().reason(), FailureReason::InteractionRequired);
    }
    assert_eq!(rig.refreshes(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_for_different_scopes_do_not_spend_one_refresh_token_twice() {
    let rig = Arc::new(rig(strict()).await);
    rig.expire();
    let calls = ["User.Read", "Mail.Read", "Files.Read", "Tasks.Read", "Notes.Read"].map(|scope| {
        let rig = Arc::clone(&rig);
        let request = SilentRequest { scopes: scopes(scope), ..rig.request.clone() };
        tokio::spawn(async move { rig.acquirer.acquire_token_silent(&request).await.unwrap() })
    });
    for call in calls {
        assert!(rig.provider.validate(call.await.unwrap().token.expose()).is_some());
    }
    assert_eq!((rig.refreshes(), rig.provider.families_revoked()), (5, 0));
    assert_eq!(rig.blob().await.access_tokens().count(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_processes_refreshing_the_same_users_at_once_lose_nobody() {
    const USERS: usize = 20;
    const PROCESSES: usize = 16;
    let provider = provider(strict()).await;
    let client = client(&provider, HOME).await;
    let store = Watched::open().await;
    let mut requests = Vec::new();
    for user in 0..USERS {
        let username = format!("user{user}@contoso.com");
        provider.register_user(User::new(HOME, &username, "User"));
        let tokens = sign_in(&client, &username).await.tokens;
        let key = CacheKey::new(tokens.home_account_id.as_str()).unwrap();
        store.put(&key, &blob_of(&tokens).serialize()).await;
        requests.push(SilentRequest::new(key, tokens.home_account_id, scopes("User.Read")));
    }
    provider.advance(Duration::from_secs(3600));
    let processes: Vec<_> = (0..PROCESSES).map(|_| acquirer(&store, client.clone(), true)).collect();
    let calls = processes.iter().flat_map(|process| {
        requests.iter().map(|request| {
            let (process, request) = (process.clone(), request.clone());
            tokio::spawn(async move { process.acquire_token_silent(&request).await })
        })
    });
    for call in calls.collect::<Vec<_>>() {
        let acquired = call.await.unwrap().unwrap();
        assert!(provider.validate(acquired.token.expose()).is_some());
    }
    assert_eq!(provider.families_revoked(), 0);
    assert_eq!(provider.all_token_requests().with_grant("refresh_token"), USERS as u64);
}

#[tokio::test]
async fn a_refresh_whose_caller_is_gone_ends_and_is_written_back() {
    let rig = rig(strict()).await;
    rig.expire();
    rig.provider.inject(Fault::Delay { millis: 100 });
    let (acquirer, request) = (rig.acquirer.clone(), rig.request.clone());
    let caller = tokio::spawn(async move { acquirer.acquire_token_silent(&request).await });
    testkit::wait_until(Duration::from_secs(5), || async { rig.store.reads.load(Ordering::SeqCst) == 2 }).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let acquired = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    assert!(rig.provider.validate(acquired.token.expose()).is_some());
    assert_eq!((rig.refreshes(), rig.provider.families_revoked()), (1, 0));
}

#[tokio::test]
async fn a_guest_s_token_and_their_own_stand_beside_each_other() {
    let provider = provider(strict()).await;
    let common = client(&provider, "common").await;
    let rig = Rig::new(&provider, common).await;
    let guest = SilentRequest { tenant: Some(tenant(OTHER)), ..rig.request.clone() };
    let acquired = rig.acquirer.acquire_token_silent(&guest).await.unwrap();
    assert_eq!(acquired.source, TokenSource::Refreshed);
    assert_eq!(provider.validate(acquired.token.expose()).unwrap().tenant_id, OTHER);
    for (request, tenant_id) in [(&guest, OTHER), (&rig.request, HOME)] {
        let acquired = rig.acquirer.acquire_token_silent(request).await.unwrap();
        assert_eq!(acquired.source, TokenSource::Cache);
        assert_eq!(provider.validate(acquired.token.expose()).unwrap().tenant_id, tenant_id);
    }
}

#[tokio::test]
async fn a_blob_of_a_library_that_writes_common_as_the_realm_is_read_and_stays_so() {
    let provider = provider(strict()).await;
    let client = client(&provider, "common").await;
    let rig = Rig::new(&provider, client).await;
    let mut tokens = rig.signed_in.clone();
    tokens.realm = "common".to_owned();
    rig.store.put(&rig.request.cache_key, &blob_of(&tokens).serialize()).await;
    assert_eq!(rig.acquirer.acquire_token_silent(&rig.request).await.unwrap().source, TokenSource::Cache);
    rig.expire();
    rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    let blob = rig.blob().await;
    let realms: Vec<&str> = blob.access_tokens().map(|token| token.realm).collect();
    assert_eq!(realms, ["common"]);
}

#[tokio::test]
async fn an_api_exchanges_an_assertion_once_and_a_long_running_session_outlives_it() {
    let provider = provider(strict()).await;
    let mut own_api = settings(&provider, HOME);
    own_api.scopes = scopes(&format!("api://{CLIENT}/access"));
    let client = discover(&provider, own_api).await;
    let rig = Rig::new(&provider, client).await;
    let assertion = rig.signed_in.access_token.expose().to_owned().into();
    let mail = scopes("Mail.Read");

    let first = rig.acquirer.acquire_on_behalf_of(&assertion, &mail, &OnBehalfOfSession::Assertion).await.unwrap();
    let again = rig.acquirer.acquire_on_behalf_of(&assertion, &mail, &OnBehalfOfSession::Assertion).await.unwrap();
    assert_eq!((first.source, again.source), (TokenSource::Refreshed, TokenSource::Cache));

    let key = CacheKey::new("night-job-7").unwrap();
    let session = OnBehalfOfSession::LongRunning(key.clone());
    rig.acquirer.acquire_on_behalf_of(&assertion, &mail, &session).await.unwrap();
    rig.expire();
    let request = SilentRequest::new(key.clone(), rig.signed_in.home_account_id.clone(), mail.clone());
    let outside = rig.acquirer.acquire_token_silent(&request).await.unwrap_err();
    assert!(matches!(outside, AcquireError::NoRefreshToken), "{outside:?}");
    let later = rig.acquirer.acquire_token_silent(&request.in_session()).await.unwrap();
    assert_eq!(later.source, TokenSource::Refreshed);
    assert_eq!(provider.validate(later.token.expose()).unwrap().username.as_deref(), Some(ADA));
    let blob = rig.store.blob(&key).await.unwrap();
    assert!(blob.refresh_tokens().all(|token| token.assertion_hash == Some("night-job-7")));

    let session = OnBehalfOfSession::Assertion;
    let files = rig.acquirer.acquire_on_behalf_of(&assertion, &scopes("Files.Read"), &session).await.unwrap();
    assert_eq!(files.source, TokenSource::Refreshed, "the assertion has expired; its session has a refresh token");
    let unknown = "expired".to_owned().into();
    let refused = rig.acquirer.acquire_on_behalf_of(&unknown, &mail, &session).await.unwrap_err();
    assert_eq!(refused.reason(), FailureReason::InteractionRequired);
}
