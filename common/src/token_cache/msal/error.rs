//! Why some bytes are not a token cache blob.

use super::section::Section;

/// Bytes that cannot be read as a token cache blob.
///
/// No variant carries text of the blob, since any of it may be a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The blob is larger than [`Limits::max_bytes`](super::Limits::max_bytes).
    #[error("the token cache blob has {bytes} bytes and the limit is {limit}")]
    TooLarge {
        /// The size of the blob.
        bytes: usize,
        /// The largest size accepted.
        limit: usize,
    },
    /// The blob was encrypted by ASP.NET Core Data Protection, whose keys only the .NET apps hold.
    #[error(
        "the token cache blob is encrypted by ASP.NET Core Data Protection: turn off \
         `MsalDistributedTokenCacheAdapterOptions.Encrypt` in the app that writes it"
    )]
    DataProtection,
    /// The blob is an envelope of [`encryption`](crate::token_cache::encryption), and encryption is off here.
    #[error(
        "the token cache blob is encrypted by an app of ours, and encryption is off here: set \
         --cache-encryption-keys (TOKEN_CACHE_ENCRYPTION_KEYS)"
    )]
    Encrypted,
    /// The blob is not UTF-8 text.
    #[error("the token cache blob is not UTF-8 text from byte {offset} on")]
    NotUtf8 {
        /// The first byte that is not UTF-8.
        offset: usize,
    },
    /// The JSON is nested deeper than [`Limits::max_depth`](super::Limits::max_depth).
    #[error("the token cache blob is nested deeper than {limit} levels")]
    TooDeep {
        /// The deepest nesting accepted.
        limit: usize,
    },
    /// The blob is not JSON.
    #[error("the token cache blob is not JSON at line {line} column {column}")]
    Malformed {
        /// The line of the first error, from 1.
        line: usize,
        /// The column of the first error, in bytes from 1.
        column: usize,
    },
    /// The blob is JSON but not an object, or one of its known sections is not.
    #[error("{} is not a JSON object", .section.map_or("the token cache blob", Section::name))]
    WrongType {
        /// The section that has the wrong type; `None` for the blob itself.
        section: Option<Section>,
    },
}

/// What an unreadable blob means for its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobErrorKind {
    /// The blob is encrypted and this program has no key for it.
    Undecryptable,
    /// The blob is not a token cache.
    Malformed,
}

impl BlobError {
    /// Whether the blob is encrypted for somebody else or no token cache at all.
    #[must_use]
    pub fn kind(&self) -> BlobErrorKind {
        match self {
            Self::DataProtection | Self::Encrypted => BlobErrorKind::Undecryptable,
            Self::TooLarge { .. }
            | Self::NotUtf8 { .. }
            | Self::TooDeep { .. }
            | Self::Malformed { .. }
            | Self::WrongType { .. } => BlobErrorKind::Malformed,
        }
    }
}
