//! The activity index: who has a token cache, when it was last used, and what became of it.
//!
//! The index is the fold of the log ([`AccountActivity::merge`]), kept where workers can query it.

mod activity;
#[cfg(test)]
mod arbitrary;
mod entry;
mod paging;
mod record;
mod redis;
mod sqlite;
mod store;

pub use activity::{AccountActivity, AccountState, Register, Stamp, fold};
pub use redis::RedisIndex;
pub use sqlite::SqliteIndex;
pub use store::{
    ActivityStore, Counts, Cursor, Filter, InvalidCursor, ListError, ListRequest, Order, Page, Query, StateCounts,
};
