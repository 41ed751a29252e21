//! The outbox in Redis: a stream read through a consumer group.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError, Value};

use super::append::APPEND_EVENT;
use super::housekeeping::{BACKLOG, LOOK, REWIND, TRIM};
use super::script::Script;
use super::{RedisTokenCache, blocking};
use crate::backend::BackendError;
use crate::event::{EventDraft, SealedEvent, encode_draft};
use crate::token_cache::port::{Backlog, EntryId, Outbox, OutboxEntry};

/// The consumer group that all relays share.
pub(super) const GROUP: &str = "relay";
/// One consumer for all relays: who holds an entry does not matter, only for how long.
const CONSUMER: &str = "relay";
/// How many ids one XACK names.
const ACK_CHUNK: usize = 500;
/// The first id that is a time of this century in microseconds, and not one in milliseconds.
const FIRST_MICROS: i64 = 1_000_000_000_000_000;
/// What abandoned entries are looked for at most, however short the visibility time is.
const CLAIM_EVERY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

#[derive(Debug)]
pub(super) struct OutboxScripts {
    append: Script,
    rewind: Script,
    trim: Script,
    backlog: Script,
}

impl OutboxScripts {
    pub(super) fn new() -> Self {
        Self {
            append: Script::new(&[APPEND_EVENT, "append_event(KEYS[1], ARGV[1])"]),
            rewind: Script::new(&[LOOK, REWIND]),
            trim: Script::new(&[LOOK, TRIM]),
            backlog: Script::new(&[LOOK, BACKLOG]),
        }
    }
}

#[async_trait]
impl Outbox for RedisTokenCache {
    async fn append(&self, event: &EventDraft) -> Result<(), BackendError> {
        self.run(&self.shared.outbox.append, &[&self.shared.keys.outbox], &[&encode_draft(event)]).await
    }

    async fn take(&self, max: usize, visibility: Duration, wait: Duration) -> Result<Vec<OutboxEntry>, BackendError> {
        let begun = Instant::now();
        let mut connection = self.shared.blocking.get().await?;
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            let taken = self.take_raw(&mut connection, max.max(1), visibility, left).await;
            let is_none = matches!(&taken, Ok(raw) if raw.is_empty());
            let entries = self.readable(taken?).await?;
            let is_over = is_none && begun.elapsed() >= wait;
            if !entries.is_empty() || is_over {
                self.shared.blocking.put_back(connection);
                return Ok(entries);
            }
        }
    }

    async fn confirm(&self, entries: &[EntryId]) -> Result<(), BackendError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut acks = redis::pipe();
        for chunk in entries.chunks(ACK_CHUNK) {
            let ids: Vec<&str> = chunk.iter().map(EntryId::as_str).collect();
            acks.cmd("XACK").arg(&self.shared.keys.outbox).arg(GROUP).arg(ids).ignore();
        }
        let mut connection = self.connection().await?;
        acks.query_async(&mut *connection).await.map_err(|e| self.error(e))
    }

    async fn rewind(&self, age: Duration) -> Result<(), BackendError> {
        self.run_by_age(&self.shared.outbox.rewind, age).await
    }

    async fn trim(&self, age: Duration) -> Result<u64, BackendError> {
        self.run_by_age(&self.shared.outbox.trim, age).await
    }

    async fn backlog(&self) -> Result<Backlog, BackendError> {
        let keys = [self.shared.keys.outbox.as_str(), &self.shared.keys.refused];
        let counts: Counts = self.run(&self.shared.outbox.backlog, &keys, &[GROUP.as_bytes()]).await?;
        let (unconfirmed, kept, oldest_us, refused) = counts;
        let oldest = oldest_us.and_then(|us| us.parse().ok()).map(Duration::from_micros);
        Ok(Backlog { unconfirmed, kept, oldest, refused })
    }
}

/// Saturates below 2^53, where Lua's numbers are exact; it is 285 years.
fn micros(age: Duration) -> String {
    age.as_micros().min(9_000_000_000_000_000).to_string()
}

/// Unconfirmed, kept, the age of the oldest in microseconds, refused.
type Counts = (u64, u64, Option<String>, u64);

/// The fields of an entry, as names and values.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;
/// Entries by id; the fields are missing where the entry was deleted while it was pending.
type RawEntries = Vec<(String, Option<Fields>)>;

impl RedisTokenCache {
    async fn run_by_age<T: FromRedisValue>(&self, script: &Script, age: Duration) -> Result<T, BackendError> {
        let age = micros(age);
        self.run(script, &[&self.shared.keys.outbox], &[GROUP.as_bytes(), age.as_bytes()]).await
    }

    /// Makes the consumer group, at the beginning of the stream, where there is none.
    pub(super) async fn make_group(&self) -> Result<(), BackendError> {
        let mut connection = self.connection().await?;
        match make_group(&self.shared.keys.outbox).query_async::<()>(&mut *connection).await {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(self.error(error)),
            _ => Ok(()),
        }
    }

