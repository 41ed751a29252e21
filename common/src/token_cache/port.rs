//! The ports of the token cache: blobs by cache key, and the outbox whose entries are written with them.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::digest::BlobDigest;
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::event::{EventDraft, SealedEvent};
use crate::index::Fence;

/// Where the blobs are kept. Every write can carry an event, stored in the same atomic operation.
#[async_trait]
pub trait TokenCacheStore: Send + Sync + fmt::Debug {
    /// The blob under `key`. Re-arms a sliding expiry.
    ///
    /// # Errors
    /// [`BackendError`]. That the store is down is never `Ok(None)`.
    async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError>;

    /// As [`read`](Self::read), but a blob that still has the digest `known` need not travel.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn reread(&self, key: &CacheKey, known: &BlobDigest) -> Result<Reread, BackendError> {
        Ok(match self.read(key).await? {
            None => Reread::Absent,
            Some(blob) if BlobDigest::of(&blob) == *known => Reread::Unchanged,
            Some(blob) => Reread::Changed(blob),
        })
    }

    /// Writes the blob and appends the event to the outbox, both or neither.
    ///
    /// # Errors
    /// [`BackendError`]; a write that timed out may have happened, both parts of it.
    ///
    /// # Cancel safety
    /// A dropped call may still write, both parts or neither.
    async fn write(&self, write: CacheWrite<'_>) -> Result<WriteOutcome, BackendError>;

    /// Removes the blob and appends the event to the outbox, both or neither; the event also where there was no
    /// blob, since another copy may have listed it. Says whether there was one.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn remove(&self, key: &CacheKey, event: Option<&EventDraft>) -> Result<bool, BackendError>;
}

/// What is stored, seen from somebody who has a copy.
#[derive(Clone, PartialEq, Eq)]
pub enum Reread {
    /// The copy's bytes.
    Unchanged,
    /// These bytes. They hold secrets: they are never printed.
    Changed(Vec<u8>),
    /// Nothing.
    Absent,
}

/// One write of a blob.
#[derive(Clone, Copy)]
pub struct CacheWrite<'a> {
    /// Under which key.
    pub key: &'a CacheKey,
    /// The serialized cache. Holds secrets: it is never printed.
    pub blob: &'a [u8],
    /// How long it is kept.
    pub expiry: ExpiryChange,
    /// What must be stored for the write to happen.
    pub precondition: Precondition<'a>,
    /// The event to append with it.
    pub event: Option<&'a EventDraft>,
    /// The fencing token of the claim under which it is written. A store remembers the highest of each cache key for
    /// [`Self::FENCE_KEPT`] and refuses a lower one; who is later still meets compare-and-set.
    pub fence: Option<Fence>,
}

impl CacheWrite<'_> {
    /// How long a fence is remembered after the write that carried it.
    pub const FENCE_KEPT: Duration = Duration::from_secs(15 * 60);
}

impl fmt::Debug for CacheWrite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheWrite")
            .field("key", self.key)
            .field("blob_bytes", &self.blob.len())
            .finish_non_exhaustive()
    }
}

/// How long a blob is kept: until `absolute`, and no longer than `sliding` after the last read or write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expiry {
    /// The time it is gone at.
    pub absolute: Option<Timestamp>,
    /// How long it lives unread.
    pub sliding: Option<Duration>,
}

/// What a write does to the expiry.
///
/// A write starts a sliding window anew in either case, as a read does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryChange {
    /// This one, whatever the blob before had.
    To(Expiry),
    /// The one that is stored stays, also where it is nothing but the TTL that a foreign writer left on the key;
    /// none where nothing is stored. For writers that do not own the cache: a worker must neither prolong nor lose
    /// what the web app decided.
    Kept,
}

impl Default for ExpiryChange {
    /// No expiry.
    fn default() -> Self {
        Self::To(Expiry::default())
    }
}

impl From<Expiry> for ExpiryChange {
    fn from(expiry: Expiry) -> Self {
        Self::To(expiry)
    }
}

/// What must be stored for a write to happen.
#[derive(Clone, Copy)]
pub enum Precondition<'a> {
    /// Anything or nothing: the last writer wins.
    None,
    /// No blob.
    Absent,
    /// Exactly these bytes, as they were read.
    Unchanged(&'a [u8]),
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The blob and its event are stored.
    Written,
    /// The precondition did not hold: nothing was stored. Read again and merge.
    Conflict,
    /// Somebody who claimed the account later has written already: nothing was stored. Leave the account to them.
    Fenced,
}

/// The events that were written with blobs and are not yet known to be in the log.
///
/// Several relays may share one outbox: an entry that one has taken is not given to another one before its
/// visibility time is over. Duplicates are harmless; losses are not.
#[async_trait]
pub trait Outbox: Send + Sync + fmt::Debug {
    /// Appends an event that goes with no blob.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn append(&self, event: &EventDraft) -> Result<(), BackendError>;

    /// Takes up to `max` entries that are neither confirmed nor in another relay's hands, oldest first. They are
    /// this relay's for `visibility`, which all relays of one outbox give alike. Waits up to `wait` for a first one;
    /// an empty list where none came.
    ///
    /// An entry that is no event of this version (another program wrote it, or a newer version did) is set aside and
    /// reported as an error, see [`Backlog::refused`]: it neither blocks those behind it nor vanishes.
    ///
    /// # Errors
    /// [`BackendError`].
    ///
    /// # Cancel safety
    /// Entries taken by a call that was dropped come back after `visibility`.
    async fn take(&self, max: usize, visibility: Duration, wait: Duration) -> Result<Vec<OutboxEntry>, BackendError>;

    /// Marks entries as confirmed by the log. They are kept until [`trim`](Self::trim).
    ///
    /// # Errors
    /// [`BackendError`].
    async fn confirm(&self, entries: &[EntryId]) -> Result<(), BackendError>;

    /// Makes the confirmed entries of the last `age` takeable again: the log may have lost them. Entries that are
    /// not confirmed come back by themselves, if not sooner.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn rewind(&self, age: Duration) -> Result<(), BackendError>;

    /// Forgets confirmed entries that are older than `age`; never one that is not confirmed. Says how many.
    ///
    /// A backend may keep confirmed entries behind the oldest unconfirmed one. It is also the time to delete
    /// blobs that have expired, where the backend does not do so by itself.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn trim(&self, age: Duration) -> Result<u64, BackendError>;

    /// What waits to be confirmed.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn backlog(&self) -> Result<Backlog, BackendError>;
}

/// The place of an entry in its outbox, as the backend spells it: its own, and taken back by that backend alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryId(String);

impl EntryId {
    /// An id, for backends to give out.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One event of the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    /// Its place.
    pub id: EntryId,
    /// The event, at the time the store gave it: the same each time the entry is taken. Every time of an outbox
    /// is later than the one before it.
    pub event: SealedEvent,
}

/// What waits in an outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Entries that are not confirmed.
    pub unconfirmed: u64,
    /// Entries in all, the confirmed ones of the grace period included.
    pub kept: u64,
    /// The age of the oldest unconfirmed entry.
    pub oldest: Option<Duration>,
    /// Entries that were set aside because they are no event of this version. They are never dropped, and never
    /// counted in `unconfirmed` and `kept`. Anything but 0 is an alarm.
    pub refused: u64,
}
