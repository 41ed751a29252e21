//! Restores a snapshot: reads the file to its end and checks it, then reads it again and applies it.

use std::io::SeekFrom;

use common::index::{AccountActivity, ActivityStore, IndexGenerations};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, AsyncSeekExt as _};

use super::format::{Decoder, Header};
use super::{SnapshotError, SnapshotReport};

/// Compressed bytes read at once; what is in them is a thousand times as long at most.
const PART: usize = 8 * 1024;

/// What a snapshot is restored into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// An index without accounts and checkpoints; another one is refused.
    Empty,
    /// Any index: what is there and what is in the snapshot are joined.
    Any,
}

/// Restores what `from` holds. Nothing is applied before the whole file is checked.
///
/// # Errors
/// [`SnapshotError`]; where the index failed, part of the snapshot may be applied, and doing it again is right.
pub async fn restore<R: AsyncRead + AsyncSeek + Unpin + Send>(
    index: &dyn ActivityStore,
    generations: &dyn IndexGenerations,
    from: &mut R,
    into: Into,
) -> Result<SnapshotReport, SnapshotError> {
    let (header, accounts) = read(from, None).await?;
    if into == Into::Empty && !is_empty(generations, &header).await? {
        return Err(SnapshotError::NotEmpty);
    }
    from.seek(SeekFrom::Start(0)).await.map_err(|e| SnapshotError::File("read", e))?;
    read(from, Some(index)).await?;
    // The checkpoints come last, as they do after every batch.
    for (partition, checkpoint) in &header.checkpoints {
        index.store_checkpoint(*partition, *checkpoint).await?;
    }
    Ok(SnapshotReport { made_at: header.made_at, accounts, checkpoints: header.checkpoints })
}

/// Reads to the end, checks, and applies where there is something to apply to.
async fn read<R: AsyncRead + Unpin + Send>(
    from: &mut R,
    index: Option<&dyn ActivityStore>,
) -> Result<(Header, u64), SnapshotError> {
    let mut decoder = Decoder::new();
    let mut part = vec![0; PART];
    loop {
        let length = from.read(&mut part).await.map_err(|e| SnapshotError::File("read", e))?;
        if length == 0 {
            let (last_accounts, header, accounts) = decoder.finish()?;
            apply(index, &last_accounts).await?;
            return Ok((header, accounts));
        }
        apply(index, &decoder.push(&part[..length])?).await?;
    }
}

async fn apply(index: Option<&dyn ActivityStore>, accounts: &[AccountActivity]) -> Result<(), SnapshotError> {
    match index {
        Some(index) => Ok(index.apply(accounts).await?),
        None => Ok(()),
    }
}

async fn is_empty(generations: &dyn IndexGenerations, header: &Header) -> Result<bool, SnapshotError> {
    let live = generations.generation(generations.generations().await?.live);
    for partition in header.checkpoints.keys() {
        if live.checkpoint(*partition).await?.is_some() {
            return Ok(false);
        }
    }
    let mut after = None;
    loop {
        let page = live.scan(after.as_ref(), 1).await?;
        if !page.accounts.is_empty() {
            return Ok(false);
        }
        after = page.next;
        if after.is_none() {
            return Ok(true);
        }
    }
}
