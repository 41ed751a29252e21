//! How an account of the index is shown: the fields of its JSON, and the columns of its table.

use common::account::{CacheKey, ClientId, Environment, HomeAccountId, ObjectId, TenantId, Username};
use common::event::{ErrorCode, FailureReason, Properties};
use common::index::{AccountActivity, AccountState, Seed};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::schemas;

/// One account as JSON. Times are RFC 3339, expiries Unix seconds.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountView<'a> {
    #[schema(value_type = schemas::CacheKey)]
    cache_key: &'a CacheKey,
    #[schema(value_type = Option<schemas::HomeAccountId>)]
    home_account_id: Option<&'a HomeAccountId>,
    #[schema(value_type = Option<schemas::ObjectId>)]
    object_id: Option<&'a ObjectId>,
    #[schema(value_type = Option<schemas::TenantId>)]
    tenant_id: Option<&'a TenantId>,
    #[schema(value_type = Option<schemas::Environment>)]
    environment: Option<&'a Environment>,
    #[schema(value_type = Option<schemas::ClientId>)]
    client_id: Option<&'a ClientId>,
    #[schema(value_type = Option<schemas::Username>)]
    username: Option<&'a Username>,
    /// The soonest expiry of an access token in the cache, in Unix seconds.
    access_token_expires_on: Option<i64>,
    /// When the refresh token dies, in Unix seconds, where that is known.
    refresh_token_expires_on: Option<i64>,
    has_refresh_token: Option<bool>,
    #[schema(value_type = Option<schemas::Properties>)]
    properties: Option<&'a Properties>,
    /// When the user was last here; null where that is not known.
    last_activity: Option<Timestamp>,
    /// Whether something is from the token cache itself, because the log no longer says it.
    is_seeded: bool,
    /// When a worker last renewed the cache.
    last_hydration: Option<Timestamp>,
    #[schema(value_type = schemas::AccountState)]
    state: AccountState,
    failure: Option<FailureView<'a>>,
    removed_at: Option<Timestamp>,
}

/// The failure in force.
#[derive(Serialize, ToSchema)]
#[schema(as = Failure)]
struct FailureView<'a> {
    #[schema(value_type = schemas::FailureReason)]
    reason: FailureReason,
    #[schema(value_type = Option<schemas::ErrorCode>)]
    error: Option<&'a ErrorCode>,
    #[schema(value_type = Option<schemas::ErrorCode>)]
    suberror: Option<&'a ErrorCode>,
    at: Timestamp,
    /// When to try again, in Unix seconds, where the provider has said so.
    retry_after: Option<i64>,
}

impl<'a> AccountView<'a> {
    /// What is shown of `account`.
    pub fn of(account: &'a AccountActivity) -> Self {
        let details = account.details.as_ref().map(|register| &register.value);
        Self {
            cache_key: &account.cache_key,
            home_account_id: details.map(|d| &d.home_account_id),
            object_id: details.and_then(|d| d.object_id.as_ref()),
            tenant_id: details.and_then(|d| d.tenant_id.as_ref()),
            environment: details.map(|d| &d.environment),
            client_id: details.map(|d| &d.client_id),
            username: details.and_then(|d| d.username.as_ref()),
            access_token_expires_on: details.and_then(|d| d.access_token_expires_on),
            refresh_token_expires_on: details.and_then(|d| d.refresh_token_expires_on),
            has_refresh_token: details.map(|d| d.has_refresh_token),
            properties: details.map(|d| &d.properties),
            last_activity: account.last_activity.filter(|_| !Seed::is_all_there_is_of_activity(account)),
            is_seeded: Seed::is_in(account),
            last_hydration: account.last_hydration,
            state: account.state(),
            failure: FailureView::in_force(account),
            removed_at: account.removed_at,
        }
    }

    /// The headings of [`row`](Self::row).
    pub const HEADINGS: [&'static str; 6] =
        ["USER", "CACHE KEY", "STATE", "LAST ACTIVITY", "TOKEN EXPIRES", "REFRESH TOKEN"];

    /// The columns of its line in a table.
    pub fn row(&self) -> Vec<String> {
        vec![
            shown(self.username),
            self.cache_key.to_string(),
            self.state_in_words(),
            whole_seconds(self.last_activity),
            unix_seconds(self.access_token_expires_on),
            self.has_refresh_token.map_or("-", |has| if has { "yes" } else { "no" }).to_owned(),
        ]
    }

    /// Every field with its name, for one account.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("cache key", self.cache_key.to_string()),
            ("home account id", shown(self.home_account_id)),
            ("object id", shown(self.object_id)),
            ("tenant id", shown(self.tenant_id)),
            ("environment", shown(self.environment)),
            ("client id", shown(self.client_id)),
            ("username", shown(self.username)),
            ("state", self.state_in_words()),
            ("last activity", shown(self.last_activity)),
            ("seeded", if self.is_seeded { "yes" } else { "no" }.to_owned()),
            ("last hydration", shown(self.last_hydration)),
            ("removed at", shown(self.removed_at)),
            ("access token expires", unix_seconds(self.access_token_expires_on)),
            ("refresh token expires", unix_seconds(self.refresh_token_expires_on)),
            ("has refresh token", shown(self.has_refresh_token)),
        ];
        if let Some(properties) = self.properties.filter(|p| !p.is_empty()) {
            fields.push(("properties", properties.to_json()));
        }
        fields
    }

    fn state_in_words(&self) -> String {
        let state = match self.state {
            AccountState::Ready => "ready",
            AccountState::BackingOff => "backing off",
            AccountState::Parked => "parked",
            AccountState::Removed => "removed",
        };
        match &self.failure {
            Some(failure) => format!("{state}: {}", failure.in_words()),
            None => state.to_owned(),
        }
    }
}

impl<'a> FailureView<'a> {
    fn in_force(account: &'a AccountActivity) -> Option<Self> {
        let register = account.failure_in_force()?;
        let failure = &register.value;
        Some(Self {
            reason: failure.reason,
            error: failure.error.as_ref(),
            suberror: failure.suberror.as_ref(),
            at: register.stamp.time(),
            retry_after: failure.retry_after,
        })
    }

    fn in_words(&self) -> String {
        let codes = [self.error, self.suberror].into_iter().flatten().map(ErrorCode::as_str);
        let words: Vec<&str> = std::iter::once(self.reason.as_str()).chain(codes).collect();
        words.join(" ")
    }
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn whole_seconds(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"))
}

fn unix_seconds(seconds: Option<i64>) -> String {
    whole_seconds(seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()))
}
