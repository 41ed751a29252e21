//! The worker of the demo: finds the caches in the index, loads each, and looks for a valid access token.

use std::sync::Arc;

use common::account::TenantId;
use common::index::{AccountActivity, ActivityStore, Filter, ListRequest, Query};
use common::token_cache::TokenCacheStore;
use common::token_cache::msal::TokenCacheBlob;
use jiff::Timestamp;

use crate::web_side::WebSide;

const PAGE: usize = 500;

/// What the worker found of one account.
pub(crate) struct Hydration {
    pub(crate) account: AccountActivity,
    pub(crate) outcome: HydrationOutcome,
}

/// Whether the account's cache holds a token to act with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HydrationOutcome {
    Hydrated,
    CacheMissing,
    MalformedCache,
    NoValidToken,
}

impl HydrationOutcome {
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Hydrated => "valid access token",
            Self::CacheMissing => "cache missing",
            Self::MalformedCache => "malformed cache",
            Self::NoValidToken => "no valid access token",
        }
    }
}

/// Everybody of the tenant who was active since `since`.
pub(crate) async fn find(
    index: &dyn ActivityStore,
    tenant_id: &str,
    since: Timestamp,
) -> anyhow::Result<Vec<AccountActivity>> {
    let filter = Filter { tenant: Some(TenantId::new(tenant_id)?), ..Filter::default() };
    let mut request = ListRequest { query: Query::ActiveSince(since), filter, limit: PAGE, cursor: None };
    let mut found = Vec::new();
    loop {
        let page = index.list(&request).await?;
        found.extend(page.accounts);
        request.cursor = page.next;
        if request.cursor.is_none() {
            return Ok(found);
        }
    }
}

/// Loads each account's cache and tries its access token.
pub(crate) async fn hydrate(
    accounts: Vec<AccountActivity>,
    cache: &Arc<dyn TokenCacheStore>,
    web: &WebSide,
) -> anyhow::Result<Vec<Hydration>> {
    let mut hydrations = Vec::with_capacity(accounts.len());
    for account in accounts {
        let outcome = match cache.read(&account.cache_key).await? {
            Some(bytes) => look_into(&bytes, &account, web),
            None => HydrationOutcome::CacheMissing,
        };
        hydrations.push(Hydration { account, outcome });
    }
    Ok(hydrations)
}

fn look_into(bytes: &[u8], account: &AccountActivity, web: &WebSide) -> HydrationOutcome {
    let Ok(blob) = TokenCacheBlob::parse(bytes) else {
        return HydrationOutcome::MalformedCache;
    };
    let owner = account.details.as_ref().map(|details| details.value.home_account_id.as_str());
    let is_live = blob
        .access_tokens()
        .filter(|token| Some(token.home_account_id) == owner)
        .any(|token| web.is_live(token.secret.expose_secret()));
    if is_live { HydrationOutcome::Hydrated } else { HydrationOutcome::NoValidToken }
}
