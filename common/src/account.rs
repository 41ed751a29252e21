//! The words for whose cache it is: identifiers that are validated once, when they are made.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// Why a text was refused as an identifier. It never repeats the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// The text has no characters.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than the contract allows.
    #[error("is {bytes} bytes long; at most {limit} are allowed")]
    TooLong {
        /// The length of the text.
        bytes: usize,
        /// The longest length that is allowed.
        limit: usize,
    },
    /// The text holds a control character, which no identifier of the contract has.
    #[error("must not hold control characters")]
    ControlCharacter,
}

pub(crate) fn check_text(text: &str, limit: usize) -> Result<(), InvalidText> {
    if text.is_empty() {
        return Err(InvalidText::Empty);
    }
    if text.len() > limit {
        let bytes = text.len();
        return Err(InvalidText::TooLong { bytes, limit });
    }
    if has_control(text) {
        return Err(InvalidText::ControlCharacter);
    }
    Ok(())
}

/// Most texts are ASCII, which is looked through much faster as bytes.
fn has_control(text: &str) -> bool {
    match text.is_ascii() {
        true => text.bytes().any(|byte| byte.is_ascii_control()),
        false => text.chars().any(char::is_control),
    }
}

/// A text identifier: what it takes to be one.
pub(crate) trait Identifier {
    /// Says whether `text` is one.
    fn check(text: &str) -> Result<(), InvalidText>;
}

/// Declares a text identifier: non-empty, bounded, free of control characters.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $limit:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, ::serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The longest text that is allowed, in bytes.
            pub const MAX_BYTES: usize = $limit;

            /// Checks `text` and keeps it.
            ///
            /// # Errors
            /// [`InvalidText`](crate::account::InvalidText) where it is empty, longer than [`Self::MAX_BYTES`] or holds a control character.
            pub fn new(text: impl Into<String>) -> Result<Self, $crate::account::InvalidText> {
                let text = text.into();
                <Self as $crate::account::Identifier>::check(&text)?;
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl $crate::account::Identifier for $name {
            fn check(text: &str) -> Result<(), $crate::account::InvalidText> {
                $crate::account::check_text(text, Self::MAX_BYTES)
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::account::InvalidText;

            fn from_str(text: &str) -> Result<Self, $crate::account::InvalidText> {
                Self::new(text)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(<String as ::serde::Deserialize>::deserialize(deserializer)?)
                    .map_err(::serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use identifier;

identifier!(
    /// The key of one user's token cache blob: the home account id of a signed-in user, or a session key.
    CacheKey,
    512
);
identifier!(
    /// `uid.utid` from `client_info`, or the `sub` of an id token where the provider has no `client_info`.
    HomeAccountId,
    256
);
identifier!(
    /// A user's object id in the home tenant (`uid`).
    ObjectId,
    128
);
identifier!(
    /// A tenant's id (`utid` for the home tenant).
    TenantId,
    128
);
identifier!(
    /// The host of the authority as the blob names it, such as `login.microsoftonline.com`.
    Environment,
    253
);
identifier!(
    /// The application (client) id.
    ClientId,
    128
);
identifier!(
    /// A username, or its keyed hash (see [`crate::event::UsernamePolicy`]).
    Username,
    320
);

impl CacheKey {
    /// The key of a signed-in user's cache: the home account id of GUIDs, `uid.utid`.
    pub fn of_user(object_id: Uuid, tenant_id: Uuid) -> Self {
        Self(format!("{object_id}.{tenant_id}"))
    }
}

impl CacheKey {
    /// The key that a digest makes: unpadded base64url.
    pub(crate) fn of_digest(digest: &[u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(digest))
    }
}

impl HomeAccountId {
    /// The `uid` and `utid` halves, where the id has the two.
    ///
    /// Both are free of dots at the providers that write `client_info`, so an id
    /// with more than one dot is a provider's own `sub` and has no halves.
    pub fn halves(&self) -> Option<(ObjectId, TenantId)> {
        let (uid, utid) = self.as_str().split_once('.')?;
        if utid.contains('.') {
            return None;
        }
        Some((ObjectId::new(uid).ok()?, TenantId::new(utid).ok()?))
    }
}

impl Username {
    /// What usernames are compared by: the letters' case does not matter.
    pub fn lower_cased(&self) -> Cow<'_, str> {
        match self.as_str().bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
            true => Cow::Borrowed(self.as_str()),
            false => Cow::Owned(self.as_str().to_lowercase()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_home_account_id_with_two_halves_gives_object_and_tenant() {
        let id = HomeAccountId::new("uid-1.utid-2").unwrap();
        let (object, tenant) = id.halves().unwrap();
        assert_eq!((object.as_str(), tenant.as_str()), ("uid-1", "utid-2"));
    }

    #[test]
    fn a_subject_of_another_provider_has_no_halves() {
        for subject in ["plain-subject", "a.b.c", ".x", "x."] {
            assert_eq!(HomeAccountId::new(subject).unwrap().halves(), None);
        }
    }

    #[test]
    fn wrong_texts_are_refused_without_being_repeated() {
        assert_eq!(CacheKey::new(""), Err(InvalidText::Empty));
        for text in ["a\nb", "\u{7f}", "é\t", "\u{85}"] {
            assert_eq!(CacheKey::new(text), Err(InvalidText::ControlCharacter));
        }
        assert!(CacheKey::new(" ~é").is_ok());
        let error = CacheKey::new("secret".repeat(100)).unwrap_err();
        assert_eq!(error, InvalidText::TooLong { bytes: 600, limit: 512 });
        assert!(!error.to_string().contains("secret"));
    }
}
