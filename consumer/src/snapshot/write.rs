//! Writes a snapshot: the checkpoints first, then page by page the accounts.

use std::collections::BTreeMap;

use common::index::{Checkpoint, IndexGenerations, IndexUpkeep};
use jiff::Timestamp;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::format::{Encoder, Header};
use super::{SnapshotError, SnapshotReport};

/// Accounts read at once.
const PAGE: usize = 1_000;
/// No log has more partitions.
const MOST_PARTITIONS: u32 = 1_024;

/// Writes the live index to `to`. Memory does not grow with the index.
///
/// # Errors
/// [`SnapshotError`]; what was written is of no use then.
pub async fn write(
    index: &dyn IndexGenerations,
    partitions: u32,
    to: &mut (dyn AsyncWrite + Unpin + Send),
) -> Result<SnapshotReport, SnapshotError> {
    let made_at = Timestamp::now();
    let number = index.generations().await?.live;
    let live = index.generation(number);
    let checkpoints = checkpoints(live.as_ref(), partitions).await?;
    let written = |error| SnapshotError::File("written", error);
    let mut encoder = Encoder::new(&Header::new(made_at, checkpoints.clone())).map_err(written)?;
    let mut after = None;
    loop {
        let page = live.scan(after.as_ref(), PAGE).await?;
        for account in &page.accounts {
            encoder.account(account).map_err(written)?;
        }
        to.write_all(&encoder.take()).await.map_err(written)?;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // A copy that is no longer kept may have been deleted while it was read.
    let now = index.generations().await?;
    if now.live != number && now.retired != Some(number) {
        return Err(SnapshotError::Swapped);
    }
    let accounts = encoder.accounts;
    to.write_all(&encoder.finish().map_err(written)?).await.map_err(written)?;
    to.flush().await.map_err(written)?;
    Ok(SnapshotReport { made_at, accounts, checkpoints })
}

async fn checkpoints(index: &dyn IndexUpkeep, partitions: u32) -> Result<BTreeMap<u32, Checkpoint>, SnapshotError> {
    let mut checkpoints = BTreeMap::new();
    for partition in 0..partitions.min(MOST_PARTITIONS) {
        if let Some(checkpoint) = index.checkpoint(partition).await? {
            checkpoints.insert(partition, checkpoint);
        }
    }
    Ok(checkpoints)
}
