//! The behaviour of an [`ActivityLog`] and its [`DeadLetters`].
//!
//! Every behaviour is a function that takes the log under test and a partition of its own. [`run_all`] runs them side
//! by side on one log with [`PARTITIONS`] empty partitions; each panics with what it missed.

#![expect(clippy::expect_used, reason = "a behaviour that is missed is a panic")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::account::{CacheKey, ClientId, Environment, HomeAccountId};
use common::event::{
    AccountDetails, Activity, ActivityEvent, ContractError, EventDraft, EventSource, MAX_EVENTS_PER_BATCH, Properties,
    Refused, SINGLE_CONTENT_TYPE, encode,
};
use common::log::{
    ActivityLog, AppendError, Bounds, DeadLetter, DeadLetters, LetterQueue, LogError, LogMessage, LogReader,
    ParkedLetter, Position,
};
use futures_util::future::join_all;
use jiff::Timestamp;

/// How many empty partitions the log under test needs.
pub const PARTITIONS: u32 = 16;

/// How long a behaviour may take to show itself.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

/// A log under test: fresh, with [`PARTITIONS`] partitions.
#[async_trait]
pub trait LogUnderTest: Send + Sync {
    /// The log.
    fn log(&self) -> Arc<dyn ActivityLog>;

    /// Its dead letters.
    fn dead_letters(&self) -> Arc<dyn DeadLetters>;

