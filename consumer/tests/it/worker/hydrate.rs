//! One run over the index: who is hydrated, who is not, who is left alone; and what the log and the index are told.

use std::time::Duration;

use common::account::CacheKey;
use common::event::{AccountHint, Activity, EventDraft, FailureReason};
use common::identity::{OnBehalfOfSession, SilentOptions};
use common::index::{AccountState, Filter, Query};
use common::token_cache::msal::TokenCacheBlob;
use common::token_cache::{Expiry, Layout};
use consumer::worker::{AccountOutcome, Selection, Skipped, WorkerSettings};
use jiff::Timestamp;
use testkit::identity_provider::{Fault, FaultRule, Options, User};
use testkit::wait_until;
use tokio_util::sync::CancellationToken;

use super::rig::{ADA, GRACE, Rig, client, details_of, everybody, secrets, strict, tenant, web};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_token_that_is_valid_needs_nothing_and_tells_nothing() {
    let rig = Rig::embedded(strict()).await;
    rig.sign_in(ADA).await;
    let before = rig.refreshes();
    let report = rig.hydrate().await;
    assert_eq!((report.accounts, report.hydrated, report.count(AccountOutcome::StillValid)), (1, 0, 1));
    assert_eq!((rig.refreshes(), rig.events().await.len()), (before, 0));
}

#[tokio::test]
async fn an_expired_token_is_refreshed_and_the_index_learns_of_it() {
    let rig = Rig::embedded(strict()).await;
    let ada = rig.sign_in(ADA).await;
    for round in 1..=3 {
        rig.expire();
        let before = rig.blob(&ada.key).await;
        let report = rig.hydrate().await;
        assert_eq!((report.accounts, report.hydrated, report.failed), (1, 1, 0), "round {round}");
        let after = rig.blob(&ada.key).await;
        assert_ne!(secrets(&before), secrets(&after));
        let events = rig.events().await;
        let [Activity::Hydrated(details)] = [&events[0].activity] else { panic!("{events:?}") };
        let expires_on = after.access_tokens().next().unwrap().expires_on;
        assert_eq!(details.access_token_expires_on, Some(expires_on));
        assert_eq!((events.len(), events[0].source.as_str()), (1, "/workers/hydrate"));
        let account = rig.account(&ada.key).await;
        let known = account.details.as_ref().unwrap();
        assert_eq!(account.last_hydration, Some(events[0].time));
        assert_eq!(known.value.username, details_of(&ada.tokens, ADA).username, "as the web app wrote it");
        assert_eq!(known.value.properties, details_of(&ada.tokens, ADA).properties, "properties survive a hydration");
    }
    assert_eq!(rig.provider.families_revoked(), 0);
}

#[tokio::test]
async fn a_token_that_is_due_for_renewal_is_renewed_within_the_run() {
    let rig = Rig::embedded(Options { refresh_in: Some(Duration::from_secs(1800)), ..strict() }).await;
    rig.sign_in(ADA).await;
    rig.provider.advance(Duration::from_secs(1801));
    let report = rig.hydrate().await;
    assert_eq!((report.hydrated, report.count(AccountOutcome::Hydrated)), (1, 1));
    assert_eq!(rig.events().await.len(), 1);
    rig.provider.advance(Duration::from_secs(1801));
    rig.provider.inject(Fault::ServerError { status: 503, retry_after_seconds: None });
    let report = rig.hydrate().await;
    assert_eq!((report.hydrated, report.count(AccountOutcome::StillValid)), (0, 1), "the valid token serves");
}

#[tokio::test]
async fn hydrating_keeps_the_expiry_of_the_blob() {
    for layout in [Layout::Aspnet, Layout::String] {
        let rig = Rig::on_redis(strict(), layout).await;
        let ada = rig.sign_in(ADA).await;
        let blob = rig.blob(&ada.key).await;
        let expiry = Expiry { absolute: Some(Timestamp::now() + Duration::from_secs(5000)), sliding: None };
        rig.put_until(&ada.key, &blob.serialize(), expiry).await;
        rig.expire();
        assert_eq!(rig.hydrate().await.hydrated, 1);
        let prefix = rig.prefix.as_ref().unwrap();
        let mut redis = redis::Client::open(prefix.redis_url()).unwrap().get_connection().unwrap();
        let ttl: i64 = redis::cmd("TTL").arg(format!("{prefix}{}", ada.key)).query(&mut redis).unwrap();
        assert!((4900..=5000).contains(&ttl), "{layout}: {ttl}");
    }
}

