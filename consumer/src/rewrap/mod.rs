//! Rewrapping a whole token cache: every blob there is, under the active key, while everybody goes on using it.

mod report;

use common::account::CacheKey;
use common::backend::{BackendError, Trouble};
use common::retry::RetryDelays;
use common::token_cache::encryption::{Rewrap, Rewrapped};
use common::token_cache::{ScanCursor, ScanPage};
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::insist::insist;

pub use report::{MOST_PROBLEMS_SHOWN, Problem, RewrapReport};

/// How many keys a page is asked for.
const PAGE: usize = 500;
/// How many blobs are rewrapped at once.
const IN_FLIGHT: usize = 16;

/// How many cache keys there are just now.
///
/// # Errors
/// [`BackendError`].
pub async fn count_blobs(rewrap: &Rewrap) -> Result<u64, BackendError> {
    let (mut count, mut cursor) = (0, None);
    loop {
        let page = next_page(rewrap, cursor.as_ref()).await?;
        count += page.keys.len() as u64;
        cursor = page.next;
        if cursor.is_none() {
            return Ok(count);
        }
    }
}

/// Rewraps every blob, and calls `on_each` after each. Where `shutdown` is cancelled it stops, and the report says so; to
/// run again is to go on. While the store is away it waits.
///
/// # Errors
/// [`BackendError`]: the store refuses. A blob that cannot be read is counted instead.
pub async fn rewrap_all(
    rewrap: &Rewrap,
    shutdown: &CancellationToken,
    on_each: impl Fn(),
) -> Result<RewrapReport, BackendError> {
    let mut report = RewrapReport::default();
    // A blob whose rewrap is dropped half way is under the one key or the other.
    shutdown.run_until_cancelled(walk(rewrap, &mut report, on_each)).await.transpose()?;
    Ok(report)
}

async fn walk(rewrap: &Rewrap, report: &mut RewrapReport, on_each: impl Fn()) -> Result<(), BackendError> {
    let mut cursor: Option<ScanCursor> = None;
    loop {
        let page = next_page(rewrap, cursor.as_ref()).await?;
        report.unreadable_names += page.unreadable_names;
        let mut outcomes = stream::iter(page.keys).map(|key| one(rewrap, key)).buffer_unordered(IN_FLIGHT);
        while let Some((key, outcome)) = outcomes.next().await {
            report.count(&key, outcome?);
            on_each();
        }
        cursor = page.next;
        if cursor.is_none() {
            report.is_complete = true;
            return Ok(());
        }
    }
}

/// What became of one blob, or why the store cannot give it.
type Outcome = Result<Rewrapped, String>;

async fn one(rewrap: &Rewrap, key: CacheKey) -> (CacheKey, Result<Outcome, BackendError>) {
    let outcome = match insist(RetryDelays::default(), async || rewrap.one(&key).await).await {
        // It is this one key's trouble: another layout, another program's.
        Err(error) if error.trouble == Trouble::Corrupt => Ok(Err(error.message)),
        outcome => outcome.map(Ok),
    };
    (key, outcome)
}

async fn next_page(rewrap: &Rewrap, cursor: Option<&ScanCursor>) -> Result<ScanPage, BackendError> {
    insist(RetryDelays::default(), async || rewrap.scan().scan(cursor, PAGE).await).await
}
