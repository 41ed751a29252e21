//! Where the index is kept in Redis.
//!
//! | key | type | fields, or members and scores |
//! |---|---|---|
//! | `{prefix}meta` | hash | `format`, `generation` (the live one), `generations` (JSON of [`crate::index::Generations`], once there was another), `created_at` (Unix seconds) |
//! | `{prefix}{g1.0}:accounts` | hash | member → record |
//! | `{prefix}{g1.0}:active` | sorted set | members of all listed accounts, by last activity |
//! | `{prefix}{g1.0}:tenant:`tenant id | sorted set | those of one tenant |
//! | `{prefix}{g1.0}:user:`4 hex digits | sorted set | those whose lower-cased username has this beginning of its SHA-256 |
//! | `{prefix}{g1.0}:counts` | hash | a state, or a state, `:` and a tenant id → the number of accounts, where it is not 0 |
//! | `{prefix}{g1.0}:checkpoints` | hash | partition → the next offset to read; partition and `:time` → newest event before it |
//! | `{prefix}{g1.0}:dropped` | string | there once the generation is deleted: nothing is written to it any more |
//! | `{prefix}{leases}:members` | sorted set | projectors that are here, by when that ends (Unix milliseconds) |
//! | `{prefix}{leases}:partitions` | hash | partition → until when (Unix milliseconds), a space, the projector that follows it |
//!
//! A *member* stands for a cache key: the first 14 bytes of its SHA-256. The record holds the whole key, which is compared,
//! so that two keys of one member are an error and never a mix. A *score* is the last activity in microseconds since
//! the Unix epoch, which a double holds exactly until the year 2255; beyond, lists still page and filter rightly.
//!
//! No key has a TTL but the two of the leases, which are of no generation. `{g1.0}` is generation 1, shard 0, and a hash tag: all that one script touches is in one slot.
//! The prefix is the setting's, so only the inner braces are in the key.

use sha2::{Digest, Sha256};

use crate::account::{CacheKey, TenantId};
use crate::index::AccountState;
use crate::index::entry::IndexEntry;

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

/// The keys of one shard of one generation.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    accounts: String,
    active: String,
    counts: String,
    checkpoints: String,
    dropped: String,
    shard: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, generation: u32, shard: u32) -> Self {
        let shard = format!("{prefix}{{g{generation}.{shard}}}");
        Self {
            accounts: format!("{shard}:accounts"),
            active: format!("{shard}:active"),
            counts: format!("{shard}:counts"),
            checkpoints: format!("{shard}:checkpoints"),
            dropped: format!("{shard}:dropped"),
            shard,
        }
    }

    pub(super) fn accounts(&self) -> &str {
        &self.accounts
    }

    pub(super) fn active(&self) -> &str {
        &self.active
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

    /// What all keys of the shard match, as `SCAN` takes it.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = String::new();
        for letter in self.shard.chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern + ":*"
    }

    pub(super) fn tenant(&self, tenant: &TenantId) -> String {
        format!("{}:tenant:{tenant}", self.shard)
    }

    /// `username` is lower-cased. With 65,536 lists each stays small enough, up to some million accounts, to be packed
    /// by Redis; a list of its own for each username would cost three times as much.
    pub(super) fn user(&self, username: &str) -> String {
        let [high, low] = first_bytes(username);
        format!("{}:user:{high:02x}{low:02x}", self.shard)
    }

    /// The lists that `entry` is in.
    pub(super) fn lists(&self, entry: &IndexEntry<'_>) -> Vec<String> {
        if entry.listed_at.is_none() {
            return Vec::new();
        }
        let tenant = entry.tenant.map(|tenant| self.tenant(tenant));
        let user = entry.username.as_ref().map(|username| self.user(username));
        [Some(self.active.clone()), tenant, user].into_iter().flatten().collect()
    }
}

/// The field of the checkpoints for the time of a partition.
pub(super) fn time_field(partition: u32) -> String {
    format!("{partition}:time")
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
        let keys = Keys::new("activity:", 1, 0);
        assert_eq!(keys.accounts(), "activity:{g1.0}:accounts");
        assert_eq!(keys.tenant(&TenantId::new("a{b}c").unwrap()), "activity:{g1.0}:tenant:a{b}c");
        // printf alice@contoso.com | sha256sum
        assert_eq!(keys.user("alice@contoso.com"), "activity:{g1.0}:user:7c33");
        assert_eq!(meta("activity:"), "activity:meta");
        assert_eq!(Keys::new("a*[b]:", 1, 0).pattern(), r"a\*\[b\]:{g1.0}:*");
    }

    #[test]
    fn a_count_of_a_tenant_is_never_that_of_all() {
        let tenant = TenantId::new("ready").unwrap();
        assert_eq!(count_field(AccountState::Ready, None), "ready");
        assert_eq!(count_field(AccountState::Parked, Some(&tenant)), "parked:ready");
    }
}
