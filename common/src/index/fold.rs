//! Accounts while they are folded, each once.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::AccountActivity;
use crate::account::CacheKey;
use crate::event::ActivityEvent;

/// What is said of any number of accounts, joined. An account is found by its cache key, which is kept in it alone.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    accounts: HashTable<AccountActivity>,
    hasher: DefaultHashBuilder,
}

impl Fold {
    /// Joins what is said of one account with what is known of it.
    pub fn add(&mut self, said: AccountActivity) {
        let hash = |account: &AccountActivity| self.hasher.hash_one(&account.cache_key);
        let is_same = |known: &AccountActivity| known.cache_key == said.cache_key;
        match self.accounts.entry(hash(&said), is_same, hash) {
            Entry::Occupied(mut known) => known.get_mut().absorb(said),
            Entry::Vacant(place) => drop(place.insert(said)),
        }
    }

    /// What is said of one account, if anything.
    pub fn get(&self, cache_key: &CacheKey) -> Option<&AccountActivity> {
        self.accounts.find(self.hasher.hash_one(cache_key), |account| account.cache_key == *cache_key)
    }

    /// How many accounts there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// The accounts in no order; none is left.
    pub fn take(&mut self) -> Vec<AccountActivity> {
        self.accounts.drain().collect()
    }

    /// The accounts by their cache keys.
    pub fn by_key(mut self) -> HashMap<CacheKey, AccountActivity> {
        self.accounts.drain().map(|account| (account.cache_key.clone(), account)).collect()
    }
}

/// Folds events by cache key, so that a store touches each account of a batch once.
pub fn fold<'a>(events: impl IntoIterator<Item = &'a ActivityEvent>) -> HashMap<CacheKey, AccountActivity> {
    let mut fold = Fold::default();
    events.into_iter().for_each(|event| fold.add(AccountActivity::of(event)));
    fold.by_key()
}
