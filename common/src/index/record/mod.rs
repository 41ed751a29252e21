//! How an account is stored: a compact binary form of [`AccountActivity`], versioned by its first byte.
//!
//! ```text
//! version    1 byte, 1
//! flags      2 bytes, little endian: what is there, and what need not be written (the constants below)
//! cache key  text
//! details    stamp; home account id (text), object and tenant id (optional texts), unless all three follow from the
//!            cache key; environment, client id (text); username (optional text); the two expiries; properties (JSON)
//! times      last activity, last hydration, removal, where they are there and are not the details' own
//! failure    stamp; reason (1 byte); error, suberror (optional texts); retry after; home account, object and
//!            tenant id, environment, client id (optional texts)
//! ```
//! Numbers are LEB128, signed ones zigzag. A time is the distance to the details' time (to 2026 without details): in
//! microseconds, or in seconds for expiries and `retry after`. A stamp is its time and the 16 bytes of its tie
//! breaker; of a UUIDv7, whose first bytes repeat the time, the distance in milliseconds and the last 10 bytes.
//!
//! A text begins with a number: 0 a GUID, 16 bytes; 1 two GUIDs joined by a dot, 32 bytes; 2 `hmac-sha256:` and the
//! hash, 32 bytes; 3 absent; 4 as implied by what was read before it; 5 to 15 a well-known host; 16 + n plain UTF-8 of
//! n bytes.

mod bytes;

use jiff::Timestamp;

use self::bytes::{Reader, Writer, is_v7};
use super::{AccountActivity, Register, Stamp};
use crate::account::{CacheKey, ClientId, Environment, HomeAccountId, InvalidText, ObjectId, TenantId, Username};
use crate::event::{AccountDetails, AccountHint, AcquisitionFailure, ErrorCode, FailureReason, Properties};

const VERSION: u8 = 1;
/// 2026-01-01T00:00:00Z: what times are near to where nothing nearer is known.
const EPOCH_MICROS: i64 = 1_767_225_600_000_000;

const HAS_DETAILS: u16 = 1;
const HAS_FAILURE: u16 = 1 << 1;
const HAS_LAST_ACTIVITY: u16 = 1 << 2;
const ACTIVITY_IS_DETAILS: u16 = 1 << 3;
const HAS_LAST_HYDRATION: u16 = 1 << 4;
const HYDRATION_IS_DETAILS: u16 = 1 << 5;
const HAS_REMOVED_AT: u16 = 1 << 6;
const HAS_REFRESH_TOKEN: u16 = 1 << 7;
const HAS_ACCESS_EXPIRY: u16 = 1 << 8;
const HAS_REFRESH_EXPIRY: u16 = 1 << 9;
const HAS_PROPERTIES: u16 = 1 << 10;
const HAS_RETRY_AFTER: u16 = 1 << 11;
const DETAILS_ID_IS_V7: u16 = 1 << 12;
const FAILURE_ID_IS_V7: u16 = 1 << 13;
const IDS_FOLLOW_FROM_KEY: u16 = 1 << 14;
const UNUSED: u16 = 1 << 15;

/// Stored bytes are not a record this version can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Another version wrote it.
    #[error("the record has format {0}; this version reads format {VERSION}")]
    Version(u8),
    /// It is cut off, or no record at all.
    #[error("the record is damaged")]
    Damaged,
}

impl From<InvalidText> for RecordError {
    fn from(_: InvalidText) -> Self {
        Self::Damaged
    }
}

