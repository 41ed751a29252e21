//! An erased account is gone from everything that can be made to forget, and nothing brings it back.

use std::time::Duration;

use common::account::{CacheKey, Username};
use common::backend::TlsFiles;
use common::backends::{Log, TokenCache};
use common::event::{
    Activity, ActivityEvent, ContractError, EventDraft, EventSource, Refused, SealedEvent, encode, encode_batches,
};
use common::index::AccountActivity;
use common::log::{DeadLetter, LetterQueue};
use common::redis_pool::RedisPool;
use common::sqlite::Database;
use common::token_cache::{
    CacheWrite, Expiry, Precondition, RedisTokenCache, RedisTokenCacheOptions, SqliteTokenCache,
    SqliteTokenCacheOptions,
};
use consumer::dead_letters::{Erased, LetterFilter, first};
use consumer::erase::{ErasureStores, IndexTrace, UsernameTrace, erase};
use testkit::conformance::log::sample_events;
use testkit::servers::KeyPrefix;

use crate::rig::{Rig, Running, settings};

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_account_is_gone_and_stays_gone() {
    let folder = tempfile::tempdir().unwrap();
    let database =
        Database::open(&format!("sqlite://{}/c.db", folder.path().display()).parse().unwrap()).await.unwrap();
    let cache = SqliteTokenCache::open(database, SqliteTokenCacheOptions::default()).await.unwrap();
    is_gone_and_stays_gone(Rig::embedded(3).await, Rig::embedded(1).await, TokenCache::of(cache)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_account_is_gone_and_stays_gone_on_servers() {
    let prefix = KeyPrefix::fresh().await;
    let pool = RedisPool::new(&prefix.redis_url().parse().unwrap(), &TlsFiles::default(), 4).unwrap();
    let options = RedisTokenCacheOptions { instance_name: prefix.to_string(), ..RedisTokenCacheOptions::default() };
    let cache = TokenCache::of(RedisTokenCache::open(pool, options).await.unwrap());
    is_gone_and_stays_gone(Rig::on_servers(3).await, Rig::on_servers(1).await, cache).await;
}

fn named(mut event: ActivityEvent, username: &str) -> ActivityEvent {
    let Activity::UserActivity(details) = &mut event.activity else { panic!("user activity") };
    details.username = Some(Username::new(username).unwrap());
    event
}

async fn write(cache: &TokenCache, event: &ActivityEvent) {
    let draft = EventDraft::new(EventSource::new("/apps/test").unwrap(), event.subject.clone(), event.activity.clone());
    let (expiry, precondition) = (Expiry::default().into(), Precondition::None);
    let write = CacheWrite { key: &event.subject, blob: b"{}", expiry, precondition, event: Some(&draft), fence: None };
    cache.store.write(write).await.unwrap();
}

/// What a relay does, but for the confirms where it is to die before them.
async fn relay(cache: &TokenCache, log: &Log, confirms: bool) {
    let entries = cache.outbox.take(100, Duration::from_millis(1), Duration::ZERO).await.unwrap();
    for entry in &entries {
        log.log.append_sealed(0, std::slice::from_ref(&entry.event)).await.unwrap();
    }
    let ids: Vec<_> = entries.into_iter().map(|entry| entry.id).collect();
    if confirms {
        cache.outbox.confirm(&ids).await.unwrap();
    }
}

async fn projected(rig: &Rig) {
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
}

fn letter(offset: u64, raw: Vec<u8>) -> DeadLetter {
    let error = ContractError::NotJson { line: 1, column: 1 };
    DeadLetter { partition: 1, offset, content_type: None, refused: Refused { index: None, error, raw } }
}

fn assert_bare(account: &AccountActivity) {
    let removed_at = account.removed_at;
    assert!(removed_at.is_some());
    let bare = AccountActivity { removed_at, ..AccountActivity::nothing_about(account.cache_key.clone()) };
    assert_eq!(account, &bare);
}

async fn is_gone_and_stays_gone(rig: Rig, later: Rig, cache: TokenCache) {
    let mut users = sample_events(3).into_iter();
    let mut next = |name: &str| named(users.next().unwrap(), name);
    let (alice, bob, carol) = (next("Alice@contoso.com"), next("bob@contoso.com"), next("carol@contoso.com"));
    let log = Log { log: rig.log.clone(), dead_letters: rig.letters.clone() };
    for event in [&alice, &bob, &alice] {
        write(&cache, event).await;
    }
    relay(&cache, &log, true).await;
    projected(&rig).await;
    write(&cache, &alice).await;
    relay(&cache, &log, false).await;
    let both = encode_batches(&[&alice, &carol].map(SealedEvent::of)).remove(0).body;
    let letters = [
        letter(1, b"{\"username\": \"ALICE@contoso.com\"".to_vec()),
        letter(2, both),
        letter(3, b"{\"username\": \"bob@contoso.com\"".to_vec()),
        letter(4, [&b"["[..], &encode(&alice).body, b",7]"].concat()),
    ];
    rig.letters.park(&letters).await.unwrap();

    let stores =
        ErasureStores { cache: cache.clone(), log: log.clone(), index: rig.store.clone(), claims: rig.claims.clone() };
    let source = EventSource::new("/test/erase").unwrap();
    let day = Duration::from_hours(24);
    let receipt = erase(&stores, &alice.subject, &source, Some(day)).await.unwrap();
    assert!(receipt.blob && receipt.index == IndexTrace::Erased, "{receipt:?}");
    assert_eq!((receipt.outbox_entries, receipt.outbox_refused, receipt.partitions), (3, 0, 3));
    assert_eq!(receipt.dead_letters, Erased { letters: 3, left: Vec::new() });
    assert_eq!(receipt.username_in_log, UsernameTrace::Plain);
    assert_eq!(receipt.ages_out_at, receipt.removed_at.map(|at| at + day));
    assert_bare(&rig.store.get(&alice.subject).await.unwrap().unwrap());

    // A relay that took an entry before, sends it after; another one sends what is in the outbox now.
    rig.log.append(2, std::slice::from_ref(&alice)).await.unwrap();
    relay(&cache, &log, true).await;
    projected(&rig).await;
    rig.assert_index_is_fold_of_log().await;
    assert_bare(&rig.store.get(&alice.subject).await.unwrap().unwrap());
    for other in [&bob, &carol] {
        assert!(rig.store.get(&other.subject).await.unwrap().unwrap().is_listed(), "{}", other.subject);
    }
    assert!(cache.store.read(&alice.subject).await.unwrap().is_none());
    let left = first(rig.letters.as_ref(), LetterQueue::Dead, &LetterFilter::default(), 10).await.unwrap();
    let ids: Vec<String> = left.into_iter().map(|(letter, _)| letter.id).collect();
    assert_eq!(ids, ["1-3", "1-4-1"], "what is not about Alice stays");

    assert_removed_in_a_later_index(&rig, &later, &alice.subject).await;
    let again = erase(&stores, &alice.subject, &source, None).await.unwrap();
    assert!(!again.blob && again.index == IndexTrace::Nothing && again.dead_letters.letters == 0, "{again:?}");
}

/// An index that is made from the log anew, and from each of its partitions alone: any of them may outlive the others.
async fn assert_removed_in_a_later_index(rig: &Rig, later: &Rig, key: &CacheKey) {
    let projector = Running::start(rig.log.clone(), rig.letters.clone(), later.store.clone(), settings());
    let ends = rig.ends().await;
    testkit::wait_until(crate::rig::PATIENCE, || async {
        for (partition, end) in &ends {
            if later.checkpoint(*partition).await < *end {
                return false;
            }
        }
        true
    })
    .await;
    projector.stop().await;
    assert_bare(&later.store.get(key).await.unwrap().unwrap());
    for (partition, end) in ends {
        let mut reader = rig.log.read(partition, common::log::Position::First).await.unwrap();
        let (mut events, mut next) = (Vec::new(), 0);
        while next < end {
            for message in reader.next(1_000, crate::rig::PATIENCE).await.unwrap() {
                next = message.offset + 1;
                events.extend(message.events.into_iter().flatten());
            }
        }
        assert!(!common::index::fold(&events)[key].is_listed(), "partition {partition}");
    }
}
