//! Why a stored blob cannot be decrypted.

use super::key_ring::KeyId;
use crate::backend::{BackendError, Trouble};

/// What is stored is no envelope that this program can open. It is never taken for plain text instead.
///
/// It reaches callers of the port as a [`BackendError`] of the kind [`Trouble::Corrupt`]; [`of`](Self::of) finds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UndecryptableBlob {
    /// It is plain text, or something else that was never an envelope.
    #[error(
        "the token cache blob is not encrypted, and encryption is on: either turn it on in the app that writes it, or \
         off here; `consumer keys rewrap --from-plaintext` encrypts what is there already"
    )]
    NotEncrypted,
    /// ASP.NET Core Data Protection encrypted it.
    #[error(
        "the token cache blob is encrypted by ASP.NET Core Data Protection, whose keys only the .NET apps hold: a \
         cache that is shared with them cannot be encrypted here"
    )]
    DataProtection,
    /// A newer version of this program encrypted it.
    #[error("the token cache blob is an envelope of version {version}, and this program knows version 1")]
    UnknownVersion {
        /// The version.
        version: u8,
    },
    /// It ends too early, or its head is damaged.
    #[error("the token cache blob is an envelope that is cut off or damaged")]
    CutOff,
    /// Its key is not in the key ring.
    #[error("the token cache blob is encrypted under the key {key_id}, which is not in the key ring: add its file")]
    UnknownKey {
        /// The key's id.
        key_id: KeyId,
    },
    /// Its tag does not fit.
    #[error(
        "the token cache blob does not open under its key {key_id}: it was changed, or belongs under another cache \
         key, instance name or client id, or the key ring has another key of this id"
    )]
    Forged {
        /// The key's id.
        key_id: KeyId,
    },
}

impl UndecryptableBlob {
    /// The reason, where it is what a store failed by.
    pub fn of(error: &BackendError) -> Option<&Self> {
        error.source.as_deref()?.downcast_ref()
    }

    /// As the error of the store at `address`.
    pub(super) fn at(self, address: &str) -> BackendError {
        BackendError::new(Trouble::Corrupt, address, self.to_string(), self)
    }
}
