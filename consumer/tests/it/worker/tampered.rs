//! Blobs that are not what they should be: a reason, never another user's token, never a crash.

use std::sync::{Arc, Mutex};

use common::account::CacheKey;
use common::event::FailureReason;
use common::identity::SilentOptions;
use common::token_cache::Layout;
use consumer::worker::{AccountOutcome, RunReport, WorkerSettings};
use testkit::identity_provider::IdentityProvider;
use tokio_util::sync::CancellationToken;

use super::rig::{ADA, GRACE, Rig, everybody, strict};

/// Whom each token that was handed out is for, by the user it was handed out for.
async fn handed_out(rig: &Rig, settings: WorkerSettings) -> (RunReport, Vec<(String, Option<String>)>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (provider, tokens): (Arc<IdentityProvider>, _) = (Arc::clone(&rig.provider), Arc::clone(&seen));
    let report = rig
        .worker(settings)
        .for_each(&everybody(), CancellationToken::new(), move |account, token| {
            let asked = account.details.as_ref().unwrap().value.username.as_ref().unwrap().to_string();
            let whose = provider.validate(token.expose()).and_then(|live| live.username);
            tokens.lock().unwrap().push((asked, whose));
            async { Ok::<(), String>(()) }
        })
        .await
        .unwrap();
    let seen = seen.lock().unwrap().clone();
    (report, seen)
}

async fn bytes(rig: &Rig, key: &CacheKey) -> Vec<u8> {
    rig.cache.store.read(key).await.unwrap().unwrap()
}

fn insisting() -> WorkerSettings {
    WorkerSettings { tries_parked: true, ..WorkerSettings::default() }
}

fn count(report: &RunReport, reason: FailureReason) -> u64 {
    report.count(AccountOutcome::NoToken(reason))
}

#[tokio::test]
async fn two_users_whose_blobs_were_swapped_get_no_token() {
    for layout in [Layout::Aspnet, Layout::String] {
        let rig = Rig::on_redis(strict(), layout).await;
        let (ada, grace) = (rig.sign_in(ADA).await, rig.sign_in(GRACE).await);
        let (of_ada, of_grace) = (bytes(&rig, &ada.key).await, bytes(&rig, &grace.key).await);
        rig.put(&ada.key, &of_grace).await;
        rig.put(&grace.key, &of_ada).await;
        let before = rig.refreshes();
        let force_refresh = SilentOptions { force_refresh: true, ..SilentOptions::default() };
        for silent in [SilentOptions::default(), force_refresh] {
            let (report, seen) = handed_out(&rig, WorkerSettings { silent, ..insisting() }).await;
            assert_eq!(count(&report, FailureReason::MalformedCache), 2, "{report:?}");
            assert_eq!((seen, rig.refreshes()), (Vec::new(), before), "nobody's token is used");
            assert_eq!(rig.failures().await.len(), 2);
        }
        assert_eq!(bytes(&rig, &ada.key).await, of_grace, "it is left as it was found");
    }
}

#[tokio::test]
async fn a_refresh_token_that_is_another_user_s_gives_nobody_a_token() {
    let rig = Rig::embedded(strict()).await;
    let (ada, grace) = (rig.sign_in(ADA).await, rig.sign_in(GRACE).await);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let secret = |tokens: &common::identity::TokenResponse| {
        secrecy::ExposeSecret::expose_secret(tokens.refresh_token.as_ref().unwrap()).to_owned()
    };
    let forged = text(bytes(&rig, &ada.key).await).replace(&secret(&ada.tokens), &secret(&grace.tokens));
    rig.put(&ada.key, forged.as_bytes()).await;
    rig.cache.store.remove(&grace.key, None).await.unwrap();
    rig.expire();
    let (report, seen) = handed_out(&rig, insisting()).await;
    assert_eq!(count(&report, FailureReason::MalformedCache), 1, "{report:?}");
    assert_eq!(count(&report, FailureReason::CacheMissing), 1);
    assert_eq!(seen, []);
    assert_eq!(text(bytes(&rig, &ada.key).await), forged, "what was answered is not kept");
}

#[tokio::test]
async fn a_blob_of_data_protection_is_undecryptable() {
    let rig = Rig::on_redis(strict(), Layout::Aspnet).await;
    let ada = rig.sign_in(ADA).await;
    rig.put(&ada.key, b"\x09\xF0\xC9\xF0 and what only .NET can read").await;
    let (report, seen) = handed_out(&rig, insisting()).await;
    assert_eq!((count(&report, FailureReason::Undecryptable), seen.len()), (1, 0));
    assert_eq!(rig.failures().await[0].reason, FailureReason::Undecryptable);
}

#[tokio::test]
async fn wherever_a_bit_is_flipped_nobody_gets_another_s_token_and_nothing_crashes() {
    let rig = Rig::embedded(strict()).await;
    let ada = rig.sign_in(ADA).await;
    let good = bytes(&rig, &ada.key).await;
    let mut malformed = 0;
    // Every byte in turn would take minutes; a step that is prime to the eight bits comes by all kinds of places.
    for position in (0..good.len() * 8).step_by(269) {
        let mut flipped = good.clone();
        flipped[position / 8] ^= 1 << (position % 8);
        rig.put(&ada.key, &flipped).await;
        let (report, seen) = handed_out(&rig, insisting()).await;
        assert_eq!((report.accounts, report.count(AccountOutcome::Crashed)), (1, 0), "bit {position}");
        assert!(seen.iter().all(|(_, whose)| whose.as_deref().is_none_or(|whose| whose == ADA)), "bit {position}");
        malformed += count(&report, FailureReason::MalformedCache);
    }
    assert!(malformed > 0);
    let mut broken = good.clone();
    broken[0] ^= 1;
    rig.put(&ada.key, &broken).await;
    let (report, _) = handed_out(&rig, insisting()).await;
    assert_eq!(count(&report, FailureReason::MalformedCache), 1);
}
