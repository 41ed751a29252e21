//! The behaviour of a [`TokenCacheStore`] and the [`Outbox`] beside it.
//!
//! Every behaviour is a function with a cache of its own. [`run_all`] runs them side by side; each panics with what
//! it missed. Expiry is waited for by trying to write where nothing must be stored, since reading starts a sliding
//! window anew.

#![expect(clippy::expect_used, reason = "a behaviour that is missed is a panic")]

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::account::{CacheKey, ClientId, Environment, HomeAccountId};
use common::event::{AccountDetails, AccountHint, Activity, ActivityEvent, EventDraft, EventSource, TraceParent};
use common::index::Fence;
use common::token_cache::{
    Backlog, CacheWrite, EntryId, Expiry, ExpiryChange, Outbox, OutboxEntry, Precondition, ScanCursor, TokenCacheScan,
    TokenCacheStore, WriteOutcome,
};
use futures_util::future::join_all;
use jiff::Timestamp;

use crate::wait_until;

/// How long a behaviour may take to show itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// A visibility that no test outlives.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(300);

/// A handle on one cache.
pub trait Cache: TokenCacheStore + Outbox + TokenCacheScan {}
impl<T: TokenCacheStore + Outbox + TokenCacheScan> Cache for T {}

/// The backend under test.
#[async_trait]
pub trait TokenCacheUnderTest: Send + Sync {
    /// A handle on the cache of this name, as a process of its own would open it. Caches of different names share
    /// nothing, and are empty at first.
    async fn open(&self, name: &str) -> Arc<dyn Cache>;

    /// Whether it can keep a sliding expiry.
    fn keeps_sliding_expiry(&self) -> bool {
        true
    }
}

/// Runs every behaviour.
pub async fn run_all(subject: &dyn TokenCacheUnderTest) {
    tokio::join!(
        a_blob_is_read_byte_for_byte(subject),
        a_write_needs_its_precondition(subject),
        a_removal_leaves_its_event(subject),
        an_absolute_expiry_ends_the_blob(subject),
        a_write_sets_the_expiry_anew(subject),
        a_write_that_keeps_the_expiry_neither_shortens_nor_loses_it(subject),
        a_write_that_keeps_the_expiry_starts_the_sliding_window_anew(subject),
        a_sliding_expiry_is_rearmed_by_reading(subject),
        an_absolute_expiry_bounds_a_sliding_one(subject),
        a_scan_finds_every_blob_and_nothing_else(subject),
        a_scan_beside_writers_misses_nothing_that_stays(subject),
        an_event_comes_out_as_it_was_drafted(subject),
        times_strictly_increase_and_stay(subject),
        what_is_taken_is_hidden_for_a_while(subject),
        takers_share_without_overlap(subject),
        what_is_confirmed_does_not_come_back(subject),
        a_rewind_brings_back_what_was_confirmed(subject),
        a_rewind_skips_nothing_that_was_never_taken(subject),
        a_trim_never_forgets_what_is_not_confirmed(subject),
        a_waiting_take_is_woken(subject),
        a_take_that_was_dropped_loses_nothing(subject),
        the_backlog_counts(subject),
        no_update_is_lost_and_none_without_its_event(subject),
        who_claimed_later_keeps_out_who_claimed_before(subject),
    );
}

/// Empty, binary and large ones; absent ones are none; keys do not touch each other.
pub async fn a_blob_is_read_byte_for_byte(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("bytes").await;
    assert_eq!(read(&*cache, "absent").await, None);
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = every_byte.iter().copied().cycle().take(1024 * 1024).collect();
    for blob in [&b""[..], b"{}", &every_byte, &large] {
        put(&*cache, "key", blob).await;
        assert_eq!(read(&*cache, "key").await.as_deref(), Some(blob), "{} bytes", blob.len());
    }
    put(&*cache, "other:key", b"other").await;
    assert_eq!(read(&*cache, "key").await, Some(large));
    let reopened = subject.open("bytes").await;
    assert_eq!(read(&*reopened, "other:key").await.as_deref(), Some(&b"other"[..]), "by another handle");
}

