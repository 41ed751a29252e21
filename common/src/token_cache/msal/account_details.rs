//! A blob's summary in the words of the event contract.

use super::BlobSummary;
use crate::account::{ClientId, Environment, HomeAccountId, InvalidText, Username};
use crate::event::{AccountDetails, Properties, UsernamePolicy};

/// A blob names a user in a way no event can carry.
#[derive(Debug, thiserror::Error)]
#[error("the account's {field} {source}")]
pub struct UnspeakableAccount {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub source: InvalidText,
}

impl BlobSummary<'_> {
    /// What events say of the user, without free properties; `None` where the blob is about no user.
    ///
    /// # Errors
    /// [`UnspeakableAccount`].
    pub fn account_details(&self, usernames: &UsernamePolicy) -> Result<Option<AccountDetails>, UnspeakableAccount> {
        let Some(home_account_id) = self.home_account_id else { return Ok(None) };
        let wrong = |field| move |source| UnspeakableAccount { field, source };
        Ok(Some(AccountDetails {
            home_account_id: HomeAccountId::new(home_account_id).map_err(wrong("home_account_id"))?,
            object_id: self.object_id.and_then(|id| id.parse().ok()),
            tenant_id: self.tenant_id.and_then(|id| id.parse().ok()),
            environment: Environment::new(self.environment.unwrap_or_default()).map_err(wrong("environment"))?,
            client_id: ClientId::new(self.client_id.unwrap_or_default()).map_err(wrong("client_id"))?,
            // A name that no contract can carry is left out; the account is found by its other ids.
            username: self.username.and_then(|name| Username::new(name).ok()).and_then(|name| usernames.apply(&name)),
            access_token_expires_on: self.access_token_expires_on,
            refresh_token_expires_on: None,
            has_refresh_token: self.has_refresh_token,
            properties: Properties::default(),
        }))
    }
}
