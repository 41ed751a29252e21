//! The token cache: one MSAL blob per user, and the outbox that is written with it.

mod digest;
pub mod encryption;
mod erasure;
mod l1;
pub mod msal;
mod port;
mod redis;
mod refresh_lock;
mod scan;
mod sqlite;

pub use digest::BlobDigest;
pub use erasure::{Forgotten, OutboxErasure};
pub use l1::{L1Counts, L1Options, L1TokenCache, WhenDown};
pub use port::{
    Backlog, CacheWrite, EntryId, Expiry, ExpiryChange, Outbox, OutboxEntry, Precondition, Reread, TokenCacheStore,
    WriteOutcome,
};
pub use redis::{Layout, RedisTokenCache, RedisTokenCacheOptions, UnknownLayout};
pub use refresh_lock::{RefreshLock, RefreshPermit};
pub use scan::{MOST_SCANNED, ScanCursor, ScanPage, TokenCacheScan};
pub use sqlite::{SqliteTokenCache, SqliteTokenCacheOptions};
