#![allow(clippy::unwrap_used, reason = "a test may panic")]

use jiff::SignedDuration;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::event::{Activity, ActivityEvent, EventSource};
use crate::index::arbitrary;

const KEY: &str = "0b8b3c3e-9d8e-4c55-8f0e-3f1a2b3c4d5e.72f988bf-86f1-41af-91ab-2d7cd011db47";

/// What an Entra user's sign-in leaves: a key of 73 characters, a username of 25.
fn typical() -> AccountActivity {
    let time: Timestamp = "2026-11-22T10:00:00.123456Z".parse().unwrap();
    let home_account_id = HomeAccountId::new(KEY).unwrap();
    let (object_id, tenant_id) = home_account_id.halves().unzip();
    let details = AccountDetails {
        home_account_id,
        object_id,
        tenant_id,
        environment: Environment::new("login.microsoftonline.com").unwrap(),
        client_id: ClientId::new("1b730954-1685-4b74-9bfd-dac224a7b894").unwrap(),
        username: Some(Username::new("firstname.last@contoso.eu").unwrap()),
        access_token_expires_on: Some(time.as_second() + 4_100),
        refresh_token_expires_on: Some(time.as_second() + 90 * 86_400),
        has_refresh_token: true,
        properties: Properties::default(),
    };
    AccountActivity::of(&ActivityEvent {
        id: "01a202b2-c578-7cc1-9e57-0a3c5c2a1b7f".parse().unwrap(),
        source: EventSource::new("/apps/portal").unwrap(),
        subject: CacheKey::new(KEY).unwrap(),
        time,
        traceparent: None,
        activity: Activity::UserActivity(details),
    })
}

/// An account with every part there, and none that is implied by another.
fn with_everything() -> AccountActivity {
    let mut account = typical();
    let details = account.details.as_mut().unwrap();
    details.stamp.tie_breaker = 7;
    details.value.home_account_id = HomeAccountId::new("subject").unwrap();
    details.value.username = Some(Username::new(format!("hmac-sha256:{}", "a1".repeat(32))).unwrap());
    details.value.properties = serde_json::from_str(r#"{"department":"R&D","level":0.1}"#).unwrap();
    let hint =
        AccountHint { client_id: Some(ClientId::new("other-app").unwrap()), ..AccountHint::from(&details.value) };
    let stamp = Stamp { micros: details.stamp.micros + 5, tie_breaker: 9 };
    let (error, suberror) =
        (Some(ErrorCode::new("invalid_grant").unwrap()), Some(ErrorCode::new("bad_token").unwrap()));
    let retry_after = Some(details.stamp.micros / 1_000_000 + 60);
    let value = AcquisitionFailure { reason: FailureReason::Revoked, error, suberror, retry_after, account: hint };
    account.failure = Some(Register { stamp, value: Box::new(value) });
    account.last_hydration = "2026-11-22T10:00:01Z".parse().ok();
    account.removed_at = "1969-12-31T23:59:59.5Z".parse().ok();
    account
}

#[test]
fn a_typical_account_is_small() {
    let signed_in = typical();
    let mut hydrated = typical();
    hydrated.last_hydration = Some(signed_in.last_activity.unwrap() + SignedDuration::from_hours(30));
    let (signed_in, hydrated) = (encode(&signed_in).len(), encode(&hydrated).len());
    // A string of Redis up to 108 bytes fits the allocator's class of 112, and up to 124 that of 128.
    assert_eq!((signed_in, hydrated), (104, 110));
}

#[test]
fn the_format_of_version_1_stays_as_it_is() {
    let hex = |account: &AccountActivity| encode(account).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut golden = include_str!("version-1.hex").lines();
    assert_eq!(hex(&typical()), golden.next().unwrap());
    assert_eq!(hex(&with_everything()), golden.next().unwrap());
}

#[test]
fn another_version_is_told_apart_from_damage() {
    let mut bytes = encode(&typical());
    bytes[0] = 9;
    assert_eq!(decode(&bytes), Err(RecordError::Version(9)));
    assert_eq!(decode(&[]), Err(RecordError::Damaged));
}

#[test]
fn a_record_that_is_cut_off_or_too_long_is_damaged() {
    let bytes = encode(&typical());
    for length in 1..bytes.len() {
        assert_eq!(decode(&bytes[..length]), Err(RecordError::Damaged), "cut to {length}");
    }
    assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(RecordError::Damaged));
}

#[test]
fn a_tie_breaker_that_only_looks_like_a_time_is_kept() {
    let mut account = typical();
    for id in [u128::MAX, 0, Uuid::from_u128(u128::MAX >> 1).as_u128(), 0xffff_ffff_ffff_7fff_bfff_ffff_ffff_ffff] {
        account.details.as_mut().unwrap().stamp.tie_breaker = id;
        assert_eq!(decode(&encode(&account)).unwrap(), account);
    }
}

#[test]
fn an_account_with_everything_is_read_back_as_it_was() {
    assert_eq!(decode(&encode(&with_everything())).unwrap(), with_everything());
}

#[test]
fn the_longest_cache_key_is_kept() {
    let account = AccountActivity::nothing_about(CacheKey::new("k".repeat(CacheKey::MAX_BYTES)).unwrap());
    assert_eq!(decode(&encode(&account)).unwrap(), account);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_account_is_read_back_as_it_was(account in arbitrary::account()) {
        let bytes = encode(&account);
        prop_assert_eq!(decode(&bytes).unwrap(), account);
    }

    #[test]
    fn any_bytes_give_an_account_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&[&[VERSION][..], &bytes].concat());
    }

    #[test]
    fn a_damaged_record_gives_an_account_or_an_error(
        account in arbitrary::account(), place in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = encode(&account);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let _ = decode(&bytes);
    }
}