#[tokio::test]
async fn the_scopes_are_those_of_the_settings_else_those_of_the_blob() {
    let rig = Rig::embedded(strict()).await;
    let ada = rig.sign_in(ADA).await;
    let scopes = "Mail.Read".parse().unwrap();
    let report = rig.hydrate_with(WorkerSettings { scopes, ..WorkerSettings::default() }).await;
    assert_eq!(report.hydrated, 1, "a token for other scopes than the blob has");
    assert_eq!(rig.blob(&ada.key).await.access_tokens().count(), 2);
    rig.expire();
    assert_eq!(rig.hydrate().await.hydrated, 1);
    let blob = rig.blob(&ada.key).await;
    let newest = blob.access_tokens().max_by_key(|token| token.cached_at).unwrap();
    assert!(newest.target.contains("Mail.Read"), "those of the newest token: {}", newest.target);
}

#[tokio::test]
async fn why_there_is_no_token_is_told_and_the_others_go_on() {
    let rig = Rig::embedded(strict()).await;
    let (ada, grace) = (rig.sign_in(ADA).await, rig.sign_in(GRACE).await);
    rig.expire();
    let faults = [
        (Fault::InteractionRequired { claims: None }, FailureReason::InteractionRequired),
        (Fault::InvalidGrant { suberror: Some("bad_token".to_owned()) }, FailureReason::Revoked),
        (Fault::TooManyRequests { retry_after_seconds: 90 }, FailureReason::Throttled),
        (Fault::ServerError { status: 503, retry_after_seconds: None }, FailureReason::IdentityProviderUnavailable),
        (Fault::DropConnection, FailureReason::IdentityProviderUnavailable),
    ];
    for (fault, reason) in faults {
        rig.provider.inject(FaultRule::from(fault).for_user(ADA));
        let forced = SilentOptions { force_refresh: true, ..SilentOptions::default() };
        let all = WorkerSettings {
            silent: forced,
            tries_parked: true,
            concurrency: std::num::NonZeroUsize::MIN,
            ..WorkerSettings::default()
        };
        let report = rig.hydrate_with(all).await;
        let failures = rig.failures().await;
        // Grace was here last, so she is before Ada, and a throttled tenant is not asked any more after Ada.
        assert_eq!((report.hydrated, report.failed), (1, 1), "{reason:?}: {report:?}");
        assert_eq!(failures.iter().map(|f| f.reason).collect::<Vec<_>>(), [reason]);
        assert_eq!(failures[0].account.home_account_id.as_ref(), Some(&ada.tokens.home_account_id));
        assert_eq!(failures[0].retry_after.is_some(), reason == FailureReason::Throttled);
        let state = rig.account(&ada.key).await.state();
        let parks = matches!(reason, FailureReason::InteractionRequired | FailureReason::Revoked);
        assert_eq!(state, if parks { AccountState::Parked } else { AccountState::BackingOff });
        assert_eq!(rig.account(&grace.key).await.state(), AccountState::Ready);
        rig.provider.clear_faults();
        rig.provider.advance(Duration::from_secs(91));
    }
    assert_eq!(rig.hydrate().await.count(AccountOutcome::StillValid), 1);
}

