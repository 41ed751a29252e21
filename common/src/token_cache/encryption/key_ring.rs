//! The keys: one to encrypt under, any number to decrypt under.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};

/// The name of a key, which stands in clear in each envelope: 1 to 64 letters, digits, `.`, `_` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct KeyId(String);

/// A text is no [`KeyId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key id has 1 to 64 letters, digits, `.`, `_` or `-`")]
pub struct InvalidKeyId;

impl KeyId {
    /// The longest, in bytes.
    pub const MAX_BYTES: u8 = 64;

    /// Checks `text` and keeps it.
    ///
    /// # Errors
    /// [`InvalidKeyId`].
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidKeyId> {
        let text = text.into();
        let is_of_a_key_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_good = (1..=usize::from(Self::MAX_BYTES)).contains(&text.len()) && text.bytes().all(is_of_a_key_id);
        if is_good { Ok(Self(text)) } else { Err(InvalidKeyId) }
    }

    /// Today's date in UTC and eight random digits.
    pub fn of_today() -> Self {
        Self(format!("{}-{:08x}", jiff::Timestamp::now().strftime("%Y%m%d"), rand::random::<u32>()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn byte_length(&self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(Self::MAX_BYTES)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        Self::new(text)
    }
}

/// A key with its name. The key is wiped from memory when dropped and never printed.
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) cipher: XChaCha20Poly1305,
}

impl Key {
    pub(super) fn new(id: KeyId, bytes: &[u8; 32]) -> Self {
        Self { id, cipher: XChaCha20Poly1305::new(bytes.into()) }
    }
}

/// One active key, any number of others. `Debug` shows the ids alone.
pub struct KeyRing {
    active: Key,
    others: BTreeMap<KeyId, XChaCha20Poly1305>,
}

/// Keys that make no ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// None is to be encrypted under.
    #[error("no key is active: begin the line of one key with `active`")]
    NoActiveKey,
    /// Several are to be encrypted under.
    #[error("the keys {0} and {1} are both active: begin the line of one of them with `inactive`")]
    TwoActiveKeys(KeyId, KeyId),
    /// Two keys have one name.
    #[error("the key {0} is there twice")]
    TwiceThere(KeyId),
}

impl KeyRing {
    pub(super) fn new(active: Vec<Key>, inactive: Vec<Key>) -> Result<Self, KeyRingError> {
        let mut candidates = active.into_iter();
        let active = candidates.next().ok_or(KeyRingError::NoActiveKey)?;
        if let Some(other) = candidates.next() {
            return Err(KeyRingError::TwoActiveKeys(active.id, other.id));
        }
        let mut others = BTreeMap::new();
        for Key { id, cipher } in inactive {
            if id == active.id || others.contains_key(&id) {
                return Err(KeyRingError::TwiceThere(id));
            }
            others.insert(id, cipher);
        }
        Ok(Self { active, others })
    }

    /// The id of the key that is encrypted under.
    pub fn active_id(&self) -> &KeyId {
        &self.active.id
    }

    /// The ids of the keys that are only decrypted under.
    pub fn inactive_ids(&self) -> impl Iterator<Item = &KeyId> {
        self.others.keys()
    }

    pub(super) fn active(&self) -> &Key {
        &self.active
    }

    pub(super) fn cipher(&self, id: &KeyId) -> Option<&XChaCha20Poly1305> {
        if id == &self.active.id {
            return Some(&self.active.cipher);
        }
        self.others.get(id)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others: Vec<&KeyId> = self.inactive_ids().collect();
        f.debug_struct("KeyRing").field("active", self.active_id()).field("inactive", &others).finish()
    }
}
