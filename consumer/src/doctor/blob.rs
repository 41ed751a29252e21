//! What the token cache holds of the account: sizes, owners and times, and no token.

use common::backend::BackendError;
use common::event::FailureReason;
use common::identity::AcquireError;
use common::program::one_line;
use common::token_cache::msal::TokenCacheBlob;
use jiff::Timestamp;
use serde::Serialize;

/// What the token cache holds under the key.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BlobReport {
    /// Whether there is one. `None` where the store did not say.
    pub is_stored: Option<bool>,
    /// Its size, as the store gives it out.
    pub bytes: Option<usize>,
    /// Why it cannot be read, in the word of the contract.
    pub unreadable: Option<FailureReason>,
    /// The same in a sentence.
    pub problem: Option<String>,
    /// Whose it is.
    pub accounts: Vec<AccountReport>,
    /// Its access tokens.
    pub access_tokens: Vec<AccessTokenReport>,
    /// Its refresh tokens.
    pub refresh_tokens: Vec<RefreshTokenReport>,
    /// What some MSAL library chokes on, and entries that are left alone.
    pub oddities: Vec<String>,
}

/// An account of the blob. What the user is called is said by the index alone, in the form the app chose.
#[derive(Debug, Clone, Serialize)]
pub struct AccountReport {
    /// `uid.utid`.
    pub home_account_id: String,
    /// The host of the provider.
    pub environment: String,
    /// The tenant.
    pub realm: String,
}

/// An access token of the blob, without the token.
#[derive(Debug, Clone, Serialize)]
pub struct AccessTokenReport {
    /// Whose.
    pub home_account_id: String,
    /// Issued to which app.
    pub client_id: String,
    /// By which tenant.
    pub realm: String,
    /// For what.
    pub scopes: String,
    /// When it was issued.
    pub issued_at: Option<Timestamp>,
    /// When it expires.
    pub expires_on: Option<Timestamp>,
    /// Whether it has not expired.
    pub is_valid: bool,
}

/// A refresh token of the blob, without the token.
#[derive(Debug, Clone, Serialize)]
pub struct RefreshTokenReport {
    /// Whose.
    pub home_account_id: String,
    /// Issued to which app.
    pub client_id: String,
    /// The family of apps that may use it.
    pub family_id: Option<String>,
    /// When it was written, where the library that wrote it says so.
    pub written_at: Option<Timestamp>,
}

impl BlobReport {
    pub(super) fn of(stored: Result<Option<Vec<u8>>, BackendError>, now: Timestamp) -> Self {
        match stored {
            Ok(None) => Self { is_stored: Some(false), ..Self::default() },
            Ok(Some(bytes)) => Self::of_bytes(&bytes, now),
            Err(error) => Self::unreadable(&AcquireError::from(error)),
        }
    }

    fn of_bytes(bytes: &[u8], now: Timestamp) -> Self {
        let report = match TokenCacheBlob::parse(bytes) {
            Ok(blob) => Self::of_blob(&blob, now),
            Err(error) => Self::unreadable(&error.into()),
        };
        Self { is_stored: Some(true), bytes: Some(bytes.len()), ..report }
    }

    fn unreadable(error: &AcquireError) -> Self {
        let is_there = error.reason() != FailureReason::StoreUnavailable;
        Self {
            is_stored: is_there.then_some(true),
            unreadable: Some(error.reason()),
            problem: Some(one_line(error)),
            ..Self::default()
        }
    }

    fn of_blob(blob: &TokenCacheBlob, now: Timestamp) -> Self {
        let accounts = blob.accounts().map(|account| AccountReport {
            home_account_id: account.home_account_id.to_owned(),
            environment: account.environment.to_owned(),
            realm: account.realm.to_owned(),
        });
        let access_tokens = blob.access_tokens().map(|token| AccessTokenReport {
            home_account_id: token.home_account_id.to_owned(),
            client_id: token.client_id.to_owned(),
            realm: token.realm.to_owned(),
            scopes: token.target.to_owned(),
            issued_at: token.cached_at.and_then(time),
            expires_on: time(token.expires_on),
            is_valid: token.expires_on > now.as_second(),
        });
        let refresh_tokens = blob.refresh_tokens().map(|token| RefreshTokenReport {
            home_account_id: token.home_account_id.to_owned(),
            client_id: token.client_id.to_owned(),
            family_id: token.family_id.map(str::to_owned),
            written_at: token.last_modification_time.and_then(time),
        });
        Self {
            accounts: accounts.collect(),
            access_tokens: access_tokens.collect(),
            refresh_tokens: refresh_tokens.collect(),
            oddities: blob.oddities().map(|oddity| oddity.to_string()).collect(),
            ..Self::default()
        }
    }

    /// Every user the blob holds something of, each once.
    pub(super) fn owners(&self) -> Vec<&str> {
        let accounts = self.accounts.iter().map(|account| account.home_account_id.as_str());
        let access = self.access_tokens.iter().map(|token| token.home_account_id.as_str());
        let refresh = self.refresh_tokens.iter().map(|token| token.home_account_id.as_str());
        let mut owners: Vec<&str> = accounts.chain(access).chain(refresh).filter(|owner| !owner.is_empty()).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }
}

fn time(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok()
}
