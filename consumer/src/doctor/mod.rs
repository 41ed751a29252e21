//! The doctor of one account: why a token can or cannot be had for it, in plain words, and what to do. It reads, and
//! changes nothing but a sliding expiry, which starts anew as with any reading.
//!
//! What it says holds identifiers, times and sizes; never a token, and nothing of a blob that cannot be read.

mod advice;
mod blob;
mod finding;
mod index;
mod judge;

use std::sync::Arc;

use common::account::{CacheKey, ClientId};
use common::index::{AccountActivity, ActivityStore};
use common::program::one_line;
use common::token_cache::TokenCacheStore;
use jiff::Timestamp;
use serde::Serialize;

pub use blob::{AccessTokenReport, AccountReport, BlobReport, RefreshTokenReport};
pub use finding::{Finding, Level};
pub use index::IndexReport;

/// Looks into one account at a time.
#[derive(Debug, Clone)]
pub struct Doctor {
    /// The index.
    pub index: Arc<dyn ActivityStore>,
    /// The blobs.
    pub store: Arc<dyn TokenCacheStore>,
    /// The app that asks for tokens, where it is known.
    pub client_id: Option<ClientId>,
}

/// What was found of one account.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// The account's cache key.
    pub cache_key: CacheKey,
    /// Whether a token can be had.
    pub verdict: Verdict,
    /// The verdict in a sentence.
    pub summary: String,
    /// What stands in the way, or might, and what is well.
    pub findings: Vec<Finding>,
    /// What the index says.
    pub index: IndexReport,
    /// What the token cache holds.
    pub blob: BlobReport,
}

/// Whether a token can be had for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A valid one is in the blob.
    Valid,
    /// None is valid; a refresh should bring one.
    Refreshable,
    /// Not now: a server or the identity provider is away, or has asked for a pause.
    Later,
    /// Not before somebody does something.
    No,
}

impl Doctor {
    /// Examines one account at the time `now`. A server that does not answer is a finding, not an error.
    pub async fn examine(&self, cache_key: &CacheKey, now: Timestamp) -> Diagnosis {
        let known = self.index.get(cache_key).await.map_err(|error| one_line(&error));
        let stored = self.store.read(cache_key).await;
        let blob = BlobReport::of(stored, now);
        let account = known.as_ref().ok().and_then(Option::as_ref);
        let case = judge::Case { account, blob: &blob, client_id: self.client_id.as_ref(), now };
        let mut findings: Vec<Finding> = known.as_ref().err().map(advice::index_away).into_iter().collect();
        findings.extend(case.findings(known.is_ok()));
        let (verdict, summary) = case.verdict(&findings);
        let index = known.as_ref().map_or_else(|_| IndexReport::default(), |known| self.index_report(known.as_ref()));
        Diagnosis { cache_key: cache_key.clone(), verdict, summary, findings, index, blob }
    }

    fn index_report(&self, account: Option<&AccountActivity>) -> IndexReport {
        account.map(IndexReport::of).unwrap_or_default()
    }
}
