//! What one call of the script writes.

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind};

use super::moves::{List, Moves, Standing};
use crate::index::entry::IndexEntry;
use crate::index::redis::keys::Keys;
use crate::index::redis::layout::{Layout, Undecided};
use crate::index::redis::shards::Member;
use crate::index::{AccountActivity, DuePolicy, record};

/// How many arguments there are beside those of accounts and lists, about.
const FEW_ARGUMENTS: usize = 32;
/// How long an argument is that is no record, about.
const BYTES_OF_OTHERS: usize = 20;

/// What is read of an account before it is written.
pub(super) enum Stored {
    Nothing,
    Record(Vec<u8>, Box<AccountActivity>),
}

/// One account that has to be written.
struct Write {
    member: Member,
    /// The record as it was read; empty for none.
    read: Vec<u8>,
    /// The record to write; empty to take the account away.
    record: Vec<u8>,
}

/// Accounts of one shard that are written together.
pub(super) struct Batch<'a> {
    keys: &'a Keys,
    policy: &'a DuePolicy,
    layout: &'a Layout,
    moves: Moves<'a>,
    writes: Vec<Write>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(keys: &'a Keys, policy: &'a DuePolicy, layout: &'a Layout) -> Self {
        Self { keys, policy, layout, moves: Moves::new(keys, layout), writes: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// What the shard has to decide on before any of it is written.
    pub(super) fn undecided(&self) -> Option<Undecided<'_>> {
        self.moves.undecided().filter(|_| !self.is_empty())
    }

    /// Joins what is said of an account with what is stored. Says whether it has to be written for it.
    pub(super) fn join(&mut self, member: Member, said: &AccountActivity, stored: Stored) -> bool {
        let (read, mut account) = match stored {
            Stored::Nothing => (Vec::new(), AccountActivity::nothing_about(said.cache_key.clone())),
            Stored::Record(record, account) => (record, *account),
        };
        let before = (!read.is_empty()).then(|| self.standing(&account));
        account.merge(said);
        let record = record::encode(&account);
        if read == record {
            return false;
        }
        let after = self.standing(&account);
        self.moves.add(member, before, Some(after));
        self.writes.push(Write { member, read, record });
        true
    }

    /// Writes an account as it is given; without it, takes it away.
    pub(super) fn replace(
        &mut self,
        member: Member,
        expected: Option<&AccountActivity>,
        with: Option<&AccountActivity>,
    ) {
        let written = |account: Option<&AccountActivity>| account.map(record::encode).unwrap_or_default();
        let before = expected.map(|account| self.standing(account));
        let after = with.map(|account| self.standing(account));
        self.moves.add(member, before, after);
        self.writes.push(Write { member, read: written(expected), record: written(with) });
    }

    fn standing(&mut self, account: &AccountActivity) -> Standing {
        self.moves.standing(&IndexEntry::of(account, self.policy))
    }

    /// Calls the script. Gives the places of the accounts, from 1, that are not as they were read.
    pub(super) async fn call(&self, script: &Script, connection: &mut impl ConnectionLike) -> RedisResult<Vec<usize>> {
        let command = self.command(script);
        match command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                script.load_async(connection).await?;
                command.query_async(connection).await
            }
            done => done,
        }
    }

    /// A command with about the room its arguments take, so that they are not copied again and again as they come.
    fn command_for(&self, lists: &[List<'_>]) -> Cmd {
        let moved: usize = lists.iter().map(|list| 2 * list.into.len() + list.out_of.len()).sum();
        let records: usize = self.writes.iter().map(|write| write.read.len() + write.record.len()).sum();
        let arguments = 3 * self.writes.len() + moved + 4 * lists.len() + FEW_ARGUMENTS;
        Cmd::with_capacity(arguments, records + BYTES_OF_OTHERS * arguments)
    }

    fn command(&self, script: &Script) -> Cmd {
        let lists = self.moves.lists();
        let mut call = self.command_for(&lists);
        call.arg("EVALSHA").arg(script.get_hash()).arg(5 + lists.len());
        call.arg(self.keys.accounts()).arg(self.keys.counts()).arg(self.keys.dropped()).arg(self.keys.due_tenants());
        call.arg(self.keys.layout());
        for list in &lists {
            call.arg(&list.key);
        }
        let due = lists.iter().filter(|list| list.due_of.is_some()).count();
        call.arg(&self.layout.id).arg(self.writes.len()).arg(due);
        for write in &self.writes {
            call.arg(&write.member[..]).arg(&write.record);
        }
        for write in &self.writes {
            call.arg(&write.read);
        }
        for list in &lists {
            call.arg(list.due_of).arg(list.into.len()).arg(list.out_of.len());
            for (score, member) in list.into {
                call.arg(*score).arg(&member[..]);
            }
            for member in list.out_of {
                call.arg(&member[..]);
            }
        }
        for (field, change) in self.moves.counts() {
            call.arg(field).arg(change);
        }
        call
    }
}
