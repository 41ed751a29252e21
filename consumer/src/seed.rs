//! Seeding: makes index entries from the token caches themselves, where the log no longer says what there is.
//!
//! A seed loses against every event, in whatever order they come ([`common::index::Seed`]). It is for accounts the log
//! is silent about: after a gap, or where only hydrations kept a cache alive for longer than the log is kept.

use std::sync::Arc;

use common::account::CacheKey;
use common::backend::BackendError;
use common::event::UsernamePolicy;
use common::index::{AccountActivity, ActivityStore, Seed};
use common::retry::RetryDelays;
use common::token_cache::TokenCacheScan;
use common::token_cache::encryption::BlobCipher;
use common::token_cache::msal::TokenCacheBlob;
use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use serde::Serialize;

use crate::insist::insist;
use crate::progress::{Meter, Reporter};

/// How many keys are asked for together.
const PAGE: usize = 1_000;
/// How many caches are looked at side by side.
const AT_ONCE: usize = 16;

/// What seeding found in the token caches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SeedReport {
    /// Caches that were looked at.
    pub caches: u64,
    /// Accounts that are known by a seed now.
    pub seeded: u64,
    /// Accounts that events say more of.
    pub known: u64,
    /// Accounts that were removed, and stay so.
    pub removed: u64,
    /// Caches that are about no user, or have gone meanwhile.
    pub of_nobody: u64,
    /// Caches that cannot be read.
    pub unreadable: u64,
}

/// What is in one cache, and what is to be done about it.
enum Found {
    Seed(Box<AccountActivity>),
    Known,
    Removed,
    Nobody,
    Unreadable,
}

/// Looks through the caches of one app.
#[derive(Debug)]
pub struct Seeding {
    scan: Arc<dyn TokenCacheScan>,
    cipher: Option<BlobCipher>,
    usernames: UsernamePolicy,
    retry: RetryDelays,
}

impl Seeding {
    /// From the caches that `scan` finds, decrypted by `cipher` where they are encrypted.
    pub fn new(scan: Arc<dyn TokenCacheScan>, cipher: Option<BlobCipher>, usernames: UsernamePolicy) -> Self {
        Self { scan, cipher, usernames, retry: RetryDelays::default() }
    }

    /// Seeds `store`. May run again and again, beside everything else.
    ///
    /// # Errors
    /// [`BackendError`]; some is seeded then.
    pub async fn run(&self, store: &dyn ActivityStore, report: Reporter<'_>) -> Result<SeedReport, BackendError> {
        self.seed(store, &mut Meter::new(report)).await
    }

    pub(crate) async fn seed(
        &self,
        store: &dyn ActivityStore,
        meter: &mut Meter<'_>,
    ) -> Result<SeedReport, BackendError> {
        meter.begin("seeding", None);
        let mut report = SeedReport::default();
        let mut cursor = None;
        loop {
            let scan = async || self.scan.scan(cursor.as_ref(), PAGE).await;
            let page = insist(self.retry, scan).await?;
            let looks: Vec<_> = page.keys.into_iter().map(|key| self.look(store, key)).collect();
            let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
            let mut seeds = Vec::new();
            while let Some(found) = looks.next().await {
                report.note(&found?, &mut seeds);
                meter.add(1, 0);
            }
            insist(self.retry, async || store.apply(&seeds).await).await?;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(report);
            }
        }
    }

    async fn look(&self, store: &dyn ActivityStore, key: CacheKey) -> Result<Found, BackendError> {
        let known = insist(self.retry, async || store.get(&key).await).await?;
        if let Some(known) = known {
            if known.removed_at.is_some() && !known.is_listed() {
                return Ok(Found::Removed);
            }
            if known.last_activity.is_some() && !Seed::is_in(&known) {
                return Ok(Found::Known);
            }
        }
        let Some(stored) = insist(self.retry, async || self.scan.peek(&key).await).await? else {
            return Ok(Found::Nobody);
        };
        Ok(self.read(key, &stored))
    }

    fn read(&self, key: CacheKey, stored: &[u8]) -> Found {
        let plain = self.cipher.as_ref().map(|cipher| cipher.open(&key, stored)).transpose();
        let Ok(plain) = plain else { return Found::Unreadable };
        let Ok(blob) = TokenCacheBlob::parse(plain.as_deref().unwrap_or(stored)) else { return Found::Unreadable };
        let now = Timestamp::now();
        match blob.summary(key.as_str(), now.as_second()).account_details(&self.usernames) {
            Ok(Some(details)) => Found::Seed(Box::new(Seed::of(key, details, now))),
            Ok(None) => Found::Nobody,
            Err(_) => Found::Unreadable,
        }
    }
}

impl SeedReport {
    fn note(&mut self, found: &Found, seeds: &mut Vec<AccountActivity>) {
        self.caches += 1;
        match found {
            Found::Seed(seed) => {
                self.seeded += 1;
                seeds.push(AccountActivity::clone(seed));
            }
            Found::Known => self.known += 1,
            Found::Removed => self.removed += 1,
            Found::Nobody => self.of_nobody += 1,
            Found::Unreadable => self.unreadable += 1,
        }
    }
}
