//! The five sections of the unified cache.

use std::fmt;

use super::entity::Field;

/// A section of the blob that this library reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// Access tokens.
    AccessToken,
    /// Refresh tokens, one client's or a family's.
    RefreshToken,
    /// Id tokens, one per realm.
    IdToken,
    /// The signed-in accounts.
    Account,
    /// What is known of a client, above all whether it belongs to a family.
    AppMetadata,
}

impl Section {
    /// All sections, in the order MSAL libraries write them.
    pub const ALL: [Self; 5] = [Self::AccessToken, Self::Account, Self::IdToken, Self::RefreshToken, Self::AppMetadata];

    /// The section's name in the blob.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "AccessToken",
            Self::RefreshToken => "RefreshToken",
            Self::IdToken => "IdToken",
            Self::Account => "Account",
            Self::AppMetadata => "AppMetadata",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.name() == name)
    }

    /// Whether its entities are credentials with a `credential_type`.
    pub(super) fn is_credential(self) -> bool {
        matches!(self, Self::AccessToken | Self::RefreshToken | Self::IdToken)
    }

    /// The fields without which an entity of this section cannot be used.
    pub(super) fn required(self) -> &'static [Field] {
        use Field::{ClientId, Environment, ExpiresOn, HomeAccountId, Secret};
        match self {
            Self::AccessToken => &[Environment, ClientId, Secret, ExpiresOn],
            Self::RefreshToken | Self::IdToken => &[Environment, ClientId, Secret],
            Self::Account => &[HomeAccountId, Environment],
            Self::AppMetadata => &[ClientId, Environment],
        }
    }

    /// Whether entities of this section have the field; elsewhere the same name is foreign.
    pub(super) fn reads(self, field: Field) -> bool {
        use Field as F;
        match field {
            F::Environment => true,
            F::HomeAccountId => self != Self::AppMetadata,
            F::ClientId => self != Self::Account,
            F::Secret | F::CredentialType | F::AssertionHash | F::AssertionHashCamel => self.is_credential(),
            F::Realm => matches!(self, Self::AccessToken | Self::IdToken | Self::Account),
            F::Target => matches!(self, Self::AccessToken | Self::RefreshToken),
            F::CachedAt | F::ExpiresOn | F::ExtendedExpiresOn | F::RefreshOn | F::TokenType => {
                self == Self::AccessToken
            }
            F::LastModificationTime => self == Self::RefreshToken,
            F::FamilyId => matches!(self, Self::RefreshToken | Self::AppMetadata),
            F::LocalAccountId | F::Username | F::AuthorityType | F::Name | F::ClientInfo => self == Self::Account,
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
