//! The port that makes an outbox forget an account.

use std::fmt;

use async_trait::async_trait;

use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::event::{ActivityEvent, EventId};

/// Takes what an outbox holds of one account out of it.
#[async_trait]
pub trait OutboxErasure: Send + Sync + fmt::Debug {
    /// Deletes the entries about `key` that stand before that of the event `removal`, sent or not: the removal overtakes
    /// whatever they say. An entry that a relay holds may still be sent, and changes nothing. Deletes too what was set
    /// aside and names the key.
    ///
    /// Where the removal has been sent and forgotten already, so has all before it, and nothing is deleted.
    ///
    /// # Errors
    /// [`BackendError`]; some may be deleted then, and calling again is right.
    async fn forget(&self, key: &CacheKey, removal: &EventId) -> Result<Forgotten, BackendError>;
}

/// What an outbox held of an account.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forgotten {
    /// Entries that were deleted.
    pub entries: u64,
    /// Entries that had been set aside, and were deleted.
    pub refused: u64,
    /// The removal as it stands in the outbox, with the time the store gave it.
    pub removal: Option<ActivityEvent>,
}

/// Whether a draft that cannot be read names the key.
pub(super) fn names(draft: &[u8], key: &CacheKey) -> bool {
    draft.windows(key.as_str().len()).any(|part| part.eq_ignore_ascii_case(key.as_str().as_bytes()))
}