    /// Appends one message as it is, as another program would.
    async fn append_raw(&self, partition: u32, content_type: &'static str, body: &[u8]);
}

/// Runs every behaviour.
pub async fn run_all(subject: &dyn LogUnderTest) {
    tokio::join!(
        events_come_back_in_order_at_contiguous_offsets(subject, 0),
        a_reader_begins_where_it_is_told(subject, 1),
        partitions_are_separate(subject, [2, 3]),
        more_events_than_a_batch_holds_are_split(subject, 4),
        appends_side_by_side_are_each_there_once(subject, 5),
        bounds_follow_the_messages(subject, 6),
        an_idle_reader_gives_an_empty_list_in_time(subject, 7),
        an_offset_the_log_does_not_have_is_a_gap(subject, 8),
        garbage_is_refused_and_the_rest_flows_on(subject, 9),
        a_reader_that_was_dropped_loses_nothing(subject, 10),
        a_next_that_was_dropped_loses_nothing(subject, 11),
        a_reader_that_waits_is_woken(subject, 12),
        an_empty_append_is_nothing(subject, 13),
        a_partition_that_is_not_there_is_said_so(subject),
        letters_are_kept(subject),
    );
}

/// Appended, then read.
pub async fn events_come_back_in_order_at_contiguous_offsets(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    let events = sample_events(30);
    for batch in events.chunks(3) {
        log.append(partition, batch).await.expect("an append");
    }
    let mut reader = open(&*log, partition, Position::First).await;
    let messages = read_messages(&mut *reader, 10).await;
    let offsets: Vec<u64> = messages.iter().map(|message| message.offset).collect();
    assert_eq!(offsets, (0..10).collect::<Vec<u64>>(), "offsets begin at 0 and have no holes");
    assert!(messages.iter().all(|message| message.partition == partition), "messages name their partition");
    assert_eq!(events_of(messages), events, "every event comes back as it was, in order");
}

/// [`Position::First`], `Offset`, `Time` and `End`.
pub async fn a_reader_begins_where_it_is_told(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    let early = append_each(&*log, partition, 5).await;
    // Brokers keep arrival times in whole seconds at worst, so the two halves are that far apart.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let between = Timestamp::now();
    let mut at_end = open(&*log, partition, Position::End).await;
    assert!(next(&mut *at_end, 1, SHORT).await.is_empty(), "nothing comes from the end before it is appended");
    let late = append_each(&*log, partition, 5).await;

    let all: Vec<ActivityEvent> = early.iter().chain(&late).cloned().collect();
    let from = async |position, count| {
        let mut reader = open(&*log, partition, position).await;
        events_of(read_messages(&mut *reader, count).await)
    };
    assert_eq!(from(Position::First, 10).await, all, "from the first");
    assert_eq!(from(Position::Offset(7), 3).await, all[7..], "from an offset");
    assert_eq!(events_of(read_messages(&mut *at_end, 5).await), late, "from the end");

    let mut by_time = open(&*log, partition, Position::Time(between)).await;
    let timed = events_of(read_until(&mut *by_time, 9).await);
    assert!(all.ends_with(&timed) && timed.ends_with(&late), "a time leaves out nothing that came after it");

    let mut at_tail = open(&*log, partition, Position::Offset(10)).await;
    let last = append_each(&*log, partition, 1).await;
    assert_eq!(events_of(read_messages(&mut *at_tail, 1).await), last, "from the offset the next message gets");
}

/// What is in one partition is in no other.
pub async fn partitions_are_separate(subject: &dyn LogUnderTest, partitions: [u32; 2]) {
    let log = subject.log();
    let count = log.partitions().await.expect("a number of partitions");
    assert!(count >= PARTITIONS, "the log under test has {count} partitions and needs {PARTITIONS}");
    for partition in partitions {
        let appended = append_each(&*log, partition, 2).await;
        let mut reader = open(&*log, partition, Position::First).await;
        assert_eq!(events_of(read_messages(&mut *reader, 2).await), appended);
        assert!(next(&mut *reader, 10, SHORT).await.is_empty(), "partition {partition} has only its own");
    }
}

/// 11,000 events in one call.
pub async fn more_events_than_a_batch_holds_are_split(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    let events = sample_events(MAX_EVENTS_PER_BATCH + 1_000);
    log.append(partition, &events).await.expect("an append");
    let bounds = log.bounds(partition).await.expect("bounds");
    assert!(bounds.next >= 2, "one message cannot hold them");
    let mut reader = open(&*log, partition, Position::First).await;
    let messages = read_until(&mut *reader, bounds.next - 1).await;
    assert!(events_of(messages) == events, "every event comes back once, in order");
}

/// Concurrent callers get their own confirms.
pub async fn appends_side_by_side_are_each_there_once(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    let events = sample_events(200);
    let appends = events.chunks(2).map(|pair| {
        let (log, pair) = (Arc::clone(&log), pair.to_vec());
        async move { tokio::spawn(async move { log.append(partition, &pair).await }).await }
    });
    for append in join_all(appends).await {
        append.expect("a task").expect("an append");
    }
    let mut reader = open(&*log, partition, Position::First).await;
    let read = events_of(read_messages(&mut *reader, 100).await);
    assert!(next(&mut *reader, 1, SHORT).await.is_empty(), "there is nothing else");
    assert_eq!(read.len(), events.len());
    assert_eq!(ids(&read), ids(&events), "each event is there once");
}

/// Empty, then not.
pub async fn bounds_follow_the_messages(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    assert_eq!(log.bounds(partition).await.expect("bounds"), Bounds { first: 0, next: 0 }, "an empty partition");
    for appended in 1..=3 {
        append_each(&*log, partition, 1).await;
        assert_eq!(log.bounds(partition).await.expect("bounds"), Bounds { first: 0, next: appended });
    }
}

/// An empty list, not before the time and not long after.
pub async fn an_idle_reader_gives_an_empty_list_in_time(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    append_each(&*log, partition, 1).await;
    let mut reader = open(&*log, partition, Position::First).await;
    assert_eq!(read_messages(&mut *reader, 1).await.len(), 1);
    for _ in 0..2 {
        let began = Instant::now();
        assert!(next(&mut *reader, 10, SHORT).await.is_empty());
        let took = began.elapsed();
        assert!(took >= SHORT && took < PATIENCE, "it waited {took:?}");
    }
}

/// Beyond the end: the log was made anew since that offset was read.
pub async fn an_offset_the_log_does_not_have_is_a_gap(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    let error = first_error(&*log, partition, Position::Offset(5)).await;
    assert!(matches!(error, LogError::Gap { asked: 5, next: 0, .. }), "an empty log: {error}");
    append_each(&*log, partition, 3).await;
    let error = first_error(&*log, partition, Position::Offset(4)).await;
    assert!(matches!(error, LogError::Gap { asked: 4, first: 0, next: 3, .. }), "beyond the end: {error}");
    assert!(!error.is_transient(), "a gap does not heal by itself");
}

/// What another program publishes wrongly does not stop what is right.
pub async fn garbage_is_refused_and_the_rest_flows_on(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    let good = sample_events(1).remove(0);
    subject.append_raw(partition, SINGLE_CONTENT_TYPE, b"\x00 not json").await;
    subject.append_raw(partition, "text/plain", &encode(&good).body).await;
    subject.append_raw(partition, SINGLE_CONTENT_TYPE, b"").await;
    subject.append_raw(partition, SINGLE_CONTENT_TYPE, &encode(&good).body).await;
    let mut reader = open(&*log, partition, Position::First).await;
    let mut messages = read_messages(&mut *reader, 4).await;
    let last = messages.pop().expect("a message");
    assert_eq!(last.events, [Ok(good)], "the good one arrives");
    for message in &messages {
        assert!(matches!(message.events[..], [Err(_)]), "offset {} is refused as a whole", message.offset);
    }
    assert!(matches!(&messages[0].events[0], Err(Refused { raw, .. }) if raw == b"\x00 not json"), "as it came");
    assert!(matches!(&messages[1].events[0], Err(Refused { error: ContractError::ContentType, .. })));
}

/// Reopened at the offset after the last message it gave.
pub async fn a_reader_that_was_dropped_loses_nothing(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    let events = append_each(&*log, partition, 40).await;
    let mut read = Vec::new();
    while read.len() < events.len() {
        let from = u64::try_from(read.len()).expect("a small number");
        let mut reader = open(&*log, partition, Position::Offset(from)).await;
        read.extend(events_of(next(&mut *reader, 17, PATIENCE).await));
    }
    assert_eq!(read, events);
}

/// Calls that are dropped at any point.
pub async fn a_next_that_was_dropped_loses_nothing(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    let events = append_each(&*log, partition, 40).await;
    let mut reader = open(&*log, partition, Position::First).await;
    let (mut read, began) = (Vec::new(), Instant::now());
    let mut cut = 0;
    while read.len() < events.len() && began.elapsed() < PATIENCE {
        cut = (cut + 50) % 5_000;
        if let Ok(messages) = tokio::time::timeout(Duration::from_micros(cut), reader.next(3, PATIENCE)).await {
            read.extend(events_of(messages.expect("messages")));
        }
    }
    assert_eq!(read, events);
}

/// A follower sees what is appended while it waits.
pub async fn a_reader_that_waits_is_woken(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    let mut reader = open(&*log, partition, Position::First).await;
    let follower = tokio::spawn(async move { (next(&mut *reader, 10, PATIENCE).await, Instant::now()) });
    tokio::time::sleep(SHORT).await;
    let appended = append_each(&*log, partition, 1).await;
    let confirmed = Instant::now();
    let (messages, seen) = follower.await.expect("a task");
    assert_eq!(events_of(messages), appended);
    let late = seen.saturating_duration_since(confirmed);
    assert!(late < Duration::from_secs(2), "it was seen {late:?} after it was confirmed");
}

/// Nothing to append appends nothing.
pub async fn an_empty_append_is_nothing(subject: &dyn LogUnderTest, partition: u32) {
    let log = subject.log();
    log.append(partition, &[]).await.expect("an append");
    assert_eq!(log.bounds(partition).await.expect("bounds").next, 0);
}

/// Appending and reading beyond the last partition.
pub async fn a_partition_that_is_not_there_is_said_so(subject: &dyn LogUnderTest) {
    let log = subject.log();
    let count = log.partitions().await.expect("a number of partitions");
    let append = log.append(count, &sample_events(1)).await;
    let told = matches!(append, Err(AppendError::NoSuchPartition { asked, partitions }) if asked == partitions);
    assert!(told, "appending beyond the last partition: {append:?}");
    let error = first_error(&*log, count, Position::First).await;
    assert!(matches!(error, LogError::Missing { .. }), "reading beyond the last partition: {error}");
    assert!(matches!(log.bounds(count).await, Err(LogError::Missing { .. })));
}

/// The letters of a log are in one queue, so what they do is seen one after the other.
async fn letters_are_kept(subject: &dyn LogUnderTest) {
    a_letter_parked_twice_keeps_its_id(subject).await;
    what_is_not_taken_out_stays(subject).await;
    nothing_is_unrouted_that_was_not_published(subject).await;
}

/// The id is the poison's, so that the same letter can be told.
pub async fn a_letter_parked_twice_keeps_its_id(subject: &dyn LogUnderTest) {
    let letters = subject.dead_letters();
    assert_eq!(letters.peek(10).await.expect("a peek"), []);
    let whole = DeadLetter { partition: 3, offset: 14, content_type: None, refused: refused(None, b"\xff\x00poison") };
    let part = DeadLetter {
        partition: 3,
        offset: 15,
        content_type: Some("text/plain".to_owned()),
        refused: refused(Some(9), b"{}"),
    };
    letters.park(&[whole.clone(), part]).await.expect("parking");
    letters.park(&[whole]).await.expect("parking again");
    for _ in 0..3 {
        let mut parked = letters.peek(10).await.expect("a peek");
        assert!(matches!(parked.len(), 2 | 3), "peeking takes nothing out: {}", parked.len());
        parked.sort_by_key(|letter| letter.offset);
        parked.dedup_by(|one, other| one.id == other.id);
        let first = &parked[0];
        assert_eq!((first.id.as_str(), first.partition, first.offset, first.index), ("3-14", 3, 14, None));
        assert_eq!((first.reason.as_str(), first.detail.as_str()), ("field", "time: is missing"));
        assert_eq!(first.raw, b"\xff\x00poison", "the bytes are kept as they came");
        assert_eq!((parked[1].id.as_str(), parked[1].index), ("3-15-9", Some(9)));
        assert_eq!(parked.len(), 2, "the same letter again");
    }
    assert_eq!(letters.peek(1).await.expect("a peek").len(), 1, "no more than was asked for");
    let mut parked = letters.peek(3).await.expect("a peek");
    parked.sort_by_key(|letter| letter.offset);
    assert_eq!(parked[0].content_type, None);
    let last = parked.last().expect("a letter");
    assert_eq!(last.content_type.as_deref(), Some("text/plain"), "the message's content type is kept");
    let age = Timestamp::now().duration_since(parked[0].parked_at.expect("a time"));
    assert!(age.as_secs().abs() < 60, "it says when it was parked: {age}");
}

/// Rounds that take out some, all, or break off. Leaves no letter.
pub async fn what_is_not_taken_out_stays(subject: &dyn LogUnderTest) {
    let letters = subject.dead_letters();
    take_out(&*letters, |_| true).await;
    let poison = |offset| DeadLetter { partition: 0, offset, content_type: None, refused: refused(None, b"poison") };
    letters.park(&(0..10).map(poison).collect::<Vec<_>>()).await.expect("parking");

    let mut dropped = letters.open(LetterQueue::Dead).await.expect("a round");
    for _ in 0..4 {
        dropped.next().await.expect("a letter");
    }
    drop(dropped);
    crate::wait_until(PATIENCE, async || letters.open(LetterQueue::Dead).await.is_ok()).await;
    let ids = |offsets: &[u64]| offsets.iter().map(|offset| format!("0-{offset}")).collect::<Vec<_>>();
    assert_eq!(take_out(&*letters, |_| false).await, ids(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), "a look leaves all");
    take_out(&*letters, |letter| letter.offset % 3 == 0).await;
    assert_eq!(take_out(&*letters, |_| true).await, ids(&[1, 2, 4, 5, 7, 8]), "the others stay");
    assert_eq!(letters.peek(10).await.expect("a peek"), []);
}

/// Goes through once, and gives the ids that were seen, sorted.
async fn take_out(letters: &dyn DeadLetters, is_taken: impl Fn(&ParkedLetter) -> bool) -> Vec<String> {
    let mut round = letters.open(LetterQueue::Dead).await.expect("a round");
    let mut seen = Vec::new();
    while let Some((ticket, letter)) = round.next().await.expect("a letter") {
        if is_taken(&letter) {
            round.take_out(ticket).await.expect("taking out");
        }
        seen.push(letter.id);
    }
    round.close().await.expect("a close");
    seen.sort();
    seen
}

/// The other queue is looked at in the same way.
pub async fn nothing_is_unrouted_that_was_not_published(subject: &dyn LogUnderTest) {
    let letters = subject.dead_letters();
    let mut round = letters.open(LetterQueue::Unrouted).await.expect("a round");
    assert!(round.next().await.expect("a look").is_none());
    round.close().await.expect("a close");
}

/// Some events of different users, each with an id of its own.
pub fn sample_events(count: usize) -> Vec<ActivityEvent> {
    (0..count).map(sample_event).collect()
}

fn sample_event(number: usize) -> ActivityEvent {
    let text = format!("{number:032x}.9188040d-6c67-4c5b-b112-36a304b66dad");
    let details = AccountDetails {
        home_account_id: HomeAccountId::new(text.as_str()).expect("an id"),
        object_id: None,
        tenant_id: None,
        environment: Environment::new("login.microsoftonline.com").expect("a host"),
        client_id: ClientId::new("6731de76-14a6-49ae-97bc-6eba6914391e").expect("an id"),
        username: None,
        access_token_expires_on: Some(1_795_400_000),
        refresh_token_expires_on: None,
        has_refresh_token: true,
        properties: Properties::default(),
    };
    // Written and read, so that what is read fills in (the halves of the id) is in the sample too.
    let source = EventSource::new("/apps/conformance").expect("a source");
    let key = CacheKey::new(text).expect("a key");
    let event = EventDraft::new(source, key, Activity::UserActivity(details)).at(Timestamp::now());
    let mut read = common::event::decode(Some(SINGLE_CONTENT_TYPE), &encode(&event).body);
    read.remove(0).expect("an event within the contract")
}

fn refused(index: Option<usize>, raw: &[u8]) -> Refused {
    let error = ContractError::Field { field: "time".to_owned(), problem: "is missing".to_owned() };
    Refused { index, error, raw: raw.to_vec() }
}

async fn append_each(log: &dyn ActivityLog, partition: u32, count: usize) -> Vec<ActivityEvent> {
    let events = sample_events(count);
    for event in &events {
        log.append(partition, std::slice::from_ref(event)).await.expect("an append");
    }
    events
}

async fn open(log: &dyn ActivityLog, partition: u32, position: Position) -> Box<dyn LogReader> {
    log.read(partition, position).await.expect("a reader")
}

async fn next(reader: &mut dyn LogReader, max: usize, wait: Duration) -> Vec<LogMessage> {
    let messages = reader.next(max, wait).await.expect("messages");
    assert!(messages.len() <= max, "{} messages where {max} were asked for", messages.len());
    messages
}

/// Reads exactly `count` messages.
async fn read_messages(reader: &mut dyn LogReader, count: usize) -> Vec<LogMessage> {
    let (mut messages, began) = (Vec::new(), Instant::now());
    while messages.len() < count {
        assert!(began.elapsed() < PATIENCE, "only {} of {count} messages came", messages.len());
        messages.extend(next(reader, count - messages.len(), PATIENCE).await);
    }
    messages
}

/// Reads up to and with the message at `last`.
async fn read_until(reader: &mut dyn LogReader, last: u64) -> Vec<LogMessage> {
    let (mut messages, began) = (Vec::<LogMessage>::new(), Instant::now());
    while messages.last().is_none_or(|message| message.offset < last) {
        assert!(began.elapsed() < PATIENCE, "offset {last} did not come");
        messages.extend(next(reader, 1, PATIENCE).await);
    }
    messages
}

async fn first_error(log: &dyn ActivityLog, partition: u32, position: Position) -> LogError {
    match log.read(partition, position).await {
        Err(error) => error,
        Ok(mut reader) => reader.next(1, PATIENCE).await.expect_err("an error"),
    }
}

fn events_of(messages: Vec<LogMessage>) -> Vec<ActivityEvent> {
    messages.into_iter().flat_map(|message| message.events).map(|event| event.expect("a good event")).collect()
}

fn ids(events: &[ActivityEvent]) -> HashSet<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}
