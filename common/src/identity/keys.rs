//! The provider's signing keys: kept, and read again when a token names one that is not there.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use openidconnect::core::CoreJsonWebKeySet;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::clock::Clock;
use super::http::{CallError, Http};

/// Tokens with invented key ids must not make us call the provider more often than this.
const SHORTEST_INTERVAL: SignedDuration = SignedDuration::from_secs(10);
/// Keys that the provider has withdrawn are trusted no longer than this while it answers.
const LONGEST_INTERVAL: SignedDuration = SignedDuration::from_hours(12);

/// The keys of one document.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: CoreJsonWebKeySet,
    /// At Microsoft Entra ID a key may say for which issuer it signs, by key id.
    issuers: HashMap<String, String>,
}

impl KeySet {
    /// Reads a JSON web key set. Keys of kinds that are not known are left out.
    pub(super) fn parse(document: Value) -> Result<Self, serde_json::Error> {
        let issuers = KeyIssuers::deserialize(&document)?.by_id();
        Ok(Self { keys: CoreJsonWebKeySet::deserialize(document)?, issuers })
    }

    /// Whether a key may sign for `issuer`, filled from `tenant`.
    pub(super) fn may_sign(&self, key_id: Option<&str>, issuer: &str, tenant: Option<&str>) -> bool {
        let Some(own) = key_id.and_then(|id| self.issuers.get(id)) else {
            return true;
        };
        own.replace("{tenantid}", tenant.unwrap_or_default()) == issuer
    }
}

/// The keys, and when they were read.
#[derive(Debug)]
pub(super) struct SigningKeys {
    url: Url,
    clock: Clock,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    set: Arc<KeySet>,
    read_at: Timestamp,
    tried_at: Timestamp,
    /// What the last try came to, where it failed.
    failure: Option<CallError>,
}

impl SigningKeys {
    /// Reads the keys for the first time.
    pub(super) async fn read(url: Url, http: &Http, clock: Clock) -> Result<Self, CallError> {
        let set = fetch(&url, http).await?;
        let now = clock.now();
        Ok(Self { url, clock, kept: Mutex::new(Kept { set, read_at: now, tried_at: now, failure: None }) })
    }

    /// The keys, read again where they are old. While the provider does not answer, the old ones serve.
    pub(super) async fn current(&self, http: &Http) -> Arc<KeySet> {
        let mut kept = self.kept.lock().await;
        if self.clock.now().duration_since(kept.read_at) > LONGEST_INTERVAL {
            // That it failed is logged; the keys at hand are the best there are.
            let _ = self.read_again(&mut kept, http).await;
        }
        Arc::clone(&kept.set)
    }

    /// The keys after those that lack a key: read again, unless that was just done.
    pub(super) async fn newer_than(&self, known: &Arc<KeySet>, http: &Http) -> Result<Arc<KeySet>, CallError> {
        let mut kept = self.kept.lock().await;
        if Arc::ptr_eq(known, &kept.set) {
            self.read_again(&mut kept, http).await?;
        }
        Ok(Arc::clone(&kept.set))
    }

    async fn read_again(&self, kept: &mut Kept, http: &Http) -> Result<(), CallError> {
        let now = self.clock.now();
        if now.duration_since(kept.tried_at) < SHORTEST_INTERVAL {
            return kept.failure.clone().map_or(Ok(()), Err);
        }
        kept.tried_at = now;
        match fetch(&self.url, http).await {
            Ok(set) => {
                *kept = Kept { set, read_at: now, tried_at: now, failure: None };
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "the signing keys could not be read again");
                kept.failure = Some(error.clone());
                Err(error)
            }
        }
    }
}

async fn fetch(url: &Url, http: &Http) -> Result<Arc<KeySet>, CallError> {
    let document = http.get(url).await?;
    let wrong = |error: serde_json::Error| CallError::NotTheDocument { line: error.line(), column: error.column() };
    KeySet::parse(document).map(Arc::new).map_err(wrong)
}

#[derive(Deserialize)]
struct KeyIssuers {
    keys: Vec<KeyIssuer>,
}

#[derive(Deserialize)]
struct KeyIssuer {
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    issuer: Option<String>,
}

impl KeyIssuers {
    fn by_id(self) -> HashMap<String, String> {
        self.keys.into_iter().filter_map(|key| Some((key.kid?, key.issuer?))).collect()
    }
}
