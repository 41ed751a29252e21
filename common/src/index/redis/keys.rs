//! Where the index is kept in Redis.
//!
//! | key | type | fields, or members and scores |
//! |---|---|---|
//! | `{prefix}meta` | hash | `format`, `generation` (the live one), `generations` (JSON of [`crate::index::Generations`], once there was another), `due:1` (JSON of the [`crate::index::DuePolicy`] of generation 1), `shards` (their number), `created_at` (Unix seconds) |
//! | `{prefix}{s0}:g1:accounts` | hash | member → record |
//! | `{prefix}{s0}:g1:tenant:`tenant id | sorted set | members of the listed accounts of one tenant, by last activity |
//! | `{prefix}{s0}:g1:active` | sorted set | those of all tenants that are not in the layout, and of no known one |
//! | `{prefix}{s0}:g1:parked:`tenant id, `backing_off:`tenant id | sorted set | of one tenant, those in this state |
//! | `{prefix}{s0}:g1:parked`, `backing_off` | sorted set | of all tenants that are not in the layout, those in this state |
//! | `{prefix}{s0}:g1:client:`client id | sorted set | those of one app that is not the main one |
//! | `{prefix}{s0}:g1:user:`4 hex digits | sorted set | those whose lower-cased username has this beginning of its SHA-256, modulo 65,536 / shards; all at score 0 |
//! | `{prefix}{s0}:g1:due:`tenant id | sorted set | members of the tenant's accounts that will be due, by when; of no known tenant under an empty id |
//! | `{prefix}{s0}:g1:due` | sorted set | the tenants that have such accounts, by when the first is due |
//! | `{prefix}{s0}:g1:layout` | hash | `id`; `client`: the main app; `tenant:` and a tenant id: its accounts are in no list of others |
//! | `{prefix}{s0}:g1:counts` | hash | a state, or a state, `:` and a tenant id → the number of accounts, where it is not 0 |
//! | `{prefix}{s0}:g1:checkpoints` | hash | partition → the next offset to read; partition and `:time` → newest event before it; partition and `:last` → digest of the message before it |
//! | `{prefix}{s0}:g1:dropped` | string | there once the generation is deleted: nothing is written to it any more |
//! | `{prefix}{s0}:claims:holds` | hash | member → until when, fence, attempts, worker (none: it backs off or settles), tenant id, a line each |
//! | `{prefix}{s0}:claims:aside` | sorted set | members that a hold moved to its end in their due list, by when they were due |
//! | `{prefix}{s0}:claims:scheduled_at` | hash | member → when a job wants it, tenant id, why where it is said, a line each |
//! | `{prefix}{s0}:claims:scheduled:`tenant id | sorted set | those of one tenant, by when they are to be looked at |
//! | `{prefix}{s0}:claims:scheduled` | sorted set | the tenants that have such accounts, by when the first is to be looked at |
//! | `{prefix}{s0}:claims:paused` | sorted set | the tenants that are left alone, by until when |
//! | `{prefix}{s0}:claims:turns` | sorted set | the tenants accounts were claimed of in the last hour, by when that was |
//! | `{prefix}{s0}:claims:rates` | hash, with a TTL | `:` and a tenant id, or nothing for all → from when on the next claim counts |
//! | `{prefix}{s0}:claims:fence` | string | the highest fencing token that was given: a time, or the next number |
//! | `{prefix}{s0}:claims:swept` | string | how far the holds were swept |
//! | `{prefix}{leases}:members` | sorted set | projectors that are here, by when that ends (Unix milliseconds) |
//! | `{prefix}{leases}:partitions` | hash | partition → until when (Unix milliseconds), a space, the projector that follows it |
//!
//! A *member* stands for a cache key: the first 14 bytes of its SHA-256. The record holds the whole key, which is compared,
//! so that two keys of one member are an error and never a mix. A *score* is a time in microseconds since
//! the Unix epoch, which a double holds exactly until the year 2255; beyond, lists still page and filter rightly.
//!
//! What is due is a *hint*, never later than the truth but for as long as a hold lasts: a script that claims moves what it
//! claims, and what it finds held, to the end of the hold, so that nobody examines it again and again, and a record that
//! is not due when it is met is put where it belongs. The tenants' scores follow the first of their list.
//! All times of claims are microseconds since the Unix epoch.
//!
//! No key has a TTL but the rates and the two of the leases, which are of no generation, like all that is of claims.
//! `{s0}` is shard 0, and a hash tag: all that one
//! script touches is in one slot, also what is of the shard and of no generation. An account is in the shard that the first
//! 4 bytes of its member, as a number modulo the number of shards, say; the checkpoints are in shard 0. `g1` is generation 1.
//! The prefix is the setting's, so only the inner braces are in the key.

use sha2::{Digest, Sha256};

