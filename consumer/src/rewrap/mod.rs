//! Rewrapping a whole token cache: every blob there is, under the active key, while everybody goes on using it.

mod report;

use std::future::Future;

use common::account::CacheKey;
use common::backend::{BackendError, Trouble};
use common::retry::{Retry, RetryDelays, Setback};
use common::token_cache::ScanCursor;
use common::token_cache::encryption::{Rewrap, Rewrapped};
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

pub use report::{MOST_PROBLEMS_SHOWN, Problem, RewrapReport};

/// How many keys a page is asked for.
const PAGE: usize = 500;
/// How many blobs are rewrapped at once.
const IN_FLIGHT: usize = 16;
/// How often a store that does not answer is asked the same before it is given up: about 10 s.
const MOST_ATTEMPTS: u32 = 10;

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

/// Rewraps every blob, and calls `on_each` after each. Where `shutdown` is cancelled it finishes the page it is in,
/// and the report says so; to run again is to go on.
///
/// # Errors
/// [`BackendError`]: the store does not answer, or refuses. A blob that cannot be read is counted instead.
pub async fn rewrap_all(
    rewrap: &Rewrap,
    shutdown: &CancellationToken,
    on_each: impl Fn(),
) -> Result<RewrapReport, BackendError> {
    let mut report = RewrapReport::default();
    let mut cursor: Option<ScanCursor> = None;
    while !shutdown.is_cancelled() {
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
            break;
        }
    }
    Ok(report)
}

/// What became of one blob, or why the store cannot give it.
type Outcome = Result<Rewrapped, String>;

async fn one(rewrap: &Rewrap, key: CacheKey) -> (CacheKey, Result<Outcome, BackendError>) {
    let outcome = match patiently(|| rewrap.one(&key)).await {
        // It is this one key's trouble: another layout, another program's.
        Err(error) if error.trouble == Trouble::Corrupt => Ok(Err(error.message)),
        outcome => outcome.map(Ok),
    };
    (key, outcome)
}

async fn next_page(
    rewrap: &Rewrap,
    cursor: Option<&ScanCursor>,
) -> Result<common::token_cache::ScanPage, BackendError> {
    patiently(|| rewrap.scan().scan(cursor, PAGE)).await
}

async fn patiently<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, BackendError>
where
    F: Future<Output = Result<T, BackendError>>,
{
    let mut retry = Retry::new(RetryDelays::default());
    for _ in 1..MOST_ATTEMPTS {
        match attempt().await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the token cache does not answer; trying again");
                tokio::time::sleep(retry.delay_after(&Setback::from(&error))).await;
            }
            outcome => return outcome,
        }
    }
    attempt().await
}
