//! Writing: read, merge, and write if unchanged, in chunks.

mod batch;
mod moves;

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use redis::AsyncCommands as _;

use self::batch::{Batch, Stored};
use super::RedisGeneration;
use super::keys::{Keys, member};
use super::layout::is_outdated;
use super::shards::Member;
use crate::backend::{BackendError, Trouble};
use crate::index::entry;
use crate::index::{AccountActivity, DuePolicy, record};
use crate::redis_pool::AnyConnection;

/// How many accounts one script writes: some milliseconds in which Redis serves nobody else.
const CHUNK: usize = 500;
/// While Redis writes one chunk, others are read and merged here: a read waits in Redis for the write before it.
const CHUNKS_AT_ONCE: usize = 4;
/// Shards of a cluster may be on as many servers.
const MOST_CHUNKS_AT_ONCE: usize = 8;

/// How long to wait before accounts that others wrote meanwhile are read again, and how often.
fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(1))
        .with_max_delay(Duration::from_millis(100))
        .with_max_times(20)
        .with_jitter()
        .build()
}

/// What is said of one account.
#[derive(Clone, Copy)]
struct Said<'a> {
    account: &'a AccountActivity,
    member: Member,
}

/// What became of a call.
enum Written {
    /// All is written.
    All,
    /// Nothing: others had written the accounts in these places, from 1.
    Not(Vec<usize>),
    /// Nothing: the layout has changed.
    Outdated,
}

impl RedisGeneration {
    /// On one connection, chunk by chunk, each of one shard.
    pub(super) async fn apply_in_chunks(&self, changes: &[AccountActivity]) -> Result<(), BackendError> {
        if changes.is_empty() {
            return Ok(());
        }
        let accounts = entry::by_key(changes);
        let accounts: Vec<&AccountActivity> = accounts.values().map(AsRef::as_ref).collect();
        let policy = self.due_policy().await?;
        let connection = self.pool.get().await?;
        let chunks = self.chunks(&accounts);
        let calls: Vec<_> = chunks
            .into_iter()
            .map(|(keys, chunk)| self.apply_chunk(connection.clone(), keys, &policy, chunk))
            .collect();
        let at_once = self.shards.all().len().clamp(CHUNKS_AT_ONCE, MOST_CHUNKS_AT_ONCE);
        stream::iter(calls).buffer_unordered(at_once).try_collect().await
    }

