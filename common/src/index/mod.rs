//! The activity index: who has a token cache, when it was last used, and what became of it.
//!
//! The index is the fold of the log ([`AccountActivity::merge`]), kept where workers can query it.
//! There may be several copies of it, [`Generations`], while one is made anew; [`LiveIndex`] is whichever is live.

mod activity;
#[cfg(test)]
pub(crate) mod arbitrary;
mod claiming;
mod claims;
mod due;
mod due_page;
mod entry;
mod fold;
mod generations;
mod leases;
mod live;
mod paging;
mod record;
mod redis;
mod schedule;
mod seed;
mod sqlite;
mod store;

pub use activity::{AccountActivity, AccountState, Register, Stamp};
pub use claims::{
    Claim, ClaimError, ClaimRates, ClaimRequest, Claims, Completion, DueAccount, DuePage, DueRequest, Fence, HeldClaim,
    Hold, Renewed, WorkerId,
};
pub use due::{Due, DuePolicy, DueReason};
pub use fold::{Fold, fold};
pub use generations::{Building, Generations, IndexGenerations, IndexUpkeep, ScanCursor, ScanPage};
pub use leases::{LeaseView, MemberId, PartitionLeases};
pub use live::LiveIndex;
pub use redis::{RedisIndex, RedisPartitionLeases};
pub use schedule::{JobReason, Schedule};
pub use seed::Seed;
pub use sqlite::{SqliteIndex, SqlitePartitionLeases};
pub use store::{
    ActivityStore, Checkpoint, Counts, Cursor, Filter, InvalidCursor, ListError, ListRequest, Order, Page, Query,
    StateCounts,
};