/// [`Precondition::Absent`] and `Unchanged`; a conflict stores neither blob nor event.
pub async fn a_write_needs_its_precondition(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("precondition").await;
    let attempt = async |precondition, blob: &[u8]| {
        let event = removal("key");
        let write = CacheWrite { precondition, event: Some(&event), ..plain_write(&event.subject, blob) };
        cache.write(write).await.expect("a write")
    };
    assert_eq!(attempt(Precondition::Unchanged(b""), b"0").await, WriteOutcome::Conflict, "nothing is not empty");
    assert_eq!(attempt(Precondition::Absent, b"1\0one").await, WriteOutcome::Written);
    assert_eq!(attempt(Precondition::Absent, b"2").await, WriteOutcome::Conflict);
    for wrong in [&b""[..], b"1", b"1\0on", b"1\0one ", b"1\0onE"] {
        assert_eq!(attempt(Precondition::Unchanged(wrong), b"3").await, WriteOutcome::Conflict, "{wrong:?}");
    }
    assert_eq!(read(&*cache, "key").await.as_deref(), Some(&b"1\0one"[..]), "a conflict stores no blob");
    assert_eq!(attempt(Precondition::Unchanged(b"1\0one"), b"").await, WriteOutcome::Written);
    assert_eq!(attempt(Precondition::Absent, b"4").await, WriteOutcome::Conflict, "an empty blob is a blob");
    assert_eq!(attempt(Precondition::Unchanged(b""), b"5").await, WriteOutcome::Written);
    assert_eq!(attempt(Precondition::None, b"6").await, WriteOutcome::Written);
    assert_eq!(take_all(&*cache, LONG).await.len(), 4, "one event for each write that was written");
}

/// Also where there was no blob; and none where none was given.
pub async fn a_removal_leaves_its_event(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("removal").await;
    put(&*cache, "key", b"blob").await;
    let (first, second) = (removal("key"), removal("key"));
    assert!(cache.remove(&first.subject, Some(&first)).await.expect("a removal"), "there was a blob");
    assert_eq!(read(&*cache, "key").await, None);
    assert!(!cache.remove(&second.subject, Some(&second)).await.expect("a removal"), "there was none any more");
    assert!(!cache.remove(&second.subject, None).await.expect("a removal"));
    let events = events_of(&take_all(&*cache, LONG).await);
    assert_eq!(events.iter().map(|event| &event.id).collect::<Vec<_>>(), [&first.id, &second.id]);
    let again = removal("key");
    let write = CacheWrite { precondition: Precondition::Absent, ..plain_write(&again.subject, b"new") };
    assert_eq!(cache.write(write).await.expect("a write"), WriteOutcome::Written, "the key is free again");
}

/// The blob is there until then and gone after.
pub async fn an_absolute_expiry_ends_the_blob(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("absolute").await;
    let end = Timestamp::now() + Duration::from_millis(1500);
    put_until(&*cache, "key", Expiry { absolute: Some(end), sliding: None }).await;
    let is_there = read(&*cache, "key").await.is_some();
    assert!(is_there || Timestamp::now() >= end, "it is there before its time");
    until_free(&*cache, "key").await;
    assert!(Timestamp::now() >= end, "it is not gone before its time");
    put_until(&*cache, "past", Expiry { absolute: Some(end), sliding: None }).await;
    assert_eq!(read(&*cache, "past").await, None, "a time that is over is over at once");
}

/// A blob that is overwritten without an expiry has none, whatever the one before it had.
pub async fn a_write_sets_the_expiry_anew(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("anew").await;
    let end = Timestamp::now() + Duration::from_millis(800);
    put_until(&*cache, "key", Expiry { absolute: Some(end), sliding: None }).await;
    put(&*cache, "key", b"for good").await;
    while Timestamp::now() < end + SHORT {
        assert!(read(&*cache, "key").await.is_some(), "the expiry of the blob before is not this one's");
    }
    put_until(&*cache, "key", Expiry { absolute: Some(Timestamp::now() + SHORT), sliding: None }).await;
    until_free(&*cache, "key").await;
}