use crate::account::{CacheKey, ClientId, TenantId};
use crate::index::AccountState;

/// How many lists of usernames a generation has, in all shards together.
const USER_LISTS: u32 = 65_536;

/// 112 bits: with the string header of Redis just the allocator's class of 16 bytes.
pub(super) const MEMBER_BYTES: usize = 14;

/// What stands for a cache key in every structure.
pub(super) fn member(cache_key: &CacheKey) -> [u8; MEMBER_BYTES] {
    first_bytes(cache_key.as_str())
}

fn first_bytes<const N: usize>(text: &str) -> [u8; N] {
    let digest = Sha256::digest(text.as_bytes());
    std::array::from_fn(|place| digest[place])
}

/// The hash that says which generation is in use.
pub(super) fn meta(prefix: &str) -> String {
    format!("{prefix}meta")
}

/// The keys of the leases of partitions.
#[derive(Debug, Clone)]
pub(super) struct LeaseKeys {
    pub(super) members: String,
    pub(super) leases: String,
}

impl LeaseKeys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { members: format!("{prefix}{{leases}}:members"), leases: format!("{prefix}{{leases}}:partitions") }
    }
}

/// The keys of the claims of one shard, which are of no generation.
#[derive(Debug, Clone)]
pub(super) struct ClaimKeys {
    pub(super) holds: String,
    pub(super) aside: String,
    pub(super) scheduled: String,
    pub(super) schedules: String,
    pub(super) paused: String,
    pub(super) turns: String,
    pub(super) rates: String,
    pub(super) fence: String,
    pub(super) swept: String,
}

impl ClaimKeys {
    fn new(prefix: &str, shard: u32) -> Self {
        let key = |name: &str| format!("{prefix}{{s{shard}}}:claims:{name}");
        Self {
            holds: key("holds"),
            aside: key("aside"),
            scheduled: key("scheduled"),
            schedules: key("scheduled_at"),
            paused: key("paused"),
            turns: key("turns"),
            rates: key("rates"),
            fence: key("fence"),
            swept: key("swept"),
        }
    }
}

/// The shard that keeps what `member` stands for.
pub(super) fn shard_of(member: &[u8; MEMBER_BYTES], shards: usize) -> usize {
    let [a, b, c, d, ..] = *member;
    u32::from_be_bytes([a, b, c, d]) as usize % shards.max(1)
}

/// The keys of one shard of one generation.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    accounts: String,
    layout: String,
    counts: String,
    checkpoints: String,
    dropped: String,
    due_tenants: String,
    generation: String,
    user_lists: u32,
    claims: ClaimKeys,
}

impl Keys {
    /// Those of shard number `shard` of `shards`.
    pub(super) fn new(prefix: &str, generation: u32, shard: u32, shards: u32) -> Self {
        let generation = format!("{prefix}{{s{shard}}}:g{generation}");
        Self {
            accounts: format!("{generation}:accounts"),
            layout: format!("{generation}:layout"),
            counts: format!("{generation}:counts"),
            checkpoints: format!("{generation}:checkpoints"),
            dropped: format!("{generation}:dropped"),
            due_tenants: format!("{generation}:due"),
            generation,
            user_lists: (USER_LISTS / shards.max(1)).max(1),
            claims: ClaimKeys::new(prefix, shard),
        }
    }

    /// Those of the shard's claims.
    pub(super) fn claims(&self) -> &ClaimKeys {
        &self.claims
    }

    pub(super) fn accounts(&self) -> &str {
        &self.accounts
    }

    pub(super) fn layout(&self) -> &str {
        &self.layout
    }

    pub(super) fn counts(&self) -> &str {
        &self.counts
    }

    pub(super) fn checkpoints(&self) -> &str {
        &self.checkpoints
    }

    pub(super) fn dropped(&self) -> &str {
        &self.dropped
    }

    pub(super) fn due_tenants(&self) -> &str {
        &self.due_tenants
    }

    /// What all keys of the generation in this shard match, as `SCAN` takes it.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = String::new();
        for letter in self.generation.chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern + ":*"
    }

    /// Those of one tenant, by last activity.
    pub(super) fn of_tenant(&self, which: Listed, tenant: &TenantId) -> String {
        format!("{}:{}:{tenant}", self.generation, which.of_tenant())
    }

    /// Those of no tenant that has a list of its own alone, by last activity.
    pub(super) fn of_others(&self, which: Listed) -> String {
        format!("{}:{}", self.generation, which.of_others())
    }

    /// Those of an app that is not the main one, by last activity.
    pub(super) fn client(&self, client: &ClientId) -> String {
        format!("{}:client:{client}", self.generation)
    }

    /// The list of the accounts with a username, which is lower-cased.
    pub(super) fn user(&self, username: &str) -> String {
        self.user_list(self.user_number(username))
    }

    /// Which list of usernames one is in. The shards have 65,536 such lists together, so that each stays small enough, up
    /// to some million accounts, to be packed by Redis; a list of its own for each username would cost three times as much.
    pub(super) fn user_number(&self, username: &str) -> u32 {
        u32::from(u16::from_be_bytes(first_bytes(username))) % self.user_lists
    }

    /// The list of usernames with this number.
    pub(super) fn user_list(&self, number: u32) -> String {
        format!("{}:user:{number:04x}", self.generation)
    }

    /// The list of a tenant's accounts by when they are due.
    pub(super) fn due(&self, tenant: &str) -> String {
        format!("{}:due:{tenant}", self.generation)
    }
}