#[tokio::test]
async fn those_that_wait_are_left_alone_unless_they_are_asked_for() {
    let rig = Rig::embedded(strict()).await;
    let ada = rig.sign_in(ADA).await;
    rig.expire();
    rig.provider.inject(FaultRule::from(Fault::InteractionRequired { claims: None }).times(1));
    rig.hydrate().await;
    assert_eq!(rig.failures().await.len(), 1);
    let before = rig.refreshes();
    assert_eq!(rig.hydrate().await.count(AccountOutcome::Skipped(Skipped::Parked)), 1);
    assert_eq!((rig.refreshes(), rig.events().await.len()), (before, 0));
    let insisting = WorkerSettings { tries_parked: true, ..WorkerSettings::default() };
    assert_eq!(rig.hydrate_with(insisting).await.hydrated, 1);
    rig.events().await;
    assert_eq!(rig.account(&ada.key).await.state(), AccountState::Ready, "a hydration heals it");

    rig.expire();
    rig.provider.inject(FaultRule::from(Fault::TooManyRequests { retry_after_seconds: 60 }).times(1));
    rig.hydrate().await;
    rig.events().await;
    assert_eq!(rig.hydrate().await.count(AccountOutcome::Skipped(Skipped::BackingOff)), 1);
    rig.provider.advance(Duration::from_secs(61));
    assert_eq!(rig.hydrate().await.hydrated, 1, "when its time is over it is tried again");
}

#[tokio::test]
async fn a_missing_cache_and_one_without_a_refresh_token_are_told_apart() {
    let rig = Rig::embedded(strict()).await;
    let (ada, grace) = (rig.sign_in(ADA).await, rig.sign_in(GRACE).await);
    rig.cache.store.remove(&ada.key, None).await.unwrap();
    rig.put(&grace.key, b"{}").await;
    let report = rig.hydrate().await;
    assert_eq!(report.count(AccountOutcome::NoToken(FailureReason::CacheMissing)), 1);
    assert_eq!(report.count(AccountOutcome::NoToken(FailureReason::NoRefreshToken)), 1);
    assert_eq!((report.failed, report.examples.len()), (2, 2));
    assert_eq!(rig.cache.store.read(&ada.key).await.unwrap(), None, "nothing is made anew");
}

#[tokio::test]
async fn accounts_of_other_apps_and_removed_ones_are_left_alone() {
    let rig = Rig::embedded(strict()).await;
    let (ada, grace) = (rig.sign_in(ADA).await, rig.sign_in(GRACE).await);
    let mut details = details_of(&grace.tokens, GRACE);
    details.client_id = "another-app".parse().unwrap();
    rig.list(&grace.key, &details).await;
    rig.expire();
    let report = rig.hydrate().await;
    assert_eq!((report.hydrated, report.count(AccountOutcome::Skipped(Skipped::OtherClient))), (1, 1));
    rig.cache.store.remove(&ada.key, None).await.unwrap();
    let nobody: CacheKey = "nobody".parse().unwrap();
    let mut worker = rig.worker(WorkerSettings::default());
    let report = worker.hydrate(&Selection::One(nobody), CancellationToken::new()).await.unwrap();
    assert_eq!(report.accounts, 0, "an account nobody knows is no account");
}

#[tokio::test]
async fn a_selection_is_narrowed_by_tenant_and_number() {
    let rig = Rig::embedded(strict()).await;
    for number in 0..7 {
        let name = format!("user{number}@contoso.com");
        rig.provider.register_user(User::new(super::rig::TENANT, &name, &name));
        rig.sign_in(&name).await;
    }
    let hydrate = async |selection: Selection| {
        let mut worker = rig.worker(WorkerSettings::default());
        worker.hydrate(&selection, CancellationToken::new()).await.unwrap().accounts
    };
    assert_eq!(hydrate(everybody()).await, 7);
    assert_eq!(hydrate(everybody().narrowed(Filter::default(), Some(3))).await, 3);
    let elsewhere = Filter { tenant: Some(tenant("elsewhere")), ..Filter::default() };
    assert_eq!(hydrate(everybody().narrowed(elsewhere, None)).await, 0);
    assert_eq!(hydrate(Selection::user("USER3@contoso.com".parse().unwrap())).await, 1);
    assert_eq!(hydrate(Selection::idle_for(Duration::from_secs(3600))).await, 0);
    let query = Query::IdleSince(Timestamp::now());
    assert_eq!(hydrate(Selection::Listed { query, filter: Filter::default(), limit: None }).await, 7);
}