/// [`ExpiryChange::Kept`], with an event and compared: as a worker writes back what it refreshed.
pub async fn a_write_that_keeps_the_expiry_neither_shortens_nor_loses_it(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("kept").await;
    let end = Timestamp::now() + Duration::from_millis(1500);
    put_until(&*cache, "key", Expiry { absolute: Some(end), sliding: None }).await;
    put(&*cache, "for good", b"blob").await;
    for key in ["key", "for good"] {
        let outcome = refresh(&*cache, key, b"blob", b"renewed").await;
        assert!(outcome == WriteOutcome::Written || Timestamp::now() >= end, "it is there before its time");
    }
    until_free(&*cache, "key").await;
    assert!(Timestamp::now() >= end, "it is not gone before its time");
    assert_eq!(read(&*cache, "for good").await.as_deref(), Some(&b"renewed"[..]), "none stays none");
    assert_eq!(refresh(&*cache, "gone", b"", b"renewed").await, WriteOutcome::Conflict, "nothing is made anew");

    put_until(&*cache, "past", Expiry { absolute: Some(end), sliding: None }).await;
    let past = cache_key("past");
    let write = CacheWrite { expiry: ExpiryChange::Kept, ..plain_write(&past, b"new") };
    assert_eq!(cache.write(write).await.expect("a write"), WriteOutcome::Written);
    assert_eq!(
        read(&*cache, "past").await.as_deref(),
        Some(&b"new"[..]),
        "an expiry that is over is nobody's any more"
    );
}

/// Written again and again it stays, up to its absolute expiry; left alone it goes.
pub async fn a_write_that_keeps_the_expiry_starts_the_sliding_window_anew(subject: &dyn TokenCacheUnderTest) {
    if !subject.keeps_sliding_expiry() {
        return;
    }
    let cache = subject.open("slid").await;
    let window = Duration::from_millis(1200);
    wait_until(PATIENCE, async || stays_while_it_is_refreshed(&*cache, window).await).await;
    until_free(&*cache, "key").await;
    let end = Timestamp::now() + Duration::from_millis(1000);
    put_until(&*cache, "bounded", Expiry { absolute: Some(end), sliding: Some(LONG) }).await;
    refresh(&*cache, "bounded", b"blob", b"renewed").await;
    until_free(&*cache, "bounded").await;
    assert!(Timestamp::now() >= end, "it is not gone before its time");
}

/// Writes for two windows. `false` where this machine was too slow to write within one.
async fn stays_while_it_is_refreshed(cache: &dyn Cache, window: Duration) -> bool {
    let begun = Instant::now();
    let mut last_asked = begun;
    put_until(cache, "key", Expiry { absolute: None, sliding: Some(window) }).await;
    while begun.elapsed() < window * 2 {
        let asked = Instant::now();
        if refresh(cache, "key", b"blob", b"blob").await == WriteOutcome::Conflict {
            assert!(last_asked.elapsed() >= window, "it was written {:?} ago and is gone", last_asked.elapsed());
            return false;
        }
        last_asked = asked;
    }
    true
}

/// Read again and again it stays; left alone it goes.
pub async fn a_sliding_expiry_is_rearmed_by_reading(subject: &dyn TokenCacheUnderTest) {
    if !subject.keeps_sliding_expiry() {
        return;
    }
    let cache = subject.open("sliding").await;
    let window = Duration::from_millis(1200);
    let last_read = OnceLock::new();
    wait_until(PATIENCE, async || {
        let stayed = stays_while_it_is_read(&*cache, window).await;
        stayed.is_some_and(|asked| last_read.set(asked).is_ok())
    })
    .await;
    let last_read = last_read.into_inner().expect("it stayed");
    until_free(&*cache, "key").await;
    assert!(last_read.elapsed() + SHORT >= window, "it outlives its last reading by its window");
}

/// Reads for two windows, and says when the last read was asked for. `None` where this machine was too slow to read
/// within one.
async fn stays_while_it_is_read(cache: &dyn Cache, window: Duration) -> Option<Instant> {
    let begun = Instant::now();
    let mut last_asked = begun;
    put_until(cache, "key", Expiry { absolute: None, sliding: Some(window) }).await;
    while begun.elapsed() < window * 2 {
        let asked = Instant::now();
        if read(cache, "key").await.is_none() {
            assert!(last_asked.elapsed() >= window, "it was read {:?} ago and is gone", last_asked.elapsed());
            return None;
        }
        last_asked = asked;
    }
    Some(last_asked)
}

/// Reading does not keep a blob beyond its absolute expiry.
pub async fn an_absolute_expiry_bounds_a_sliding_one(subject: &dyn TokenCacheUnderTest) {
    if !subject.keeps_sliding_expiry() {
        return;
    }
    let cache = subject.open("bounded").await;
    let end = Timestamp::now() + Duration::from_millis(1500);
    put_until(&*cache, "key", Expiry { absolute: Some(end), sliding: Some(LONG) }).await;
    wait_until(PATIENCE, async || read(&*cache, "key").await.is_none()).await;
    assert!(Timestamp::now() >= end);
}