    /// What is said, by shard and in chunks; of the shards in turn.
    fn chunks<'a>(&self, accounts: &[&'a AccountActivity]) -> Vec<(&Keys, Vec<Said<'a>>)> {
        let places = self.shards.places(accounts.iter().map(|account| &account.cache_key));
        let mut chunks = Vec::new();
        for (keys, places) in self.shards.all().iter().zip(&places) {
            for (turn, places) in places.chunks(CHUNK).enumerate() {
                let said = places.iter().map(|(place, member)| Said { account: accounts[*place], member: *member });
                chunks.push((turn, (keys, said.collect())));
            }
        }
        chunks.sort_by_key(|(turn, _)| *turn);
        chunks.into_iter().map(|(_, chunk)| chunk).collect()
    }

    async fn apply_chunk(
        &self,
        mut connection: AnyConnection,
        keys: &Keys,
        policy: &DuePolicy,
        chunk: Vec<Said<'_>>,
    ) -> Result<(), BackendError> {
        let mut left = vec![chunk];
        for pause in pauses() {
            let mut again = Vec::new();
            for chunk in left {
                again.extend(self.try_chunk(&mut connection, keys, policy, &chunk).await?);
            }
            if again.is_empty() {
                return Ok(());
            }
            left = again;
            tracing::debug!(chunks = left.len(), "others wrote the same accounts; reading them again");
            tokio::time::sleep(pause).await;
        }
        let message = "others keep writing the same accounts; try again";
        Err(BackendError::plain(Trouble::Unavailable, self.pool.address(), message))
    }

    /// Reads, merges and writes once. Gives back what is not written: what others wrote between the two apart from the
    /// rest, so that the more who write, the less each call has to find unchanged.
    async fn try_chunk<'a>(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
        policy: &DuePolicy,
        chunk: &[Said<'a>],
    ) -> Result<Vec<Vec<Said<'a>>>, BackendError> {
        let stored = self.read_chunk(connection, keys, chunk).await?;
        let layout = self.layout(connection, keys).await?;
        let mut batch = Batch::new(keys, policy, &layout);
        let mut tried = Vec::with_capacity(chunk.len());
        for (said, stored) in chunk.iter().zip(stored) {
            if batch.join(said.member, said.account, stored) {
                tried.push(*said);
            }
        }
        if let Some(undecided) = batch.undecided() {
            self.decide(connection, keys, undecided).await?;
            return Ok(vec![tried]);
        }
        Ok(match self.write(connection, keys, &batch).await? {
            Written::All => Vec::new(),
            Written::Outdated => vec![tried],
            Written::Not(changed) => split(tried, &changed),
        })
    }

    async fn read_chunk(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
        chunk: &[Said<'_>],
    ) -> Result<Vec<Stored>, BackendError> {
        let fields: Vec<&[u8]> = chunk.iter().map(|said| &said.member[..]).collect();
        let records: Vec<Option<Vec<u8>>> =
            connection.hmget(keys.accounts(), &fields).await.map_err(|e| self.pool.error(e))?;
        chunk.iter().zip(records).map(|(said, record)| self.stored(said, record)).collect()
    }

    fn stored(&self, said: &Said<'_>, record: Option<Vec<u8>>) -> Result<Stored, BackendError> {
        let Some(record) = record else { return Ok(Stored::Nothing) };
        let account = record::decode(&record).map_err(|error| self.unreadable(error))?;
        if account.cache_key == said.account.cache_key {
            return Ok(Stored::Record(record, Box::new(account)));
        }
        // Another key's account: in its own place, or in one that is not its own.
        self.decode(&said.member, &record)?;
        Err(self.one_digest())
    }

    async fn write(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
        batch: &Batch<'_>,
    ) -> Result<Written, BackendError> {
        if batch.is_empty() {
            return Ok(Written::All);
        }
        match batch.call(&self.scripts.apply, connection).await {
            Ok(changed) if changed.is_empty() => Ok(Written::All),
            Ok(changed) => Ok(Written::Not(changed)),
            Err(error) if is_outdated(&error) => {
                self.layouts.forget(keys);
                Ok(Written::Outdated)
            }
            Err(error) => Err(self.pool.error(error)),
        }
    }

    /// Writes one account as it is given, if it is as it is expected.
    pub(super) async fn replace_one(
        &self,
        expected: Option<&AccountActivity>,
        with: Option<&AccountActivity>,
    ) -> Result<bool, BackendError> {
        let Some(account) = with.or(expected) else { return Ok(true) };
        let policy = self.due_policy().await?;
        let member = member(&account.cache_key);
        let keys = self.shards.of(&member);
        let mut connection = self.pool.get().await?;
        for pause in pauses() {
            let layout = self.layout(&mut connection, keys).await?;
            let mut batch = Batch::new(keys, &policy, &layout);
            batch.replace(member, expected, with);
            if let Some(undecided) = batch.undecided() {
                self.decide(&mut connection, keys, undecided).await?;
                continue;
            }
            match self.write(&mut connection, keys, &batch).await? {
                Written::All => return Ok(true),
                Written::Not(_) => return Ok(false),
                Written::Outdated => tokio::time::sleep(pause).await,
            }
        }
        Err(self.layout_changes())
    }

    pub(super) fn layout_changes(&self) -> BackendError {
        let message = "the layout of the index changes again and again; try again";
        BackendError::plain(Trouble::Unavailable, self.pool.address(), message)
    }
}

/// Those in these places, from 1, apart from the others.
fn split<'a>(tried: Vec<Said<'a>>, changed: &[usize]) -> Vec<Vec<Said<'a>>> {
    let (mut theirs, mut others) = (Vec::new(), Vec::new());
    for (place, said) in (1..).zip(tried) {
        if changed.binary_search(&place).is_ok() { theirs.push(said) } else { others.push(said) }
    }
    [theirs, others].into_iter().filter(|chunk| !chunk.is_empty()).collect()
}