#[tokio::test]
async fn under_an_authority_of_all_tenants_each_user_is_refreshed_in_the_tenant_of_their_blob() {
    const RESOURCE: &str = "0a3b1c5d-9e8f-4a6b-8c7d-1e2f3a4b5c6d";
    let mut rig = Rig::embedded(strict()).await;
    rig.provider.register_user(User::new(super::rig::TENANT, ADA, ADA).guest_in(RESOURCE));
    let home = rig.sign_in(GRACE).await;
    rig.client = client(&rig.provider, RESOURCE).await;
    let scopes = "openid profile offline_access User.Read";
    let answer = rig.provider.sign_in(super::rig::CLIENT, RESOURCE, ADA, scopes).unwrap();
    let refresh_token = answer["refresh_token"].as_str().unwrap().into();
    let home_account_id = User::new(super::rig::TENANT, ADA, ADA).home_account_id().parse().unwrap();
    let tokens = rig.client.refresh(&refresh_token, &home_account_id, &"User.Read".parse().unwrap()).await.unwrap();
    let mut blob = TokenCacheBlob::empty();
    tokens.save_into(&mut blob);
    let guest: CacheKey = home_account_id.as_str().parse().unwrap();
    rig.put(&guest, &blob.serialize()).await;
    rig.list(&guest, &details_of(&tokens, ADA)).await;

    rig.client = client(&rig.provider, "common").await;
    rig.expire();
    assert_eq!(rig.hydrate().await.hydrated, 2);
    for (key, tenant) in [(&guest, RESOURCE), (&home.key, super::rig::TENANT)] {
        let (access, _) = secrets(&rig.blob(key).await);
        assert_eq!(access.len(), 1);
        assert_eq!(rig.provider.validate(&access[0]).unwrap().tenant_id, tenant);
    }
}

#[tokio::test]
async fn the_session_of_an_api_is_hydrated_under_its_own_key() {
    let rig = Rig::embedded(strict()).await;
    let scopes = format!("openid profile offline_access api://{}/access", super::rig::CLIENT);
    let answer = rig.provider.sign_in(super::rig::CLIENT, super::rig::TENANT, ADA, &scopes).unwrap();
    let assertion = answer["access_token"].as_str().unwrap().into();
    let key: CacheKey = "night-job-7".parse().unwrap();
    let session = OnBehalfOfSession::LongRunning(key.clone());
    let tokens = rig.client.on_behalf_of(&assertion, &"Mail.Read".parse().unwrap(), &session).await.unwrap();
    let mut blob = TokenCacheBlob::empty();
    tokens.save_into(&mut blob);
    rig.put(&key, &blob.serialize()).await;
    rig.list(&key, &details_of(&tokens, ADA)).await;
    assert_eq!(rig.hydrate().await.count(AccountOutcome::StillValid), 1);
    rig.expire();
    let report = rig.hydrate().await;
    assert_eq!(report.hydrated, 1, "{report:?}");
    let blob = rig.blob(&key).await;
    let tokens: Vec<_> = blob.access_tokens().collect();
    assert_eq!((tokens.len(), tokens[0].assertion_hash), (1, Some("night-job-7")));
    let live = rig.provider.validate(tokens[0].secret.expose_secret()).unwrap();
    assert_eq!((live.username.as_deref(), live.permissions.as_str()), (Some(ADA), "Mail.Read"));
}

#[tokio::test]
async fn a_user_who_signs_out_while_their_token_is_refreshed_stays_signed_out() {
    let rig = Rig::embedded(strict()).await;
    let ada = rig.sign_in(ADA).await;
    rig.expire();
    rig.provider.inject(Fault::Delay { millis: 300 });
    let sign_out = async {
        wait_until(PATIENCE, async || rig.is_locked(&ada.key).await).await;
        let removal = EventDraft::new(web(), ada.key.clone(), Activity::Removed(AccountHint::default()));
        assert!(rig.cache.store.remove(&ada.key, Some(&removal)).await.unwrap());
    };
    let (report, ()) = tokio::join!(rig.hydrate(), sign_out);
    assert_eq!((report.hydrated, report.count(AccountOutcome::NoToken(FailureReason::CacheMissing))), (0, 1));
    assert_eq!(rig.cache.store.read(&ada.key).await.unwrap(), None, "nothing is made anew");
    rig.events().await;
    assert_eq!(rig.account(&ada.key).await.state(), AccountState::Removed);
    assert_eq!(rig.hydrate().await.accounts, 0, "and nobody lists the account");
}
