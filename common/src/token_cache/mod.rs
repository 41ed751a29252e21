//! The token cache: one MSAL blob per user, and the outbox that is written with it.

pub mod encryption;
mod erasure;
pub mod msal;
mod port;
mod redis;
mod refresh_lock;
mod scan;
mod sqlite;

pub use erasure::{Forgotten, OutboxErasure};
pub use port::{
    Backlog, CacheWrite, EntryId, Expiry, ExpiryChange, Outbox, OutboxEntry, Precondition, TokenCacheStore,
    WriteOutcome,
};
pub use redis::{Layout, RedisTokenCache, RedisTokenCacheOptions, UnknownLayout};
pub use refresh_lock::{RefreshLock, RefreshPermit};
pub use scan::{MOST_SCANNED, ScanCursor, ScanPage, TokenCacheScan};
pub use sqlite::{SqliteTokenCache, SqliteTokenCacheOptions};