/// Page by page, with the outbox and a neighbour beside it, and without what is removed or has expired.
pub async fn a_scan_finds_every_blob_and_nothing_else(subject: &dyn TokenCacheUnderTest) {
    let (cache, neighbour) = (subject.open("scanned").await, subject.open("scanned too").await);
    assert_eq!(scan_all(&*cache, 1000).await, HashSet::new(), "nothing at first");
    let keys: HashSet<CacheKey> = (0..150).map(|number| cache_key(&format!("uid-{number}.ütid*"))).collect();
    for key in &keys {
        let event = removal(key.as_str());
        cache.write(CacheWrite { event: Some(&event), ..plain_write(key, b"blob") }).await.expect("a write");
    }
    put(&*neighbour, "not this one", b"blob").await;
    put(&*cache, "removed", b"blob").await;
    cache.remove(&cache_key("removed"), None).await.expect("a removal");
    put_until(&*cache, "expired", Expiry { absolute: Some(Timestamp::now()), sliding: None }).await;
    for limit in [50, 64, usize::MAX] {
        assert_eq!(scan_all(&*cache, limit).await, keys, "in pages of {limit}");
    }
}

/// What was there before the walk and is there after it comes.
pub async fn a_scan_beside_writers_misses_nothing_that_stays(subject: &dyn TokenCacheUnderTest) {
    let (cache, writer) = (subject.open("walked").await, subject.open("walked").await);
    let keys: HashSet<CacheKey> = (0..50).map(|number| cache_key(&format!("stays-{number}"))).collect();
    for key in &keys {
        put(&*cache, key.as_str(), b"blob").await;
    }
    let others = async {
        for number in 0..60 {
            put(&*writer, &format!("comes-{number}"), b"blob").await;
            writer.remove(&cache_key(&format!("comes-{}", number / 2)), None).await.expect("a removal");
            put(&*writer, &format!("stays-{}", number % 50), b"another").await;
        }
    };
    let (found, ()) = tokio::join!(scan_all(&*cache, 20), others);
    assert!(keys.is_subset(&found), "{:?}", keys.difference(&found));
}

/// Written with a blob, with a removal, and alone.
pub async fn an_event_comes_out_as_it_was_drafted(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("drafted").await;
    let drafts = [activity("one"), removal("two"), activity("three")];
    cache
        .write(CacheWrite { event: Some(&drafts[0]), ..plain_write(&drafts[0].subject, b"1") })
        .await
        .expect("a write");
    cache.remove(&drafts[1].subject, Some(&drafts[1])).await.expect("a removal");
    cache.append(&drafts[2]).await.expect("an append");
    put(&*cache, "silent", b"no event").await;
    let events = events_of(&take_all(&*cache, LONG).await);
    let expected: Vec<ActivityEvent> =
        drafts.iter().zip(&events).map(|(draft, event)| draft.clone().at(event.time)).collect();
    assert_eq!(events, expected, "in the order of the writes");
    assert_eq!(events.len(), 3);
}

/// Every event is later than the one before it, and the same event each time it is taken.
pub async fn times_strictly_increase_and_stay(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("times").await;
    let before = Timestamp::now() - Duration::from_secs(60);
    join_all((0..4).map(|_| append_some(&*cache, 50))).await;
    let taken = take_all(&*cache, LONG).await;
    assert_eq!(taken.len(), 200);
    let times: Vec<Timestamp> = taken.iter().map(|entry| entry.event.time()).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "strictly increasing");
    let soon = Timestamp::now() + Duration::from_secs(60);
    assert!(times.iter().all(|time| (before..soon).contains(time)), "by a clock that is right");
    assert!(times.iter().all(|time| time.as_nanosecond() % 1000 == 0), "in microseconds");
    confirm(&*cache, &taken).await;
    cache.rewind(LONG).await.expect("a rewind");
    assert_eq!(take_all(&*cache, LONG).await, taken, "an event that comes again is the same event");
}

