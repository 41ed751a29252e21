//! A borrowed secret that cannot be printed by accident.

use std::fmt;

use secrecy::SecretString;

/// A token borrowed from a blob; `Debug` shows `[redacted]` and there is no `Display`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret<'a>(&'a str);

impl<'a> Secret<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The token itself.
    #[must_use]
    pub fn expose_secret(&self) -> &'a str {
        self.0
    }

    /// A copy that outlives the blob and is wiped when dropped.
    #[must_use]
    pub fn to_owned_secret(&self) -> SecretString {
        SecretString::from(self.0)
    }
}

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
