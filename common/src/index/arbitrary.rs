//! Events and accounts of every kind, for property tests: few keys, colliding times and ids, odd texts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

use super::AccountActivity;
use crate::account::CacheKey;
use crate::event::{
    AccountDetails, AccountHint, AcquisitionFailure, Activity, ActivityEvent, EventSource, FailureReason, Properties,
};

const GUIDS: [&str; 3] = [
    "0b8b3c3e-9d8e-4c55-8f0e-3f1a2b3c4d5e",
    "9188040d-6c67-4c5b-b112-36a304b66dad",
    "0B8B3C3E-9D8E-4C55-8F0E-3F1A2B3C4D5E",
];

/// An identifier: a GUID, in the usual writing or not, or any text free of control characters.
fn id() -> BoxedStrategy<String> {
    let guid = prop::sample::select(&GUIDS[..]).prop_map(str::to_owned);
    prop_oneof![3 => guid, 1 => "\\PC{1,30}", 1 => "[a-z.]{1,12}"].boxed()
}

fn home() -> BoxedStrategy<String> {
    prop_oneof![3 => (id(), id()).prop_map(|(uid, utid)| format!("{uid}.{utid}")), 1 => id()].boxed()
}

fn username() -> BoxedStrategy<String> {
    prop_oneof![
        Just("Alice@Contoso.com".to_owned()),
        "\\PC{1,40}",
        Just(format!("hmac-sha256:{}", "0123456789abcdef".repeat(4))),
        Just(format!("hmac-sha256:{}", "0123456789ABCDEF".repeat(4))),
    ]
    .boxed()
}

fn environment() -> BoxedStrategy<String> {
    prop_oneof![Just("login.microsoftonline.com".to_owned()), Just("sts.windows.net".to_owned()), "[a-z.]{1,20}"]
        .boxed()
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: String) -> T {
    text.parse().unwrap()
}

fn properties() -> BoxedStrategy<Properties> {
    let value = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has finite numbers", |n| n.is_finite()).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(Value::Null)
    ];
    prop_oneof![3 => Just(BTreeMap::new()), 1 => btree_map("\\PC{1,8}", value, 1..3)]
        .prop_map(|entries| Properties::new(entries).unwrap())
        .boxed()
}

/// Any details.
pub(crate) fn details() -> BoxedStrategy<AccountDetails> {
    let ids = (home(), option::of(id()), option::of(id()), any::<bool>());
    let rest = (environment(), id(), option::of(username()), option::of(any::<i64>()), option::of(0..1_i64 << 33));
    (ids, rest, any::<bool>(), properties())
        .prop_map(|((home, object, tenant, halves), (env, client, user, access, refresh), has, properties)| {
            let mut details = AccountDetails {
                home_account_id: parsed(home),
                object_id: object.map(parsed),
                tenant_id: tenant.map(parsed),
                environment: parsed(env),
                client_id: parsed(client),
                username: user.map(parsed),
                access_token_expires_on: access,
                refresh_token_expires_on: refresh,
                has_refresh_token: has,
                properties,
            };
            if halves {
                let (object, tenant) = details.home_account_id.halves().unzip();
                (details.object_id, details.tenant_id) = (object, tenant);
            }
            details
        })
        .boxed()
}

fn failure() -> BoxedStrategy<AcquisitionFailure> {
    let reason = prop::sample::select(
        &[
            FailureReason::CacheMissing,
            FailureReason::Undecryptable,
            FailureReason::MalformedCache,
            FailureReason::NoRefreshToken,
            FailureReason::InteractionRequired,
            FailureReason::Revoked,
            FailureReason::Throttled,
            FailureReason::IdentityProviderUnavailable,
            FailureReason::StoreUnavailable,
        ][..],
    );
    let account = prop_oneof![Just(AccountHint::default()), details().prop_map(|details| AccountHint::from(&details))];
    (reason, option::of("[a-z_]{1,20}"), option::of("[a-z_]{1,20}"), option::of(any::<i64>()), account)
        .prop_map(|(reason, error, suberror, retry_after, account)| AcquisitionFailure {
            reason,
            error: error.map(parsed),
            suberror: suberror.map(parsed),
            retry_after,
            account,
        })
        .boxed()
}

fn activity() -> BoxedStrategy<Activity> {
    prop_oneof![
        3 => details().prop_map(Activity::UserActivity),
        2 => details().prop_map(Activity::Hydrated),
        2 => failure().prop_map(Activity::AcquisitionFailed),
        1 => Just(Activity::Removed(AccountHint::default())),
    ]
    .boxed()
}

fn event_id() -> BoxedStrategy<String> {
    prop_oneof![
        (0..4_u8).prop_map(|n| format!("0193a5e0-0000-7000-8000-00000000000{n}")),
        any::<u128>().prop_map(|n| uuid::Uuid::from_u128(n).to_string()),
        "[a-z]{1,3}",
    ]
    .boxed()
}

fn time() -> BoxedStrategy<Timestamp> {
    let micros = prop_oneof![
        8 => 1_790_000_000_000_000..1_790_000_000_000_006_i64,
        1 => -1_000_000..1_000_000_000_000_000_i64,
        1 => Timestamp::MIN.as_microsecond()..Timestamp::MAX.as_microsecond(),
    ];
    micros.prop_map(|micros| Timestamp::from_microsecond(micros).unwrap()).boxed()
}

/// Any event about `subject`; times and ids collide often.
pub(crate) fn event_about(subject: CacheKey) -> BoxedStrategy<ActivityEvent> {
    (event_id(), time(), activity())
        .prop_map(move |(id, time, activity)| ActivityEvent {
            id: parsed(id),
            source: EventSource::new("/apps/test").unwrap(),
            subject: subject.clone(),
            time,
            traceparent: None,
            activity,
        })
        .boxed()
}

/// Any account: the fold of up to six events about one key.
pub(crate) fn account() -> BoxedStrategy<AccountActivity> {
    home()
        .prop_map(parsed::<CacheKey>)
        .prop_flat_map(|key| (Just(key.clone()), vec(event_about(key), 0..6)))
        .prop_map(|(key, events)| {
            let mut account = AccountActivity::nothing_about(key);
            events.iter().for_each(|event| account.merge(&AccountActivity::of(event)));
            account
        })
        .boxed()
}