/// Not given out twice within its visibility time, and again after it.
pub async fn what_is_taken_is_hidden_for_a_while(subject: &dyn TokenCacheUnderTest) {
    let (mine, yours) = (subject.open("hidden").await, subject.open("hidden").await);
    append_some(&*mine, 3).await;
    let visibility = Duration::from_millis(1500);
    let begun = Instant::now();
    let taken = mine.take(10, visibility, Duration::ZERO).await.expect("a take");
    assert_eq!(taken.len(), 3);
    let early = yours.take(10, visibility, Duration::ZERO).await.expect("a take");
    assert!(early.is_empty() || begun.elapsed() >= visibility, "they are in another's hands");
    let again = take_until(&*yours, 3, visibility).await;
    assert!(begun.elapsed() >= visibility, "they come back after the visibility time");
    assert_eq!(again, taken, "as they were");
}

/// Two relays, one outbox: every entry is in one hand.
pub async fn takers_share_without_overlap(subject: &dyn TokenCacheUnderTest) {
    let (mine, yours) = (subject.open("shared").await, subject.open("shared").await);
    let appended = append_some(&*mine, 100).await;
    let (left, right) = tokio::join!(take_in_sevens(&*mine), take_in_sevens(&*yours));
    let ids: Vec<&EntryId> = left.iter().chain(&right).map(|entry| &entry.id).collect();
    assert_eq!(ids.len(), appended.len(), "every entry is taken");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "none is taken twice");
    let sorted = |entries: &[OutboxEntry]| entries.windows(2).all(|pair| pair[0].event.time() < pair[1].event.time());
    assert!(sorted(&left) && sorted(&right), "oldest first");
}

/// What is not confirmed does.
pub async fn what_is_confirmed_does_not_come_back(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("confirmed").await;
    append_some(&*cache, 6).await;
    let taken = cache.take(6, SHORT, Duration::ZERO).await.expect("a take");
    let confirmed = [taken[0].clone(), taken[2].clone(), taken[4].clone()];
    let left = [taken[1].clone(), taken[3].clone(), taken[5].clone()];
    confirm(&*cache, &confirmed).await;
    cache.confirm(&[]).await.expect("confirming nothing");
    for _ in 0..2 {
        assert_eq!(take_until(&*cache, 3, SHORT).await, left, "the others come back, and the confirmed ones stay away");
    }
}

/// Those of the last while, and not those before it.
pub async fn a_rewind_brings_back_what_was_confirmed(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("rewound").await;
    append_some(&*cache, 2).await;
    let old = take_all(&*cache, LONG).await;
    let old_time = old[1].event.time();
    wait_until(PATIENCE, async || Timestamp::now() > old_time + Duration::from_secs(3)).await;
    append_some(&*cache, 3).await;
    let new = take_all(&*cache, LONG).await;
    confirm(&*cache, &old).await;
    confirm(&*cache, &new).await;

    let age = Timestamp::now().duration_since(old_time).unsigned_abs();
    cache.rewind(age - SHORT).await.expect("a rewind");
    assert_eq!(take_all(&*cache, LONG).await, new, "those of the last while");
    confirm(&*cache, &new).await;
    cache.rewind(LONG).await.expect("a rewind");
    assert_eq!(take_all(&*cache, LONG).await, [old, new].concat(), "all of them");
}

/// Neither by age nor in anybody's hands.
pub async fn a_rewind_skips_nothing_that_was_never_taken(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("unskipped").await;
    append_some(&*cache, 5).await;
    let taken = cache.take(2, SHORT, Duration::ZERO).await.expect("a take");
    cache.rewind(Duration::ZERO).await.expect("a rewind");
    let seen = take_until(&*cache, 5, SHORT).await;
    assert!(taken.iter().all(|entry| seen.contains(entry)));
}

