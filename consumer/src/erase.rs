//! Erasure: takes an account out of everything, and says what was found where and what is left until when.
//!
//! ```text
//! blob and `removed` event, atomically ──▶ outbox ──▶ `removed` in every partition ──▶ index ──▶ dead letters
//! ```
//!
//! - The removal is an event like any other, so whoever folds the log comes to it. In the index it leaves nothing but
//!   itself, and nothing older comes up again.
//! - It goes into every partition: each is cut from its old end, so a partition that still has an old event of the
//!   account has the removal too, and no rebuild brings the account back.
//! - What is in the log cannot be taken out of it; it ages out. With hashed usernames it holds ids alone.
//! - Every step may be taken again, and an erasure that broke off is repeated as a whole.

use std::sync::Arc;
use std::time::Duration;

use common::account::CacheKey;
use common::backend::BackendError;
use common::backends::{Log, TokenCache};
use common::event::{AccountHint, Activity, ActivityEvent, EventDraft, EventSource};
use common::index::{AccountActivity, ActivityStore, Claims};
use common::log::{AppendError, DeadLetterError, LetterQueue, LogError};
use common::token_cache::Forgotten;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::dead_letters::{Erased, erase_letters};

/// How long the index may take to learn of a removal that the relay was quicker to send.
const PROJECTION_PATIENCE: Duration = Duration::from_secs(20);
const PROJECTION_POLL: Duration = Duration::from_millis(100);

/// What an erasure works on.
#[derive(Debug)]
pub struct ErasureStores {
    /// The blobs and the outbox.
    pub cache: TokenCache,
    /// The log and its letters.
    pub log: Log,
    /// The index.
    pub index: Arc<dyn ActivityStore>,
    /// What is claimed and scheduled.
    pub claims: Arc<dyn Claims>,
}

/// What was found of one account, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Receipt {
    /// The account.
    pub cache_key: CacheKey,
    /// When it was removed, by the token cache's clock.
    pub removed_at: Option<Timestamp>,
    /// Whether there was a blob, which is deleted.
    pub blob: bool,
    /// Entries of the outbox that were deleted, sent or not.
    pub outbox_entries: u64,
    /// Entries that had been set aside in the outbox and were deleted.
    pub outbox_refused: u64,
    /// What the index had.
    pub index: IndexTrace,
    /// Dead letters that named the account and were deleted.
    pub dead_letters: Erased,
    /// Messages no stream had taken, in the same way.
    pub unrouted: Erased,
    /// In how many partitions of the log the removal is confirmed.
    pub partitions: u32,
    /// What the log's events say of the user's name, as far as the index knew.
    pub username_in_log: UsernameTrace,
    /// About when the last event that names the account has aged out of the log: the removal itself.
    pub ages_out_at: Option<Timestamp>,
}

/// What the index held of an erased account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexTrace {
    /// Details, of which only the time of the removal is left.
    Erased,
    /// Nothing but perhaps an earlier removal.
    Nothing,
}

/// What the log holds of an erased account's username.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UsernameTrace {
    /// The name itself, until its events age out.
    Plain,
    /// Its keyed hash.
    Hashed,
    /// The index knew of none.
    NoneKnown,
}

