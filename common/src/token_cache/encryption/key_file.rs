//! Key files: read, and new keys made.
//!
//! A line is a key; empty lines and those that begin with `#` are skipped:
//!
//! ```text
//! active 20261123-9f86d081 WhvBDlXEL5Tvqd6yYSQ3DSxKUTJJsGSHQiR1OPjVK8c=
//! inactive 20260801-2c26b46b …
//! ```
//!
//! `active` or `inactive`, the key's id, and its 32 random bytes in Base64. Over all files of a ring exactly one key is
//! active.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::key_ring::{Key, KeyId, KeyRing, KeyRingError};

/// How large a key file may be.
pub const MOST_KEY_FILE_BYTES: u64 = 1 << 20;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const KEY_BYTES: usize = 32;

/// Key files that make no ring. The texts never repeat what a file holds but ids.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A file cannot be read or written.
    #[error("the key file {path} cannot be read or written")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than [`MOST_KEY_FILE_BYTES`].
    #[error("the key file {path} is larger than 1 MiB; is it a key file?")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A line is none of a key file.
    #[error("line {line} of the key file {path} {what}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomBytes),
    /// See [`KeyRingError`].
    #[error("the key files make no key ring: {0}")]
    Ring(#[from] KeyRingError),
}

impl KeyRing {
    /// The ring that all these files hold together. Warns of files that others than their owner may read or write.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn from_files(paths: &[impl AsRef<Path>]) -> Result<Self, KeyFileError> {
        let (mut active, mut inactive) = (Vec::new(), Vec::new());
        for path in paths {
            for (is_active, key) in read(path.as_ref())? {
                if is_active { &mut active } else { &mut inactive }.push(key);
            }
        }
        Ok(Self::new(active, inactive)?)
    }
}

/// A fresh key as a line of a key file, without its line break.
pub struct KeyText {
    /// The name of the key.
    pub id: KeyId,
    line: SecretString,
}

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomBytes;

impl KeyText {
    /// 32 bytes of the operating system's randomness, under `id`.
    ///
    /// # Errors
    /// [`NoRandomBytes`].
    pub fn fresh(id: KeyId, is_active: bool) -> Result<Self, NoRandomBytes> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        OsRng.try_fill_bytes(&mut *bytes).map_err(|_| NoRandomBytes)?;
        let word = if is_active { "active" } else { "inactive" };
        let key = Zeroizing::new(BASE64.encode(*bytes));
        Ok(Self { line: format!("{word} {id} {}", *key).into(), id })
    }

    /// The line, key included.
    pub fn expose(&self) -> &str {
        self.line.expose_secret()
    }
}

impl std::fmt::Debug for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyText").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Adds a fresh key to a key file, which only its owner may use where it is new. In a new file the key is active; among
/// others it is inactive, so that every program can be given it before the first encrypts under it. Says which.
///
/// # Errors
/// [`KeyFileError`].
pub fn add_fresh_key(path: &Path, id: KeyId) -> Result<bool, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
    let is_new = !path.try_exists().map_err(unreadable)?;
    if !is_new && read(path)?.iter().any(|(_, key)| key.id == id) {
        return Err(KeyRingError::TwiceThere(id).into());
    }
    let key = KeyText::fresh(id, is_new)?;
    let mut file = private().append(true).create_new(is_new).open(path).map_err(unreadable)?;
    // The line before may have no end.
    let line = Zeroizing::new(format!("{}{}\n", if is_new { "" } else { "\n" }, key.expose()));
    file.write_all(line.as_bytes()).map_err(unreadable)?;
    file.sync_all().map_err(unreadable)?;
    Ok(is_new)
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    OpenOptions::new()
}

fn read(path: &Path) -> Result<Vec<(bool, Key)>, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    warn_of_access(path, &file);
    let mut text = Zeroizing::new(String::new());
    // What has to grow is moved, and the place it was moved from is not wiped.
    text.reserve(usize::try_from(file.metadata().map_or(0, |data| data.len())).unwrap_or(0).min(1 << 20) + 1);
    file.take(MOST_KEY_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MOST_KEY_FILE_BYTES {
        return Err(KeyFileError::TooLarge { path: path.to_owned() });
    }
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    keys.map(|(line, text)| key(text).map_err(|what| KeyFileError::Line { path: path.to_owned(), line, what }))
        .collect()
}

fn key(line: &str) -> Result<(bool, Key), &'static str> {
    let mut words = line.split_ascii_whitespace();
    let (Some(state), Some(id), Some(key), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err("has not three words: `active` or `inactive`, the key's id, the key");
    };
    let is_active = match state {
        "active" => true,
        "inactive" => false,
        _ => return Err("begins with neither `active` nor `inactive`"),
    };
    let id = KeyId::new(id).map_err(|_| "has a key id that is not 1 to 64 letters, digits, `.`, `_` or `-`")?;
    Ok((is_active, Key::new(id, &*key_bytes(key).ok_or("has a key that is not 32 bytes in Base64")?)))
}

fn key_bytes(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    // Base64 decodes in steps of three bytes; what is longer than the buffer is no key.
    let mut buffer = Zeroizing::new([0; KEY_BYTES + 4]);
    let length = BASE64.decode_slice(text, &mut *buffer).ok()?;
    let bytes = buffer.get(..length)?.try_into().ok()?;
    Some(Zeroizing::new(bytes))
}

/// A warning and no refusal: secrets that an orchestrator mounts are often readable to a group.
#[cfg(unix)]
fn warn_of_access(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata().map_or(0, |data| data.permissions().mode());
    if mode & 0o077 != 0 {
        let mode = format!("{:o}", mode & 0o777);
        tracing::warn!(path = %path.display(), mode, "others than its owner may use this key file; chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_of_access(_path: &Path, _file: &File) {}