/// Which accounts a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Listed {
    /// All that are listed.
    All,
    /// Those that wait for their user.
    Parked,
    /// Those that back off.
    BackingOff,
}

impl Listed {
    /// The lists of a state; `None` where it has none, because most accounts are in it, or none that is listed.
    pub(super) fn in_state(state: AccountState) -> Option<Self> {
        match state {
            AccountState::Parked => Some(Self::Parked),
            AccountState::BackingOff => Some(Self::BackingOff),
            AccountState::Ready | AccountState::Removed => None,
        }
    }

    fn of_others(self) -> &'static str {
        match self {
            Self::All => "active",
            Self::Parked => "parked",
            Self::BackingOff => "backing_off",
        }
    }

    fn of_tenant(self) -> &'static str {
        match self {
            Self::All => "tenant",
            Self::Parked => "parked",
            Self::BackingOff => "backing_off",
        }
    }
}

/// The field of a layout that changes with it.
pub(super) const LAYOUT_ID: &str = "id";
/// The field of a layout for the main app.
pub(super) const LAYOUT_CLIENT: &str = "client";
/// What the fields of a layout for its own tenants begin with.
pub(super) const LAYOUT_TENANT: &str = "tenant:";

/// The field of the meta hash for the policy of a generation.
pub(super) fn due_policy_field(generation: u32) -> String {
    format!("due:{generation}")
}

/// The field of the checkpoints for the time of a partition.
pub(super) fn time_field(partition: u32) -> String {
    format!("{partition}:time")
}

/// The field of the checkpoints for the digest of the last message of a partition.
pub(super) fn last_message_field(partition: u32) -> String {
    format!("{partition}:last")
}

/// The field of the counts for a state, in all or of one tenant.
pub(super) fn count_field(state: AccountState, tenant: Option<&TenantId>) -> String {
    let state = match state {
        AccountState::Ready => "ready",
        AccountState::BackingOff => "backing_off",
        AccountState::Parked => "parked",
        AccountState::Removed => "removed",
    };
    tenant.map_or_else(|| state.to_owned(), |tenant| format!("{state}:{tenant}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_shard_share_its_hash_tag_whatever_the_tenant_is_called() {
        let keys = Keys::new("activity:", 1, 0, 1);
        assert_eq!(keys.accounts(), "activity:{s0}:g1:accounts");
        assert_eq!(keys.of_tenant(Listed::All, &TenantId::new("a{b}c").unwrap()), "activity:{s0}:g1:tenant:a{b}c");
        // printf alice@contoso.com | sha256sum
        assert_eq!(keys.user("alice@contoso.com"), "activity:{s0}:g1:user:7c33");
        assert_eq!(meta("activity:"), "activity:meta");
        assert_eq!(Keys::new("a*[b]:", 1, 0, 1).pattern(), r"a\*\[b\]:{s0}:g1:*");
    }

    #[test]
    fn the_accounts_are_spread_evenly_over_the_shards() {
        for shards in [1, 3, 16] {
            let mut accounts = vec![0_usize; shards];
            for n in 0..16_000 {
                accounts[shard_of(&member(&CacheKey::new(format!("key {n}")).unwrap()), shards)] += 1;
            }
            let fair = 16_000 / shards;
            assert!(accounts.iter().all(|count| count.abs_diff(fair) <= fair / 5), "{accounts:?}");
        }
    }

    #[test]
    fn more_shards_do_not_mean_more_lists_of_usernames() {
        let keys = Keys::new("activity:", 1, 3, 16);
        let lists: std::collections::HashSet<String> = (0..50_000).map(|n| keys.user(&format!("user {n}"))).collect();
        assert_eq!(lists.len(), 65_536 / 16);
        assert!(lists.contains("activity:{s3}:g1:user:0fff"), "numbered from 0");
    }

    #[test]
    fn a_count_of_a_tenant_is_never_that_of_all() {
        let tenant = TenantId::new("ready").unwrap();
        assert_eq!(count_field(AccountState::Ready, None), "ready");
        assert_eq!(count_field(AccountState::Parked, Some(&tenant)), "parked:ready");
    }
}