/// An account was not erased, or not from everything. Doing it again is right.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The token cache or the index.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The log, after the blob is gone: the removal waits in the outbox.
    #[error("the cache is removed; the log could not be told of it directly, and the relay will: run this again then")]
    Append(#[source] AppendError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The dead letters.
    #[error("the account is erased but for its dead letters; run this again")]
    Letters(#[source] DeadLetterError),
    /// The index does not know of the removal yet.
    #[error("the removal is on its way through the log and the index has not seen it; is the projector running?")]
    NotProjected,
}

/// Erases one account. `max_age` is how long the log keeps events, where that is known.
///
/// # Errors
/// [`EraseError`].
pub async fn erase(
    stores: &ErasureStores,
    key: &CacheKey,
    source: &EventSource,
    max_age: Option<Duration>,
) -> Result<Receipt, EraseError> {
    let before = stores.index.get(key).await?;
    let names = names_of(key, before.as_ref());
    let draft = EventDraft::new(source.clone(), key.clone(), Activity::Removed(AccountHint::default()));
    let blob = stores.cache.store.remove(key, Some(&draft)).await?;
    let Forgotten { entries, refused, removal } = stores.cache.erasure.forget(key, &draft.id).await?;
    let partitions = match &removal {
        Some(removal) => tell_every_partition(&stores.log, removal).await?,
        None => 0,
    };
    let removed_at = scrub_index(stores.index.as_ref(), key, removal.as_ref()).await?;
    stores.claims.forget(key).await?;
    let letters = |queue| erase_letters(stores.log.log.as_ref(), stores.log.dead_letters.as_ref(), queue, &names);
    let dead_letters = letters(LetterQueue::Dead).await.map_err(EraseError::Letters)?;
    let unrouted = letters(LetterQueue::Unrouted).await.map_err(EraseError::Letters)?;
    Ok(Receipt {
        cache_key: key.clone(),
        removed_at,
        blob,
        outbox_entries: entries,
        outbox_refused: refused,
        index: index_trace(before.as_ref()),
        dead_letters,
        unrouted,
        partitions,
        username_in_log: username_trace(before.as_ref()),
        ages_out_at: removed_at.zip(max_age).and_then(|(removed_at, age)| removed_at.checked_add(age).ok()),
    })
}

/// What a letter of this account may have in it.
fn names_of(key: &CacheKey, account: Option<&AccountActivity>) -> Vec<String> {
    let details = account.and_then(|account| account.details.as_ref()).map(|details| &details.value);
    let mut names = vec![key.to_string()];
    names.extend(details.map(|details| details.home_account_id.to_string()));
    names.extend(details.and_then(|details| details.username.as_ref()).map(ToString::to_string));
    names.dedup();
    names
}

async fn tell_every_partition(log: &Log, removal: &ActivityEvent) -> Result<u32, EraseError> {
    let partitions = log.log.partitions().await?;
    for partition in 0..partitions {
        log.log.append(partition, std::slice::from_ref(removal)).await.map_err(EraseError::Append)?;
    }
    Ok(partitions)
}

/// Brings the removal to the index, or waits until the projector has. Says when it was.
async fn scrub_index(
    index: &dyn ActivityStore,
    key: &CacheKey,
    removal: Option<&ActivityEvent>,
) -> Result<Option<Timestamp>, EraseError> {
    if let Some(removal) = removal {
        index.apply(&[AccountActivity::of(removal)]).await?;
        return Ok(Some(removal.time));
    }
    let until = Instant::now() + PROJECTION_PATIENCE;
    while Instant::now() < until {
        let known = index.get(key).await?;
        if let Some(account) = known.filter(|account| account.removed_at.is_some() && !account.is_listed()) {
            return Ok(account.removed_at);
        }
        sleep(PROJECTION_POLL).await;
    }
    Err(EraseError::NotProjected)
}

fn index_trace(before: Option<&AccountActivity>) -> IndexTrace {
    let has_more = before.is_some_and(|account| {
        let bare = AccountActivity {
            removed_at: account.removed_at,
            ..AccountActivity::nothing_about(account.cache_key.clone())
        };
        *account != bare
    });
    if has_more { IndexTrace::Erased } else { IndexTrace::Nothing }
}

fn username_trace(before: Option<&AccountActivity>) -> UsernameTrace {
    let details = before.and_then(|account| account.details.as_ref());
    match details.and_then(|details| details.value.username.as_ref()) {
        None => UsernameTrace::NoneKnown,
        Some(username) if username.as_str().starts_with("hmac-sha256:") => UsernameTrace::Hashed,
        Some(_) => UsernameTrace::Plain,
    }
}
