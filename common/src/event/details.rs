//! What an event says of the account: read out of the blob by the web side, extended by the host app.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::account::{ClientId, Environment, HomeAccountId, ObjectId, TenantId, Username};

/// The `data` of `tokencache.user-activity.v1` and `tokencache.hydrated.v1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct AccountDetails {
    /// Whose cache it is.
    pub home_account_id: HomeAccountId,
    /// The user's object id in the home tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<ObjectId>,
    /// The home tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The host of the authority, as the blob names it.
    pub environment: Environment,
    /// The app the tokens were issued to.
    pub client_id: ClientId,
    /// The username: plain, as a keyed hash, or left out, by the setting of the emitting app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Username>,
    /// The soonest expiry of a valid access token in the blob, else the last expiry, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token_expires_on: Option<i64>,
    /// When the refresh token dies, in Unix seconds, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token_expires_on: Option<i64>,
    /// Whether the blob holds a refresh token for this account.
    pub has_refresh_token: bool,
    /// What the host app adds.
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
}

impl AccountDetails {
    /// The same without the two ids that are halves of the home account id filled in from it.
    pub(super) fn fill_in_halves(&mut self) {
        if let Some((object_id, tenant_id)) = self.home_account_id.halves() {
            self.object_id.get_or_insert(object_id);
            self.tenant_id.get_or_insert(tenant_id);
        }
    }
}

/// The account an event without details speaks of, as far as its emitter knew it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct AccountHint {
    /// Whose cache it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home_account_id: Option<HomeAccountId>,
    /// The user's object id in the home tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<ObjectId>,
    /// The home tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The host of the authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The app the tokens were issued to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
}

impl From<&AccountDetails> for AccountHint {
    fn from(details: &AccountDetails) -> Self {
        Self {
            home_account_id: Some(details.home_account_id.clone()),
            object_id: details.object_id.clone(),
            tenant_id: details.tenant_id.clone(),
            environment: Some(details.environment.clone()),
            client_id: Some(details.client_id.clone()),
        }
    }
}

/// Why properties were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProperties {
    /// There are more than [`Properties::MAX_ENTRIES`].
    #[error("has {0} entries; at most {limit} are allowed", limit = Properties::MAX_ENTRIES)]
    TooMany(usize),
    /// A name is empty or longer than [`Properties::MAX_NAME_BYTES`].
    #[error("has a name of {0} bytes; 1 to {limit} are allowed", limit = Properties::MAX_NAME_BYTES)]
    Name(usize),
    /// Their JSON is longer than [`Properties::MAX_JSON_BYTES`].
    #[error("is {0} bytes of JSON; at most {limit} are allowed", limit = Properties::MAX_JSON_BYTES)]
    TooLong(usize),
}

/// What the host app adds to the entity: names and JSON values. Never a token or another secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Properties(BTreeMap<String, Value>);

impl Properties {
    /// How many there may be.
    pub const MAX_ENTRIES: usize = 32;
    /// How long a name may be.
    pub const MAX_NAME_BYTES: usize = 64;
    /// How long all of them may be together, as JSON.
    pub const MAX_JSON_BYTES: usize = 4096;

    /// Checks `entries` and keeps them.
    ///
    /// # Errors
    /// [`InvalidProperties`] where they pass one of the three limits.
    pub fn new(entries: BTreeMap<String, Value>) -> Result<Self, InvalidProperties> {
        if entries.len() > Self::MAX_ENTRIES {
            return Err(InvalidProperties::TooMany(entries.len()));
        }
        if let Some(name) = entries.keys().find(|n| n.is_empty() || n.len() > Self::MAX_NAME_BYTES) {
            return Err(InvalidProperties::Name(name.len()));
        }
        let properties = Self(entries);
        let bytes = if properties.is_empty() { 0 } else { properties.to_json().len() };
        if bytes > Self::MAX_JSON_BYTES {
            return Err(InvalidProperties::TooLong(bytes));
        }
        Ok(properties)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries, by name.
    pub fn entries(&self) -> &BTreeMap<String, Value> {
        &self.0
    }

    /// The entries as one JSON object, names in order.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(BTreeMap::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
