//! Tokens into the cache: those of a sign-in, and those of a silent refresh while the user is here.

use async_trait::async_trait;
use common::account::CacheKey;
use common::backend::{BackendError, Trouble};
use common::identity::{CacheWriter, TokenResponse};
use common::token_cache::msal::TokenCacheBlob;
use common::token_cache::{Expiry, ExpiryChange, WriteOutcome};

use super::{TokenCacheAdapter, WriteError};

/// How often somebody else may have written the cache meanwhile before it is given up.
const MOST_CONFLICTS: u32 = 5;

/// The tokens of a sign-in were not kept.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// See [`WriteError`].
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Others kept changing the cache.
    #[error("the token cache changed {MOST_CONFLICTS} times while the tokens were being written; try again")]
    Contended,
}

impl From<BackendError> for SaveError {
    fn from(error: BackendError) -> Self {
        Self::Write(error.into())
    }
}

impl SaveError {
    /// Whether the same may succeed later with nothing changed here.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Write(error) => error.is_transient(),
            Self::Contended => true,
        }
    }
}

impl TokenCacheAdapter {
    /// Saves the tokens of a sign-in into the user's cache, beside what others keep there, with the event of the
    /// user's activity.
    ///
    /// A cache that cannot be read is replaced: the user is here and has signed in, which is its cure.
    ///
    /// # Errors
    /// [`SaveError`].
    ///
    /// # Cancel safety
    /// A dropped call may still write, blob and event or neither.
    pub async fn save(&self, key: &CacheKey, tokens: &TokenResponse, expiry: Expiry) -> Result<(), SaveError> {
        for _ in 0..MOST_CONFLICTS {
            let read = self.read(key).await?;
            let mut blob = readable(read.as_deref());
            tokens.save_into(&mut blob);
            let outcome = self.write_if_unchanged(key, read.as_deref(), &blob.serialize(), expiry).await?;
            if outcome == WriteOutcome::Written {
                return Ok(());
            }
        }
        Err(SaveError::Contended)
    }
}

fn readable(bytes: Option<&[u8]>) -> TokenCacheBlob {
    match bytes.map(TokenCacheBlob::parse) {
        None => TokenCacheBlob::empty(),
        Some(Ok(blob)) => blob,
        Some(Err(error)) => {
            tracing::warn!(%error, "a token cache that cannot be read is replaced by a sign-in");
            TokenCacheBlob::empty()
        }
    }
}

/// What a silent refresh in the web app writes back is the user's activity: they are here. How long the cache is kept
/// stays what the sign-in decided.
#[async_trait]
impl CacheWriter for TokenCacheAdapter {
    async fn write_back(&self, key: &CacheKey, read: Option<&[u8]>, blob: &[u8]) -> Result<WriteOutcome, BackendError> {
        match self.write_if_unchanged(key, read, blob, ExpiryChange::Kept).await {
            Ok(outcome) => Ok(outcome),
            Err(WriteError::Store(error)) => Err(error),
            Err(WriteError::Unreadable(error)) => {
                Err(BackendError::new(Trouble::Corrupt, "token cache", "the refreshed blob was refused", error))
            }
        }
    }
}
