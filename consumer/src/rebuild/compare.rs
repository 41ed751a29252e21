//! Compares two generations of the index, in numbers.

use std::time::Duration;

use common::account::CacheKey;
use common::backend::BackendError;
use common::index::{AccountActivity, Counts, IndexUpkeep};
use serde::Serialize;
use tokio::time::sleep;

/// How many accounts are looked at together.
const PAGE: usize = 1_000;
/// Both are written to meanwhile, so what differs is looked at again, so often, after such a wait.
const LOOKS: usize = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);
/// How many differing accounts are kept to be looked at again.
const MOST_KEPT: usize = 10_000;

/// What differs between the generation before and the new one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// How many accounts the one before has.
    pub before: Counts,
    /// How many the new one has.
    pub after: Counts,
    /// Accounts that were compared.
    pub compared: u64,
    /// Of them, those that only the one before has.
    pub only_before: u64,
    /// Those that only the new one has.
    pub only_after: u64,
    /// Those that differ.
    pub different: u64,
}

/// Compares up to `sample` accounts of each.
pub(super) async fn compare(
    before: &dyn IndexUpkeep,
    after: &dyn IndexUpkeep,
    sample: u64,
) -> Result<Comparison, BackendError> {
    let mut comparison = Comparison::default();
    let mut suspects = Vec::new();
    for (one, other, is_first) in [(before, after, true), (after, before, false)] {
        let page = async |accounts: Vec<AccountActivity>| {
            let keys: Vec<CacheKey> = accounts.iter().map(|account| account.cache_key.clone()).collect();
            for (account, found) in accounts.into_iter().zip(other.get_many(&keys).await?) {
                // What both have was compared when the first was scanned.
                comparison.compared += u64::from(is_first || found.is_none());
                if found.as_ref() != Some(&account) && suspects.len() < MOST_KEPT {
                    suspects.push(account.cache_key);
                }
            }
            Ok(())
        };
        scan(one, sample, page).await?;
    }
    suspects.sort_unstable();
    suspects.dedup();
    for look in 0..LOOKS {
        if look > 0 && !suspects.is_empty() {
            sleep(BETWEEN_LOOKS).await;
        }
        suspects = still_different(before, after, suspects, &mut comparison).await?;
    }
    comparison.before = before.counts(None).await?;
    comparison.after = after.counts(None).await?;
    Ok(comparison)
}

/// The first `sample` accounts, page by page.
async fn scan(
    store: &dyn IndexUpkeep,
    sample: u64,
    mut each: impl AsyncFnMut(Vec<AccountActivity>) -> Result<(), BackendError>,
) -> Result<(), BackendError> {
    let mut cursor = None;
    let mut left = usize::try_from(sample).unwrap_or(usize::MAX);
    while left > 0 {
        let mut page = store.scan(cursor.as_ref(), PAGE).await?;
        page.accounts.truncate(left);
        left -= page.accounts.len();
        each(page.accounts).await?;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

async fn still_different(
    before: &dyn IndexUpkeep,
    after: &dyn IndexUpkeep,
    suspects: Vec<CacheKey>,
    comparison: &mut Comparison,
) -> Result<Vec<CacheKey>, BackendError> {
    (comparison.only_before, comparison.only_after, comparison.different) = (0, 0, 0);
    let mut left = Vec::new();
    let (ones, others) = (before.get_many(&suspects).await?, after.get_many(&suspects).await?);
    for ((key, one), other) in suspects.into_iter().zip(ones).zip(others) {
        match (&one, &other) {
            _ if one == other => continue,
            (Some(_), None) => comparison.only_before += 1,
            (None, Some(_)) => comparison.only_after += 1,
            _ => comparison.different += 1,
        }
        left.push(key);
    }
    Ok(left)
}