    /// Takes what was abandoned, else what is new, for which it waits no longer than `wait` nor than until the next
    /// look for abandoned entries is due.
    async fn take_raw(
        &self,
        connection: &mut MultiplexedConnection,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<RawEntries, BackendError> {
        let claim_every = (visibility / 4).clamp(CLAIM_EVERY.0, CLAIM_EVERY.1);
        if self.is_claim_due(claim_every) {
            let abandoned = self.claim(connection, max, visibility).await?;
            if !abandoned.is_empty() {
                // There may be more of them than fit.
                self.shared.next_claim.store(0, Ordering::Relaxed);
                return Ok(abandoned);
            }
        }
        self.read_new(connection, max, wait.min(claim_every)).await
    }

    /// Whether it is this call that looks for abandoned entries now.
    fn is_claim_due(&self, every: Duration) -> bool {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.shared.opened.elapsed());
        let due = self.shared.next_claim.load(Ordering::Relaxed);
        let next = now.saturating_add(millis(every));
        now >= due && self.shared.next_claim.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    async fn claim(
        &self,
        connection: &mut MultiplexedConnection,
        max: usize,
        visibility: Duration,
    ) -> Result<RawEntries, BackendError> {
        let mut cursor = "0-0".to_owned();
        loop {
            let command = claim(&self.shared.keys.outbox, max, visibility, &cursor);
            // Redis 7 adds the ids it found deleted; 6.2 does not.
            let answer: Vec<Value> = self.ask(connection, &command, Duration::ZERO).await?;
            let mut parts = answer.into_iter();
            cursor = self.part(parts.next())?;
            let entries: RawEntries = self.part(parts.next())?;
            if !entries.is_empty() || cursor == "0-0" {
                return Ok(entries);
            }
        }
    }

    async fn read_new(
        &self,
        connection: &mut MultiplexedConnection,
        max: usize,
        wait: Duration,
    ) -> Result<RawEntries, BackendError> {
        let command = read_new(&self.shared.keys.outbox, max, wait);
        let streams: Option<Vec<(String, RawEntries)>> = self.ask(connection, &command, wait).await?;
        Ok(streams.into_iter().flatten().flat_map(|(_, entries)| entries).collect())
    }

    /// Asks, and where the stream or its group is gone makes the group and asks once more.
    async fn ask<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
        command: &Cmd,
        wait: Duration,
    ) -> Result<T, BackendError> {
        match blocking::query(connection, command, wait).await {
            Err(error) if is_without_group(&error) => {
                self.make_group().await?;
                blocking::query(connection, command, wait).await.map_err(|e| self.error(e))
            }
            answer => answer.map_err(|e| self.error(e)),
        }
    }

    fn part<T: FromRedisValue>(&self, value: Option<Value>) -> Result<T, BackendError> {
        redis::from_redis_value(value.unwrap_or(Value::Nil)).map_err(|e| self.error(e.into()))
    }

    /// Reads the entries; what is no event is set aside.
    async fn readable(&self, raw: RawEntries) -> Result<Vec<OutboxEntry>, BackendError> {
        let mut entries = Vec::with_capacity(raw.len());
        for (id, fields) in raw {
            match entry(&id, fields.as_ref()) {
                Ok(entry) => entries.push(entry),
                Err(reason) => self.refuse(&id, fields.unwrap_or_default(), &reason).await?,
            }
        }
        Ok(entries)
    }

    /// Moves an entry to the stream of the refused ones, its id and the reason before its own fields.
    async fn refuse(&self, id: &str, fields: Fields, reason: &str) -> Result<(), BackendError> {
        let (outbox, refused) = (&self.shared.keys.outbox, &self.shared.keys.refused);
        let mut moved = redis::pipe();
        moved.atomic().cmd("XADD").arg(refused).arg("*").arg("entry").arg(id).arg("reason").arg(reason).arg(fields);
        moved.ignore().cmd("XACK").arg(outbox).arg(GROUP).arg(id).ignore();
        moved.cmd("XDEL").arg(outbox).arg(id).ignore();
        let mut connection = self.connection().await?;
        moved.query_async::<()>(&mut *connection).await.map_err(|e| self.error(e))?;
        tracing::error!(entry = id, reason, stream = refused, "an outbox entry is no event; set aside");
        Ok(())
    }
}

pub(super) fn entry(id: &str, fields: Option<&Fields>) -> Result<OutboxEntry, String> {
    let draft = fields.and_then(|fields| fields.iter().find(|(name, _)| name == b"e"));
    let (_, draft) = draft.ok_or("it has no field `e`")?;
    let time = time_of(id).ok_or("its id is no time in microseconds")?;
    let event = SealedEvent::of_draft(draft, time).map_err(|error| error.to_string())?;
    Ok(OutboxEntry { id: EntryId::new(id), event })
}

fn time_of(id: &str) -> Option<jiff::Timestamp> {
    let micros: i64 = id.split('-').next()?.parse().ok()?;
    jiff::Timestamp::from_microsecond(micros).ok().filter(|_| micros >= FIRST_MICROS)
}

fn is_without_group(error: &RedisError) -> bool {
    matches!(error.code(), Some("NOGROUP" | "UNBLOCKED"))
}

fn make_group(outbox: &str) -> Cmd {
    redis::cmd("XGROUP").arg("CREATE").arg(outbox).arg(GROUP).arg("0").arg("MKSTREAM").to_owned()
}

fn claim(outbox: &str, max: usize, visibility: Duration, cursor: &str) -> Cmd {
    let mut command = redis::cmd("XAUTOCLAIM");
    let idle = u64::try_from(visibility.as_millis()).unwrap_or(u64::MAX);
    command.arg(outbox).arg(GROUP).arg(CONSUMER).arg(idle).arg(cursor).arg("COUNT").arg(max);
    command
}

fn read_new(outbox: &str, max: usize, wait: Duration) -> Cmd {
    let mut command = redis::cmd("XREADGROUP");
    command.arg("GROUP").arg(GROUP).arg(CONSUMER).arg("COUNT").arg(max);
    // BLOCK 0 would wait for ever.
    if wait.as_millis() > 0 {
        command.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }
    command.arg("STREAMS").arg(outbox).arg(">");
    command
}