/// Writes `account`. The same account always gives the same bytes.
pub(crate) fn encode(account: &AccountActivity) -> Vec<u8> {
    let implied = Implied::of(account);
    let flags = flags_of(account, &implied);
    let base = base_micros(stamp_of(account.details.as_ref()));
    let mut out = Writer(Vec::with_capacity(128));
    out.byte(VERSION);
    out.bytes(&flags.to_le_bytes());
    out.text(account.cache_key.as_str());
    if let Some(details) = &account.details {
        write_details(&mut out, details, flags, &implied);
    }
    for (time, is_details) in [
        (account.last_activity, flags & ACTIVITY_IS_DETAILS != 0),
        (account.last_hydration, flags & HYDRATION_IS_DETAILS != 0),
        (account.removed_at, false),
    ] {
        if let Some(time) = time.filter(|_| !is_details) {
            out.distance(time.as_microsecond(), base);
        }
    }
    if let Some(failure) = &account.failure {
        write_failure(&mut out, failure, base, &implied);
    }
    out.0
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// [`RecordError`].
pub(crate) fn decode(bytes: &[u8]) -> Result<AccountActivity, RecordError> {
    let mut from = Reader(bytes);
    let version = from.byte()?;
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    let flags = u16::from_le_bytes(from.array()?);
    if flags & UNUSED != 0 {
        return Err(RecordError::Damaged);
    }
    let cache_key = CacheKey::new(from.text()?)?;
    let mut account = AccountActivity::nothing_about(cache_key);
    if flags & HAS_DETAILS != 0 {
        account.details = Some(read_details(&mut from, flags, &account.cache_key)?);
    }
    let stamp = stamp_of(account.details.as_ref());
    account.last_activity = read_time(&mut from, flags, HAS_LAST_ACTIVITY, ACTIVITY_IS_DETAILS, stamp)?;
    account.last_hydration = read_time(&mut from, flags, HAS_LAST_HYDRATION, HYDRATION_IS_DETAILS, stamp)?;
    account.removed_at = read_time(&mut from, flags, HAS_REMOVED_AT, 0, stamp)?;
    if flags & HAS_FAILURE != 0 {
        let implied = Implied::of(&account);
        account.failure = Some(read_failure(&mut from, flags, base_micros(stamp), &implied)?);
    }
    from.end()?;
    Ok(account)
}

fn flags_of(account: &AccountActivity, implied: &Implied) -> u16 {
    let stamp = stamp_of(account.details.as_ref());
    let is_details =
        |time: Option<Timestamp>| time.zip(stamp).is_some_and(|(time, stamp)| time.as_microsecond() == stamp.micros);
    let mut flags = 0;
    let mut set = |flag: u16, on: bool| flags |= if on { flag } else { 0 };
    set(HAS_LAST_ACTIVITY, account.last_activity.is_some());
    set(ACTIVITY_IS_DETAILS, is_details(account.last_activity));
    set(HAS_LAST_HYDRATION, account.last_hydration.is_some());
    set(HYDRATION_IS_DETAILS, is_details(account.last_hydration));
    set(HAS_REMOVED_AT, account.removed_at.is_some());
    if let Some(Register { stamp, value }) = &account.details {
        set(HAS_DETAILS, true);
        set(DETAILS_ID_IS_V7, is_v7(stamp.tie_breaker));
        set(IDS_FOLLOW_FROM_KEY, implied.has_all_ids_of(value, &account.cache_key));
        set(HAS_REFRESH_TOKEN, value.has_refresh_token);
        set(HAS_ACCESS_EXPIRY, value.access_token_expires_on.is_some());
        set(HAS_REFRESH_EXPIRY, value.refresh_token_expires_on.is_some());
        set(HAS_PROPERTIES, !value.properties.is_empty());
    }
    if let Some(Register { stamp, value }) = &account.failure {
        set(HAS_FAILURE, true);
        set(FAILURE_ID_IS_V7, is_v7(stamp.tie_breaker));
        set(HAS_RETRY_AFTER, value.retry_after.is_some());
    }
    flags
}

fn stamp_of(details: Option<&Register<AccountDetails>>) -> Option<Stamp> {
    details.map(|details| details.stamp)
}

fn base_micros(stamp: Option<Stamp>) -> i64 {
    stamp.map_or(EPOCH_MICROS, |stamp| stamp.micros)
}

/// What the parts of a record that come first imply for those that come later.
struct Implied {
    home: Option<HomeAccountId>,
    object: Option<ObjectId>,
    tenant: Option<TenantId>,
    environment: Option<Environment>,
    client: Option<ClientId>,
}

impl Implied {
    fn of(account: &AccountActivity) -> Self {
        match account.details.as_ref().map(|details| &details.value) {
            None => Self::by_home(HomeAccountId::new(account.cache_key.as_str()).ok()),
            Some(details) => Self {
                environment: Some(details.environment.clone()),
                client: Some(details.client_id.clone()),
                ..Self::by_home(Some(details.home_account_id.clone()))
            },
        }
    }

    fn by_home(home: Option<HomeAccountId>) -> Self {
        let (object, tenant) = home.as_ref().and_then(HomeAccountId::halves).unzip();
        Self { home, object, tenant, environment: None, client: None }
    }

    fn has_all_ids_of(&self, details: &AccountDetails, cache_key: &CacheKey) -> bool {
        details.home_account_id.as_str() == cache_key.as_str()
            && details.object_id == self.object
            && details.tenant_id == self.tenant
    }
}

/// Reads or writes one optional identifier that may be implied.
macro_rules! optional {
    ($out:expr, $kind:ident, $value:expr, $implied:expr) => {
        $out.optional($value.as_ref().map($kind::as_str), $implied.as_ref().map($kind::as_str))
    };
    ($from:expr, $kind:ident, $implied:expr) => {
        $from.optional($implied.as_ref().map($kind::as_str))?.map($kind::new).transpose()?
    };
}

fn write_details(out: &mut Writer, details: &Register<AccountDetails>, flags: u16, implied: &Implied) {
    let Register { stamp, value } = details;
    out.stamp(*stamp, EPOCH_MICROS);
    if flags & IDS_FOLLOW_FROM_KEY == 0 {
        out.text(value.home_account_id.as_str());
        optional!(out, ObjectId, value.object_id, implied.object);
        optional!(out, TenantId, value.tenant_id, implied.tenant);
    }
    out.text(value.environment.as_str());
    out.text(value.client_id.as_str());
    out.optional(value.username.as_ref().map(Username::as_str), None);
    for expiry in [value.access_token_expires_on, value.refresh_token_expires_on].into_iter().flatten() {
        out.seconds(expiry, stamp.micros);
    }
    if !value.properties.is_empty() {
        out.text(&value.properties.to_json());
    }
}

fn read_details(
    from: &mut Reader<'_>,
    flags: u16,
    cache_key: &CacheKey,
) -> Result<Register<AccountDetails>, RecordError> {
    let stamp = from.stamp(EPOCH_MICROS, flags & DETAILS_ID_IS_V7 != 0)?;
    let (home_account_id, object_id, tenant_id) = read_ids(from, flags, cache_key)?;
    let environment = Environment::new(from.text()?)?;
    let client_id = ClientId::new(from.text()?)?;
    let username = from.optional(None)?.map(Username::new).transpose()?;
    let access_token_expires_on = read_seconds(from, flags & HAS_ACCESS_EXPIRY != 0, stamp.micros)?;
    let refresh_token_expires_on = read_seconds(from, flags & HAS_REFRESH_EXPIRY != 0, stamp.micros)?;
    let properties = read_properties(from, flags & HAS_PROPERTIES != 0)?;
    let has_refresh_token = flags & HAS_REFRESH_TOKEN != 0;
    let value = AccountDetails {
        home_account_id,
        object_id,
        tenant_id,
        environment,
        client_id,
        username,
        access_token_expires_on,
        refresh_token_expires_on,
        has_refresh_token,
        properties,
    };
    Ok(Register { stamp, value })
}

type AccountIds = (HomeAccountId, Option<ObjectId>, Option<TenantId>);

fn read_ids(from: &mut Reader<'_>, flags: u16, cache_key: &CacheKey) -> Result<AccountIds, RecordError> {
    if flags & IDS_FOLLOW_FROM_KEY != 0 {
        let home = HomeAccountId::new(cache_key.as_str())?;
        let (object, tenant) = home.halves().unzip();
        return Ok((home, object, tenant));
    }
    let home = HomeAccountId::new(from.text()?)?;
    let implied = Implied::by_home(Some(home.clone()));
    Ok((home, optional!(from, ObjectId, implied.object), optional!(from, TenantId, implied.tenant)))
}

fn read_seconds(from: &mut Reader<'_>, is_there: bool, base_micros: i64) -> Result<Option<i64>, RecordError> {
    is_there.then(|| from.seconds(base_micros)).transpose()
}

fn read_properties(from: &mut Reader<'_>, are_there: bool) -> Result<Properties, RecordError> {
    if !are_there {
        return Ok(Properties::default());
    }
    serde_json::from_str(&from.text()?).map_err(|_| RecordError::Damaged)
}

fn read_time(
    from: &mut Reader<'_>,
    flags: u16,
    is_there: u16,
    is_details: u16,
    stamp: Option<Stamp>,
) -> Result<Option<Timestamp>, RecordError> {
    if flags & is_there == 0 {
        return Ok(None);
    }
    let micros = match flags & is_details {
        0 => from.distance(base_micros(stamp))?,
        _ => stamp.ok_or(RecordError::Damaged)?.micros,
    };
    Timestamp::from_microsecond(micros).map(Some).map_err(|_| RecordError::Damaged)
}

fn write_failure(out: &mut Writer, failure: &Register<Box<AcquisitionFailure>>, base: i64, implied: &Implied) {
    let Register { stamp, value } = failure;
    out.stamp(*stamp, base);
    out.byte(reason_to_byte(value.reason));
    out.optional(value.error.as_ref().map(ErrorCode::as_str), None);
    out.optional(value.suberror.as_ref().map(ErrorCode::as_str), None);
    if let Some(retry_after) = value.retry_after {
        out.seconds(retry_after, stamp.micros);
    }
    optional!(out, HomeAccountId, value.account.home_account_id, implied.home);
    optional!(out, ObjectId, value.account.object_id, implied.object);
    optional!(out, TenantId, value.account.tenant_id, implied.tenant);
    optional!(out, Environment, value.account.environment, implied.environment);
    optional!(out, ClientId, value.account.client_id, implied.client);
}

fn read_failure(
    from: &mut Reader<'_>,
    flags: u16,
    base: i64,
    implied: &Implied,
) -> Result<Register<Box<AcquisitionFailure>>, RecordError> {
    let stamp = from.stamp(base, flags & FAILURE_ID_IS_V7 != 0)?;
    let reason = reason_from_byte(from.byte()?)?;
    let error = from.optional(None)?.map(ErrorCode::new).transpose()?;
    let suberror = from.optional(None)?.map(ErrorCode::new).transpose()?;
    let retry_after = read_seconds(from, flags & HAS_RETRY_AFTER != 0, stamp.micros)?;
    let account = AccountHint {
        home_account_id: optional!(from, HomeAccountId, implied.home),
        object_id: optional!(from, ObjectId, implied.object),
        tenant_id: optional!(from, TenantId, implied.tenant),
        environment: optional!(from, Environment, implied.environment),
        client_id: optional!(from, ClientId, implied.client),
    };
    Ok(Register { stamp, value: Box::new(AcquisitionFailure { reason, error, suberror, retry_after, account }) })
}

fn reason_to_byte(reason: FailureReason) -> u8 {
    match reason {
        FailureReason::CacheMissing => 0,
        FailureReason::Undecryptable => 1,
        FailureReason::MalformedCache => 2,
        FailureReason::NoRefreshToken => 3,
        FailureReason::InteractionRequired => 4,
        FailureReason::Revoked => 5,
        FailureReason::Throttled => 6,
        FailureReason::IdentityProviderUnavailable => 7,
        FailureReason::StoreUnavailable => 8,
    }
}

fn reason_from_byte(byte: u8) -> Result<FailureReason, RecordError> {
    Ok(match byte {
        0 => FailureReason::CacheMissing,
        1 => FailureReason::Undecryptable,
        2 => FailureReason::MalformedCache,
        3 => FailureReason::NoRefreshToken,
        4 => FailureReason::InteractionRequired,
        5 => FailureReason::Revoked,
        6 => FailureReason::Throttled,
        7 => FailureReason::IdentityProviderUnavailable,
        8 => FailureReason::StoreUnavailable,
        _ => return Err(RecordError::Damaged),
    })
}

#[cfg(test)]
mod tests;
