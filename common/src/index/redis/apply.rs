//! Writing: read, merge, and write if unchanged, in chunks.

use std::collections::HashMap;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use redis::{AsyncCommands as _, ScriptInvocation};

use super::RedisGeneration;
use super::keys::{Keys, count_field, member};
use super::layout::{Layout, is_outdated};
use super::shards::Member;
use crate::account::TenantId;
use crate::backend::{BackendError, Trouble};
use crate::index::entry::{self, IndexEntry};
use crate::index::{AccountActivity, AccountState, DuePolicy, record};
use crate::redis_pool::AnyConnection;

/// How many accounts one script writes: some milliseconds in which Redis serves nobody else.
const CHUNK: usize = 500;
/// While Redis writes one chunk, another is merged here.
const CHUNKS_AT_ONCE: usize = 2;
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
        let calls: Vec<_> =
            chunks.iter().map(|(keys, chunk)| self.apply_chunk(connection.clone(), keys, &policy, chunk)).collect();
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
        chunk: &[Said<'_>],
    ) -> Result<(), BackendError> {
        let mut left = chunk.to_vec();
        for pause in pauses() {
            left = self.try_chunk(&mut connection, keys, policy, &left).await?;
            if left.is_empty() {
                return Ok(());
            }
            tracing::debug!(accounts = left.len(), "others wrote the same accounts; reading them again");
            tokio::time::sleep(pause).await;
        }
        let message = "others keep writing the same accounts; try again";
        Err(BackendError::plain(Trouble::Unavailable, self.pool.address(), message))
    }

    /// Reads, merges and writes once. Gives back what others wrote between the two.
    async fn try_chunk<'a>(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
        policy: &DuePolicy,
        chunk: &[Said<'a>],
    ) -> Result<Vec<Said<'a>>, BackendError> {
        let fields: Vec<&[u8]> = chunk.iter().map(|said| &said.member[..]).collect();
        let records: Vec<Option<Vec<u8>>> =
            connection.hmget(keys.accounts(), &fields).await.map_err(|e| self.pool.error(e))?;
        let (mut writes, mut said_of) = (Vec::new(), Vec::new());
        for (said, read) in chunk.iter().zip(records) {
            if let Some(write) = self.merge(said, read)? {
                writes.push(write);
                said_of.push(*said);
            }
        }
        match self.write(connection, keys, policy, writes).await? {
            Written::Outdated => Ok(said_of),
            Written::But(changed) => {
                Ok(changed.into_iter().filter_map(|place| said_of.get(place.checked_sub(1)?).copied()).collect())
            }
        }
    }

    /// One call of the script.
    async fn write(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
        policy: &DuePolicy,
        writes: Vec<Write>,
    ) -> Result<Written, BackendError> {
        if writes.is_empty() {
            return Ok(Written::But(Vec::new()));
        }
        let accounts: Vec<&AccountActivity> = writes.iter().flat_map(Write::accounts).collect();
        let layout = self.layout_for(connection, keys, &accounts).await?;
        let mut batch = Batch::new(keys, policy, &layout);
        writes.into_iter().for_each(|write| batch.push(write));
        match batch.call(self).invoke_async(connection).await {
            Ok(changed) => Ok(Written::But(changed)),
            Err(error) if is_outdated(&error) => {
                self.layouts.forget(keys);
                Ok(Written::Outdated)
            }
            Err(error) => Err(self.pool.error(error)),
        }
    }

    /// What has to be written for `said`, if anything.
    fn merge(&self, said: &Said<'_>, read: Option<Vec<u8>>) -> Result<Option<Write>, BackendError> {
        let Said { account: said, member } = *said;
        let before = read.as_deref().map(|read| self.decode(&member, read)).transpose()?;
        if before.as_ref().is_some_and(|before| before.cache_key != said.cache_key) {
            return Err(self.corrupt("two cache keys have one digest; the index cannot keep both"));
        }
        let after = entry::joined(before.as_ref(), said);
        let record = record::encode(&after);
        if read.as_ref() == Some(&record) {
            return Ok(None);
        }
        Ok(Some(Write { member, read: read.unwrap_or_default(), record, before, after: Some(after) }))
    }

    /// Writes one account as it is given, if it is as it is expected.
    pub(super) async fn replace_one(
        &self,
        expected: Option<&AccountActivity>,
        with: Option<&AccountActivity>,
    ) -> Result<bool, BackendError> {
        let Some(account) = with.or(expected) else { return Ok(true) };
        let written = |account: Option<&AccountActivity>| account.map(record::encode).unwrap_or_default();
        let policy = self.due_policy().await?;
        let member = member(&account.cache_key);
        let mut connection = self.pool.get().await?;
        for pause in pauses() {
            let write = Write {
                member,
                read: written(expected),
                record: written(with),
                before: expected.cloned(),
                after: with.cloned(),
            };
            match self.write(&mut connection, self.shards.of(&member), &policy, vec![write]).await? {
                Written::But(changed) => return Ok(changed.is_empty()),
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

/// What is said of one account.
#[derive(Clone, Copy)]
struct Said<'a> {
    account: &'a AccountActivity,
    member: Member,
}

/// What became of a call.
enum Written {
    /// All is written but the accounts in these places, from 1, which others had written.
    But(Vec<usize>),
    /// Nothing: the layout has changed.
    Outdated,
}

/// One account that has to be written.
struct Write {
    member: Member,
    /// The record as it was read; empty for none.
    read: Vec<u8>,
    /// The record to write; empty to take the account away.
    record: Vec<u8>,
    before: Option<AccountActivity>,
    after: Option<AccountActivity>,
}

impl Write {
    fn accounts(&self) -> impl Iterator<Item = &AccountActivity> {
        [&self.before, &self.after].into_iter().flatten()
    }
}

/// The arguments of one call of the script.
struct Batch<'a> {
    keys: &'a Keys,
    policy: &'a DuePolicy,
    layout: &'a Layout,
    lists: Lists,
    writes: Vec<(Write, Moves)>,
}

/// What a write does beside the record.
struct Moves {
    /// Numbers of lists, and the score in each.
    into: Vec<(usize, i64)>,
    out_of: Vec<usize>,
    counts: Vec<(String, i64)>,
}

/// The lists of a call and their numbers among its keys, from 1.
#[derive(Default)]
struct Lists {
    keys: Vec<String>,
    numbers: HashMap<String, usize>,
    /// The due lists among them, and the tenant of each.
    due: Vec<(usize, String)>,
}

/// A list, and the account's place in it.
struct Place {
    list: String,
    score: i64,
    /// The tenant whose due list it is.
    due_of: Option<String>,
}

impl Lists {
    /// The accounts, the counts, the mark of a deleted generation, the tenants with due accounts and the layout come first.
    const FIRST_NUMBER: usize = 6;

    fn number(&mut self, place: Place) -> usize {
        if let Some(number) = self.numbers.get(&place.list) {
            return *number;
        }
        let number = self.keys.len() + Self::FIRST_NUMBER;
        self.keys.push(place.list.clone());
        self.numbers.insert(place.list, number);
        self.due.extend(place.due_of.map(|tenant| (number, tenant)));
        number
    }
}

impl<'a> Batch<'a> {
    fn new(keys: &'a Keys, policy: &'a DuePolicy, layout: &'a Layout) -> Self {
        Self { keys, policy, layout, lists: Lists::default(), writes: Vec::new() }
    }

    fn push(&mut self, write: Write) {
        let before = write.before.as_ref().map(|before| IndexEntry::of(before, self.policy));
        let after = write.after.as_ref().map(|after| IndexEntry::of(after, self.policy));
        let moves = self.moves(before.as_ref(), after.as_ref());
        self.writes.push((write, moves));
    }

    fn moves(&mut self, before: Option<&IndexEntry<'_>>, after: Option<&IndexEntry<'_>>) -> Moves {
        let old = before.map(|before| self.places(before)).unwrap_or_default();
        let mut new = after.map(|after| self.places(after)).unwrap_or_default();
        let (mut into, mut out_of) = (Vec::new(), Vec::new());
        for left in old {
            match new.iter().position(|place| place.list == left.list) {
                Some(at) if new[at].score == left.score => drop(new.swap_remove(at)),
                Some(_) => {}
                None => out_of.push(self.lists.number(left)),
            }
        }
        for place in new {
            let score = place.score;
            into.push((self.lists.number(place), score));
        }
        Moves { into, out_of, counts: count_changes(before, after) }
    }

    /// All lists that an account is in.
    fn places(&self, entry: &IndexEntry<'_>) -> Vec<Place> {
        let listed_at = entry.listed_at.unwrap_or_default();
        let lists = self.keys.activity_lists(entry, self.layout).into_iter();
        let mut places: Vec<Place> = lists.map(|list| Place { list, score: listed_at, due_of: None }).collect();
        if let Some(score) = entry.due_at {
            let tenant = entry.tenant.map_or("", TenantId::as_str);
            places.push(Place { list: self.keys.due(tenant), score, due_of: Some(tenant.to_owned()) });
        }
        places
    }

    fn call(&self, index: &'a RedisGeneration) -> ScriptInvocation<'a> {
        let mut call = index.scripts.apply.prepare_invoke();
        call.key(self.keys.accounts()).key(self.keys.counts()).key(self.keys.dropped()).key(self.keys.due_tenants());
        call.key(self.keys.layout()).key(&self.lists.keys);
        call.arg(&self.layout.id).arg(self.writes.len()).arg(self.lists.due.len());
        for (number, tenant) in &self.lists.due {
            call.arg(*number).arg(tenant);
        }
        for (write, _) in &self.writes {
            call.arg(&write.member[..]);
        }
        for (write, moves) in &self.writes {
            call.arg(&write.read).arg(&write.record);
            call.arg(moves.into.len()).arg(moves.out_of.len()).arg(moves.counts.len());
            for (number, score) in &moves.into {
                call.arg(*number).arg(*score);
            }
            call.arg(&moves.out_of);
            for (field, change) in &moves.counts {
                call.arg(field).arg(*change);
            }
        }
        call
    }
}

fn count_changes(before: Option<&IndexEntry<'_>>, after: Option<&IndexEntry<'_>>) -> Vec<(String, i64)> {
    let counted = |entry: Option<&IndexEntry<'_>>| entry.map(|entry| (entry.state, entry.tenant.cloned()));
    if counted(before) == counted(after) {
        return Vec::new();
    }
    let fields = |state: AccountState, tenant: Option<&TenantId>| {
        [Some(count_field(state, None)), tenant.map(|tenant| count_field(state, Some(tenant)))].into_iter().flatten()
    };
    let left = before.into_iter().flat_map(|before| fields(before.state, before.tenant)).map(|field| (field, -1));
    let entered = after.into_iter().flat_map(|after| fields(after.state, after.tenant)).map(|field| (field, 1));
    left.chain(entered).collect()
}
