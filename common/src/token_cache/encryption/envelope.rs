//! The envelope's bytes, see the table of the module above.

use super::error::UndecryptableBlob;
use super::key_ring::KeyId;
use crate::token_cache::msal::DATA_PROTECTION;

/// `\x89TCE`: no text can begin with it, as a byte from 80 to BF continues a character and begins none.
const MAGIC: [u8; 4] = [0x89, b'T', b'C', b'E'];
const VERSION: u8 = 1;
const FIXED_HEADER_BYTES: usize = 6;
pub(super) const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Whether the bytes are, or once were, an envelope.
pub(in crate::token_cache) fn is_envelope(stored: &[u8]) -> bool {
    stored.starts_with(&MAGIC)
}

/// The parts of an envelope.
pub(super) struct Envelope<'a> {
    /// Everything before the nonce.
    pub(super) header: &'a [u8],
    pub(super) key_id: KeyId,
    pub(super) nonce: [u8; NONCE_BYTES],
    /// The ciphertext and its tag.
    pub(super) sealed: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(super) fn parse(stored: &'a [u8]) -> Result<Self, UndecryptableBlob> {
        if stored.starts_with(&DATA_PROTECTION) {
            return Err(UndecryptableBlob::DataProtection);
        }
        if !is_envelope(stored) {
            return Err(UndecryptableBlob::NotEncrypted);
        }
        match stored.get(MAGIC.len()) {
            Some(&VERSION) => Self::parts(stored).ok_or(UndecryptableBlob::CutOff),
            Some(&version) => Err(UndecryptableBlob::UnknownVersion { version }),
            None => Err(UndecryptableBlob::CutOff),
        }
    }

    fn parts(stored: &'a [u8]) -> Option<Self> {
        let id_bytes = usize::from(*stored.get(FIXED_HEADER_BYTES - 1)?);
        let (header, rest) = stored.split_at_checked(FIXED_HEADER_BYTES + id_bytes)?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        let id = std::str::from_utf8(header.get(FIXED_HEADER_BYTES..)?).ok()?;
        let key_id = KeyId::new(id).ok()?;
        (sealed.len() >= TAG_BYTES).then_some(Self { header, key_id, nonce: *nonce, sealed })
    }
}

/// Everything before the nonce.
pub(super) fn header(key_id: &KeyId) -> Vec<u8> {
    let mut header = Vec::with_capacity(FIXED_HEADER_BYTES + key_id.as_str().len());
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&[VERSION, key_id.byte_length()]);
    header.extend_from_slice(key_id.as_str().as_bytes());
    header
}

pub(super) fn seal_up(mut header: Vec<u8>, nonce: &[u8; NONCE_BYTES], sealed: &[u8]) -> Vec<u8> {
    header.reserve_exact(NONCE_BYTES + sealed.len());
    header.extend_from_slice(nonce);
    header.extend_from_slice(sealed);
    header
}
