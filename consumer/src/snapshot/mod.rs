//! Snapshots: the index as one compressed file, with the offsets of the log it stands at.
//!
//! The offsets are read before the accounts. So the file holds at least what is before them, and may hold more; as an
//! index is a join, reading the log again from there gives the index. Restoring into one that is not empty joins the two.
//!
//! `docs/snapshot.md` tells the format.

mod format;
mod restore;
mod write;

use common::backend::BackendError;
use common::index::Checkpoint;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;

pub use restore::{Into, restore};
pub use write::write;

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotReport {
    /// When it was begun.
    pub made_at: jiff::Timestamp,
    /// The accounts in it, listed or not.
    pub accounts: u64,
    /// For each partition that was ever read, up to where.
    pub checkpoints: BTreeMap<u32, Checkpoint>,
}

/// A snapshot could not be written or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// See [`BackendError`].
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The file.
    #[error("the snapshot's file cannot be {0}")]
    File(&'static str, #[source] io::Error),
    /// It is no snapshot that this version reads.
    #[error("this is no snapshot this version can read: {0}")]
    Format(&'static str),
    /// It is cut off, or was changed.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// The index has something in it.
    #[error("the index is not empty; give --force to join the snapshot to what is there")]
    NotEmpty,
    /// Another copy of the index became live, and the one that was written is gone.
    #[error("the index was rebuilt meanwhile; write the snapshot again")]
    Swapped,
}
