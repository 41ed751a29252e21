//! The file: gzip over lines of JSON, the first a header, the last a count and a checksum.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use common::index::{AccountActivity, Checkpoint};
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SnapshotError;

const FORMAT: &str = "token-activity-index";
const VERSION: u32 = 1;
/// The longest line that is read: an account has some kilobytes at most.
const MAX_LINE_BYTES: usize = 1024 * 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    format: String,
    version: u32,
    pub(super) made_at: Timestamp,
    pub(super) checkpoints: BTreeMap<u32, Checkpoint>,
}

#[derive(Serialize, Deserialize)]
struct Trailer {
    accounts: u64,
    sha256: String,
}

impl Header {
    pub(super) fn new(made_at: Timestamp, checkpoints: BTreeMap<u32, Checkpoint>) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, made_at, checkpoints }
    }

    fn read(line: &[u8]) -> Result<Self, SnapshotError> {
        let header: Self =
            serde_json::from_slice(line).map_err(|_| SnapshotError::Format("its first line is no header"))?;
        match (header.format.as_str(), header.version) {
            (FORMAT, VERSION) => Ok(header),
            (FORMAT, _) => Err(SnapshotError::Format("another version wrote it")),
            _ => Err(SnapshotError::Format("it is of another kind")),
        }
    }
}

/// Turns accounts into compressed bytes.
pub(super) struct Encoder {
    gzip: GzEncoder<Vec<u8>>,
    digest: Sha256,
    pub(super) accounts: u64,
}

impl Encoder {
    pub(super) fn new(header: &Header) -> io::Result<Self> {
        let gzip = GzEncoder::new(Vec::new(), Compression::default());
        let mut encoder = Self { gzip, digest: Sha256::new(), accounts: 0 };
        encoder.line(header)?;
        Ok(encoder)
    }

    pub(super) fn account(&mut self, account: &AccountActivity) -> io::Result<()> {
        self.accounts += 1;
        self.line(account)
    }

    fn line<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.digest.update(&line);
        self.gzip.write_all(&line)
    }

    /// What is ready to be written.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.gzip.get_mut())
    }

    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        let sha256 = hex(&self.digest.clone().finalize());
        self.line(&Trailer { accounts: self.accounts, sha256 })?;
        self.gzip.finish()
    }
}

/// Turns compressed bytes into accounts.
pub(super) struct Decoder {
    gzip: GzDecoder<Vec<u8>>,
    digest: Sha256,
    /// A line that may be the trailer, so that it is not counted before another one comes.
    held: Option<Vec<u8>>,
    header: Option<Header>,
    accounts: u64,
}

impl Decoder {
    pub(super) fn new() -> Self {
        let gzip = GzDecoder::new(Vec::new());
        Self { gzip, digest: Sha256::new(), held: None, header: None, accounts: 0 }
    }

    /// The accounts that `bytes` complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<AccountActivity>, SnapshotError> {
        self.gzip.write_all(bytes).map_err(|_| SnapshotError::Damaged("it is no gzip file, or was changed"))?;
        self.decoded()
    }

    fn decoded(&mut self) -> Result<Vec<AccountActivity>, SnapshotError> {
        let mut accounts = Vec::new();
        for part in std::mem::take(self.gzip.get_mut()).split_inclusive(|byte| *byte == b'\n') {
            accounts.extend(self.part(part)?);
        }
        Ok(accounts)
    }

    /// Takes a line, or a part of one.
    fn part(&mut self, part: &[u8]) -> Result<Option<AccountActivity>, SnapshotError> {
        let is_complete = self.held.as_ref().is_some_and(|held| held.ends_with(b"\n"));
        let read = if is_complete { self.settle()? } else { None };
        let held = self.held.get_or_insert_default();
        held.extend_from_slice(part);
        if held.len() > MAX_LINE_BYTES {
            return Err(SnapshotError::Damaged("a line is longer than any may be"));
        }
        Ok(read)
    }

    /// Reads the line that is held: another one comes after it, so it is not the trailer.
    fn settle(&mut self) -> Result<Option<AccountActivity>, SnapshotError> {
        let line = self.held.take().unwrap_or_default();
        self.digest.update(&line);
        if self.header.is_none() {
            self.header = Some(Header::read(&line)?);
            return Ok(None);
        }
        self.accounts += 1;
        let account = serde_json::from_slice(&line);
        account.map(Some).map_err(|_| SnapshotError::Damaged("an account cannot be read"))
    }

    /// Checks the end, and gives the last accounts, the header and the number of all accounts.
    pub(super) fn finish(mut self) -> Result<(Vec<AccountActivity>, Header, u64), SnapshotError> {
        let cut = SnapshotError::Damaged("it was cut off");
        if self.gzip.try_finish().is_err() {
            return Err(cut);
        }
        let last_accounts = self.decoded()?;
        let (Some(header), Some(last)) = (self.header, self.held) else { return Err(cut) };
        let Ok(trailer) = serde_json::from_slice::<Trailer>(&last) else { return Err(cut) };
        if trailer.accounts != self.accounts || trailer.sha256 != hex(&self.digest.finalize()) {
            return Err(SnapshotError::Damaged("its checksum is another one"));
        }
        Ok((last_accounts, header, self.accounts))
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