/// Pending or never taken; and what is confirmed only when it is old enough.
pub async fn a_trim_never_forgets_what_is_not_confirmed(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("trimmed").await;
    let trim = async |age| cache.trim(age).await.expect("a trim");
    assert_eq!(trim(Duration::ZERO).await, 0, "nothing to forget");
    append_some(&*cache, 6).await;
    assert_eq!(trim(Duration::ZERO).await, 0, "not what was never taken");
    let taken = cache.take(4, SHORT, Duration::ZERO).await.expect("a take");
    confirm(&*cache, &taken[..2]).await;
    confirm(&*cache, &taken[3..]).await;
    assert_eq!(trim(LONG).await, 0, "not what is confirmed and young");
    let forgotten = trim(Duration::ZERO).await;
    assert!((2..=3).contains(&forgotten), "what is confirmed and old: {forgotten}");

    let left = take_until(&*cache, 3, SHORT).await;
    assert!(left.contains(&taken[2]), "what was taken and is not confirmed");
    assert!(!left.contains(&taken[0]) && !left.contains(&taken[3]));
    confirm(&*cache, &left).await;
    assert_eq!(forgotten + trim(Duration::ZERO).await, 6, "all of them in the end");
    cache.rewind(LONG).await.expect("a rewind");
    assert_eq!(take_all(&*cache, LONG).await, [], "what is forgotten cannot come back");
    assert_eq!(cache.backlog().await.expect("a backlog"), Backlog::default());
    append_some(&*cache, 1).await;
    assert_eq!(take_all(&*cache, LONG).await.len(), 1, "and the outbox goes on");
}

/// By an event of the same handle at once, by one of another handle soon; and the wait has an end.
pub async fn a_waiting_take_is_woken(subject: &dyn TokenCacheUnderTest) {
    let (mine, yours) = (subject.open("woken").await, subject.open("woken").await);
    for writer in [&mine, &yours] {
        let begun = Instant::now();
        let (taken, _) = tokio::join!(mine.take(10, LONG, PATIENCE * 3), append_later(&**writer));
        assert_eq!(taken.expect("a take").len(), 1);
        assert!(begun.elapsed() < PATIENCE, "woken after {:?}", begun.elapsed());
    }
    let begun = Instant::now();
    assert_eq!(mine.take(10, LONG, SHORT).await.expect("a take"), []);
    assert!((SHORT..PATIENCE).contains(&begun.elapsed()), "it waits as long as it is told and not for ever");
}

/// Whenever it is dropped.
pub async fn a_take_that_was_dropped_loses_nothing(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("dropped").await;
    append_some(&*cache, 40).await;
    let mut seen = HashSet::new();
    let mut cut = 0;
    let begun = Instant::now();
    while seen.len() < 40 && begun.elapsed() < PATIENCE {
        cut += 200;
        if let Ok(taken) = tokio::time::timeout(Duration::from_micros(cut), cache.take(3, SHORT, PATIENCE)).await {
            let taken = taken.expect("a take");
            confirm(&*cache, &taken).await;
            seen.extend(taken.into_iter().map(|entry| entry.id));
        }
    }
    assert_eq!(seen.len(), 40);
}

/// What waits, what is kept, and how old the oldest is.
pub async fn the_backlog_counts(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("backlog").await;
    let counts = async || {
        let backlog = cache.backlog().await.expect("a backlog");
        assert_eq!(backlog.oldest.is_some(), backlog.unconfirmed > 0);
        assert_eq!(backlog.refused, 0);
        (backlog.unconfirmed, backlog.kept)
    };
    assert_eq!(counts().await, (0, 0));
    append_some(&*cache, 5).await;
    assert_eq!(counts().await, (5, 5), "never taken");
    let taken = cache.take(3, LONG, Duration::ZERO).await.expect("a take");
    assert_eq!(counts().await, (5, 5), "taken");
    confirm(&*cache, &taken[..2]).await;
    assert_eq!(counts().await, (3, 5), "two confirmed");
    let oldest = cache.backlog().await.expect("a backlog").oldest.expect("an oldest");
    let age = Timestamp::now().duration_since(taken[2].event.time()).unsigned_abs();
    assert!(oldest <= age + SHORT, "the oldest is the third: {oldest:?}, not older than {age:?}");
    let rest = take_all(&*cache, LONG).await;
    confirm(&*cache, &taken[2..]).await;
    confirm(&*cache, &rest).await;
    assert_eq!(counts().await, (0, 5), "all confirmed");
    cache.rewind(LONG).await.expect("a rewind");
    assert_eq!(counts().await, (5, 5), "rewound");
}

