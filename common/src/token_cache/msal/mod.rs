//! MSAL's unified token cache (schema v3): reads, queries, changes and merges one user's blob beside the MSAL libraries
//! that read and write the same bytes.
//!
//! A [`TokenCacheBlob`] keeps everything it was given: an unchanged blob serializes to the very bytes it was parsed
//! from, and in a changed one every untouched entry keeps its text and its place. Nothing here reads a clock or does
//! I/O; `now` is an argument in Unix seconds.
//!
//! ```
//! use common::token_cache::msal::TokenCacheBlob;
//!
//! let blob = TokenCacheBlob::parse(br#"{"AccessToken":{},"Foreign":[1,2]}"#)?;
//! assert_eq!(blob.accounts().count(), 0);
//! assert_eq!(&*blob.serialize(), br#"{"AccessToken":{},"Foreign":[1,2]}"#);
//! # Ok::<(), common::token_cache::msal::BlobError>(())
//! ```

mod account_details;
mod blob;
mod draft;
mod entity;
mod environment;
mod error;
mod identity;
mod json;
mod merge;
mod oddity;
mod query;
mod scopes;
mod secret;
mod section;
mod summary;
mod views;
mod write;

pub use account_details::UnspeakableAccount;
pub(super) use blob::DATA_PROTECTION;
pub use blob::{Limits, TokenCacheBlob};
pub use environment::same_environment;
pub use error::{BlobError, BlobErrorKind};
pub use merge::{Merged, merge};
pub use oddity::{Oddity, OddityKind};
pub use query::{AccessTokenQuery, CredentialQuery, FoundAccessToken};
pub use secret::Secret;
pub use section::Section;
pub use summary::BlobSummary;
pub use views::{AccessToken, Account, AppMetadata, IdToken, RefreshToken};
pub use write::TokenResponse;
