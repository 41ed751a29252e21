//! Typed views of the entities, borrowed from the blob.

use super::blob::TokenCacheBlob;
use super::entity::{Entry, Field};
use super::scopes;
use super::secret::Secret;
use super::section::Section;

/// A signed-in account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    /// `uid.utid` at Microsoft; the `sub` of an ADFS or generic OpenID provider.
    pub home_account_id: &'a str,
    /// The host of the identity provider.
    pub environment: &'a str,
    /// The tenant; of a guest the home tenant (MSAL Node) or the resource tenant (the others). May be empty.
    pub realm: &'a str,
    /// The user's object id in the tenant. May be empty.
    pub local_account_id: &'a str,
    /// What the user signs in with. May be empty.
    pub username: &'a str,
    /// `MSSTS`, `ADFS`, `Generic`, …
    pub authority_type: &'a str,
    /// The display name.
    pub name: Option<&'a str>,
    /// The `client_info` of the token response, base64url JSON.
    pub client_info: Option<&'a str>,
}

/// An access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessToken<'a> {
    /// Whose it is; empty for a token of the app itself.
    pub home_account_id: &'a str,
    /// The host of the identity provider.
    pub environment: &'a str,
    /// The client it was issued to.
    pub client_id: &'a str,
    /// The tenant that issued it.
    pub realm: &'a str,
    /// The granted scopes, separated by spaces.
    pub target: &'a str,
    /// `Bearer` where absent.
    pub token_type: Option<&'a str>,
    /// For on-behalf-of and long-running sessions: what the token was had for.
    pub assertion_hash: Option<&'a str>,
    /// When it was issued, Unix seconds.
    pub cached_at: Option<i64>,
    /// When it expires, Unix seconds.
    pub expires_on: i64,
    /// Until when it may be used in an outage of the identity provider, Unix seconds.
    pub extended_expires_on: Option<i64>,
    /// From when on it should be renewed although it is valid, Unix seconds.
    pub refresh_on: Option<i64>,
    /// The token.
    pub secret: Secret<'a>,
}

/// A refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshToken<'a> {
    /// Whose it is.
    pub home_account_id: &'a str,
    /// The host of the identity provider.
    pub environment: &'a str,
    /// The client it was issued to.
    pub client_id: &'a str,
    /// The family of clients that may use it.
    pub family_id: Option<&'a str>,
    /// When it was written, Unix seconds; only MSAL Python and this library say so.
    pub last_modification_time: Option<i64>,
    /// For on-behalf-of and long-running sessions: what the token was had for.
    pub assertion_hash: Option<&'a str>,
    /// The token.
    pub secret: Secret<'a>,
}

/// An id token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdToken<'a> {
    /// Whose it is.
    pub home_account_id: &'a str,
    /// The host of the identity provider.
    pub environment: &'a str,
    /// The client it was issued to.
    pub client_id: &'a str,
    /// The tenant that issued it.
    pub realm: &'a str,
    /// For on-behalf-of and long-running sessions: what the token was had for.
    pub assertion_hash: Option<&'a str>,
    /// The JWT.
    pub secret: Secret<'a>,
}

/// What is known of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppMetadata<'a> {
    /// The client.
    pub client_id: &'a str,
    /// The host of the identity provider.
    pub environment: &'a str,
    /// The family of clients it shares refresh tokens with.
    pub family_id: Option<&'a str>,
}

impl TokenCacheBlob {
    /// The accounts, in the order of the blob; one user may have several, one for each tenant.
    pub fn accounts(&self) -> impl DoubleEndedIterator<Item = Account<'_>> {
        self.usable(Section::Account).map(Account::of)
    }

    /// The access tokens of users and of the app itself, expired ones too, in the order of the blob.
    pub fn access_tokens(&self) -> impl DoubleEndedIterator<Item = AccessToken<'_>> {
        self.usable(Section::AccessToken).map(AccessToken::of)
    }

    /// The refresh tokens, in the order of the blob.
    pub fn refresh_tokens(&self) -> impl DoubleEndedIterator<Item = RefreshToken<'_>> {
        self.usable(Section::RefreshToken).map(RefreshToken::of)
    }

    /// The id tokens, in the order of the blob.
    pub fn id_tokens(&self) -> impl DoubleEndedIterator<Item = IdToken<'_>> {
        self.usable(Section::IdToken).map(IdToken::of)
    }

    /// The clients, in the order of the blob.
    pub fn app_metadata(&self) -> impl DoubleEndedIterator<Item = AppMetadata<'_>> {
        self.usable(Section::AppMetadata).map(AppMetadata::of)
    }
}

impl<'a> Account<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            home_account_id: entry.text_or_empty(Field::HomeAccountId),
            environment: entry.text_or_empty(Field::Environment),
            realm: entry.text_or_empty(Field::Realm),
            local_account_id: entry.text_or_empty(Field::LocalAccountId),
            username: entry.text_or_empty(Field::Username),
            authority_type: entry.text_or_empty(Field::AuthorityType),
            name: entry.text(Field::Name),
            client_info: entry.text(Field::ClientInfo),
        }
    }
}

impl<'a> AccessToken<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            home_account_id: entry.text_or_empty(Field::HomeAccountId),
            environment: entry.text_or_empty(Field::Environment),
            client_id: entry.text_or_empty(Field::ClientId),
            realm: entry.text_or_empty(Field::Realm),
            target: entry.text_or_empty(Field::Target),
            token_type: entry.text(Field::TokenType),
            assertion_hash: entry.assertion_hash(),
            cached_at: entry.seconds(Field::CachedAt),
            expires_on: entry.seconds(Field::ExpiresOn).unwrap_or_default(),
            extended_expires_on: entry.seconds(Field::ExtendedExpiresOn),
            refresh_on: entry.seconds(Field::RefreshOn).filter(|time| *time > 0),
            secret: Secret::new(entry.text_or_empty(Field::Secret)),
        }
    }

    /// The granted scopes.
    pub fn scopes(&self) -> impl Iterator<Item = &'a str> {
        scopes::split(self.target)
    }

    /// Whether the token alone is enough to call an API; proof-of-possession tokens need a key as well.
    #[must_use]
    pub fn is_bearer(&self) -> bool {
        self.token_type.is_none_or(|kind| kind.is_empty() || kind.eq_ignore_ascii_case("Bearer"))
    }
}

impl<'a> RefreshToken<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            home_account_id: entry.text_or_empty(Field::HomeAccountId),
            environment: entry.text_or_empty(Field::Environment),
            client_id: entry.text_or_empty(Field::ClientId),
            family_id: entry.text(Field::FamilyId).filter(|family| !family.is_empty()),
            last_modification_time: entry.seconds(Field::LastModificationTime),
            assertion_hash: entry.assertion_hash(),
            secret: Secret::new(entry.text_or_empty(Field::Secret)),
        }
    }
}

impl<'a> IdToken<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            home_account_id: entry.text_or_empty(Field::HomeAccountId),
            environment: entry.text_or_empty(Field::Environment),
            client_id: entry.text_or_empty(Field::ClientId),
            realm: entry.text_or_empty(Field::Realm),
            assertion_hash: entry.assertion_hash(),
            secret: Secret::new(entry.text_or_empty(Field::Secret)),
        }
    }
}

impl<'a> AppMetadata<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            client_id: entry.text_or_empty(Field::ClientId),
            environment: entry.text_or_empty(Field::Environment),
            family_id: entry.text(Field::FamilyId).filter(|family| !family.is_empty()),
        }
    }
}