/// Eight writers of one blob, each reading, adding and comparing.
pub async fn no_update_is_lost_and_none_without_its_event(subject: &dyn TokenCacheUnderTest) {
    let caches = join_all((0..8).map(|_| subject.open("compared"))).await;
    let writers = caches.into_iter().enumerate().map(|(writer, cache)| {
        tokio::spawn(async move {
            for number in 0..15 {
                add_line(&*cache, &format!("{writer}-{number}\n")).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
    let cache = subject.open("compared").await;
    let blob = String::from_utf8(read(&*cache, "key").await.expect("a blob")).expect("lines");
    assert_eq!(blob.lines().collect::<HashSet<_>>().len(), 8 * 15, "no update is lost");
    assert_eq!(blob.lines().count(), 8 * 15, "none is made twice");
    assert_eq!(take_all(&*cache, LONG).await.len(), 8 * 15, "as many events as writes that were written");
}

async fn scan_all(cache: &dyn Cache, limit: usize) -> HashSet<CacheKey> {
    let mut found = HashSet::new();
    let mut cursor: Option<ScanCursor> = None;
    loop {
        let page = cache.scan(cursor.as_ref(), limit).await.expect("a page");
        assert_eq!(page.unreadable_names, 0);
        found.extend(page.keys);
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}

async fn add_line(cache: &dyn Cache, line: &str) {
    wait_until(PATIENCE, async || {
        let event = removal("key");
        let stored = read(cache, "key").await;
        let blob = [stored.clone().unwrap_or_default(), line.as_bytes().to_vec()].concat();
        let precondition = stored.as_deref().map_or(Precondition::Absent, Precondition::Unchanged);
        let write = CacheWrite { precondition, event: Some(&event), ..plain_write(&event.subject, &blob) };
        cache.write(write).await.expect("a write") == WriteOutcome::Written
    })
    .await;
}

async fn append_later(cache: &dyn Cache) {
    tokio::time::sleep(SHORT).await;
    append_some(cache, 1).await;
}

async fn append_some(cache: &dyn Cache, count: usize) -> Vec<EventDraft> {
    let drafts: Vec<EventDraft> = (0..count).map(|number| activity(&format!("key-{number}"))).collect();
    for draft in &drafts {
        cache.append(draft).await.expect("an append");
    }
    drafts
}

/// Takes until nothing is left, oldest first.
async fn take_all(cache: &dyn Cache, visibility: Duration) -> Vec<OutboxEntry> {
    let mut all = Vec::new();
    loop {
        let taken = cache.take(64, visibility, Duration::ZERO).await.expect("a take");
        if taken.is_empty() {
            return all;
        }
        all.extend(taken);
    }
}

/// Takes until `count` different entries were seen, oldest first; what comes again in the meantime is seen once.
async fn take_until(cache: &dyn Cache, count: usize, visibility: Duration) -> Vec<OutboxEntry> {
    let begun = Instant::now();
    let mut seen: Vec<OutboxEntry> = Vec::new();
    while seen.len() < count {
        assert!(begun.elapsed() < PATIENCE, "{} of {count} entries came within {PATIENCE:?}", seen.len());
        let taken = cache.take(10, visibility, SHORT).await.expect("a take");
        let new: Vec<OutboxEntry> = taken.into_iter().filter(|entry| !seen.contains(entry)).collect();
        seen.extend(new);
    }
    seen.sort_by_key(|entry| entry.event.time());
    seen
}

async fn take_in_sevens(cache: &dyn Cache) -> Vec<OutboxEntry> {
    let mut all = Vec::new();
    loop {
        let taken = cache.take(7, LONG, Duration::ZERO).await.expect("a take");
        assert!(taken.len() <= 7);
        if taken.is_empty() {
            return all;
        }
        all.extend(taken);
        tokio::task::yield_now().await;
    }
}

async fn confirm(cache: &dyn Cache, entries: &[OutboxEntry]) {
    let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id.clone()).collect();
    cache.confirm(&ids).await.expect("a confirmation");
}

fn events_of(entries: &[OutboxEntry]) -> Vec<ActivityEvent> {
    entries.iter().map(|entry| entry.event.open().expect("an event")).collect()
}

/// A lower fence than one that has written is refused, whatever the precondition, with its event; the fence of one key
/// is none of another's, and a write without one is not asked.
pub async fn who_claimed_later_keeps_out_who_claimed_before(subject: &dyn TokenCacheUnderTest) {
    let cache = subject.open("fences").await;
    let write = async |key: &str, fence: Option<u64>, blob: &[u8], precondition: Precondition<'_>| {
        let event = activity(key);
        let fence = fence.map(Fence);
        let write = CacheWrite { fence, precondition, event: Some(&event), ..plain_write(&event.subject, blob) };
        cache.write(write).await.expect("a write")
    };
    let any = Precondition::None;
    assert_eq!(write("key", Some(9), b"9", any).await, WriteOutcome::Written);
    assert_eq!(write("key", Some(11), b"x", Precondition::Absent).await, WriteOutcome::Conflict);
    assert_eq!(
        write("key", Some(10), b"10", Precondition::Unchanged(b"9")).await,
        WriteOutcome::Written,
        "a conflict raised nothing"
    );
    assert_eq!(write("key", Some(10), b"10 again", any).await, WriteOutcome::Written);
    for stale in [Precondition::None, Precondition::Unchanged(b"10 again"), Precondition::Absent] {
        assert_eq!(write("key", Some(9), b"stale", stale).await, WriteOutcome::Fenced);
    }
    assert_eq!(read(&*cache, "key").await.as_deref(), Some(&b"10 again"[..]));
    assert_eq!(write("other", Some(1), b"1", any).await, WriteOutcome::Written);
    assert_eq!(write("key", None, b"the user is back", any).await, WriteOutcome::Written);
    assert_eq!(cache.backlog().await.expect("a backlog").unconfirmed, 5, "one event for each write that happened");
    assert_eq!(scan_all(&*cache, 100).await.len(), 2, "fences are no blobs");
}

async fn read(cache: &dyn Cache, key: &str) -> Option<Vec<u8>> {
    cache.read(&cache_key(key)).await.expect("a read")
}

async fn put(cache: &dyn Cache, key: &str, blob: &[u8]) {
    let outcome = cache.write(plain_write(&cache_key(key), blob)).await.expect("a write");
    assert_eq!(outcome, WriteOutcome::Written);
}

async fn put_until(cache: &dyn Cache, key: &str, expiry: Expiry) {
    let outcome = cache.write(CacheWrite { expiry: expiry.into(), ..plain_write(&cache_key(key), b"blob") }).await;
    assert_eq!(outcome.expect("a write"), WriteOutcome::Written);
}

/// Writes as a worker does: over exactly `read`, keeping the expiry.
async fn refresh(cache: &dyn Cache, key: &str, read: &[u8], blob: &[u8]) -> WriteOutcome {
    let event = activity(key);
    let (expiry, precondition) = (ExpiryChange::Kept, Precondition::Unchanged(read));
    let write = CacheWrite { expiry, precondition, event: Some(&event), ..plain_write(&event.subject, blob) };
    cache.write(write).await.expect("a write")
}

/// Waits until nothing is stored under `key`, without reading it.
async fn until_free(cache: &dyn Cache, key: &str) {
    let key = cache_key(key);
    wait_until(PATIENCE, async || {
        let write = CacheWrite { precondition: Precondition::Absent, ..plain_write(&key, b"next") };
        cache.write(write).await.expect("a write") == WriteOutcome::Written
    })
    .await;
}

fn plain_write<'a>(key: &'a CacheKey, blob: &'a [u8]) -> CacheWrite<'a> {
    CacheWrite {
        key,
        blob,
        expiry: ExpiryChange::default(),
        precondition: Precondition::None,
        event: None,
        fence: None,
    }
}

fn cache_key(key: &str) -> CacheKey {
    CacheKey::new(key).expect("a cache key")
}

fn source() -> EventSource {
    EventSource::new("/apps/conformance").expect("a source")
}

fn removal(key: &str) -> EventDraft {
    EventDraft::new(source(), cache_key(key), Activity::Removed(AccountHint::default()))
}

fn activity(key: &str) -> EventDraft {
    let details = AccountDetails {
        home_account_id: HomeAccountId::new("uid.utid").expect("an id"),
        object_id: HomeAccountId::new("uid.utid").expect("an id").halves().map(|(object, _)| object),
        tenant_id: HomeAccountId::new("uid.utid").expect("an id").halves().map(|(_, tenant)| tenant),
        environment: Environment::new("login.microsoftonline.com").expect("a host"),
        client_id: ClientId::new("client \"é\\\u{1F600}").expect("a client"),
        username: None,
        access_token_expires_on: Some(1_795_400_000),
        refresh_token_expires_on: None,
        has_refresh_token: true,
        properties: Default::default(),
    };
    let mut draft = EventDraft::new(source(), cache_key(key), Activity::UserActivity(details));
    draft.traceparent = TraceParent::new("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").ok();
    draft
}
