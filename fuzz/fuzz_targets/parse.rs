//! Any bytes are refused or read; what is read is written back as it was, and can be queried and changed.
//!
//! `cargo +nightly fuzz run parse fuzz/corpus/parse common/tests/golden/msal`
#![no_main]

use std::time::Duration;

use common::token_cache::msal::{AccessTokenQuery, CredentialQuery, TokenCacheBlob};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(blob) = TokenCacheBlob::parse(bytes) else { return };
    assert_eq!(&*blob.serialize(), bytes);
    assert!(blob.says_the_same_as(&blob));
    for oddity in blob.oddities() {
        assert!(!oddity.to_string().is_empty());
    }
    let users: Vec<&str> = blob.accounts().map(|account| account.home_account_id).collect();
    let summary = blob.summary(users.first().copied().unwrap_or("key"), 0);
    for token in blob.access_tokens() {
        let scopes: Vec<&str> = token.scopes().collect();
        let query = AccessTokenQuery {
            home_account_id: token.home_account_id,
            client_id: token.client_id,
            environment: token.environment,
            realm: token.realm,
            scopes: &scopes,
            assertion_hash: token.assertion_hash,
            min_remaining: Duration::ZERO,
        };
        let is_usable = token.is_bearer() && token.expires_on > 0 && token.cached_at.is_none_or(|cached| cached <= 0);
        assert!(!is_usable || blob.find_access_token(&query, 0).is_some());
    }
    for token in blob.refresh_tokens() {
        let query = CredentialQuery {
            home_account_id: token.home_account_id,
            client_id: token.client_id,
            environment: token.environment,
            assertion_hash: token.assertion_hash,
        };
        assert!(blob.find_refresh_token(&query).is_some());
    }
    if let Some(user) = summary.home_account_id {
        let mut removed = blob.clone();
        assert!(removed.remove_account(user) > 0);
        assert!(removed.accounts().all(|account| account.home_account_id != user));
    }
});
