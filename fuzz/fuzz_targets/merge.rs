//! Any three blobs merge into one that can be read, and a merge with oneself adds nothing.
//!
//! The input is base, ours and theirs, separated by bytes 0xFF, which no UTF-8 text has.
//!
//! `cargo +nightly fuzz run merge`
#![no_main]

use common::token_cache::msal::{Limits, TokenCacheBlob, merge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == 0xFF).map(TokenCacheBlob::parse);
    let (Some(Ok(base)), Some(Ok(ours)), Some(Ok(theirs))) = (parts.next(), parts.next(), parts.next()) else { return };
    let merged = merge(&base, &ours, &theirs);
    let limits = Limits { max_bytes: usize::MAX, ..Limits::default() };
    let again = TokenCacheBlob::parse_within(&merged.blob.serialize(), limits);
    assert!(again.is_ok_and(|again| again.says_the_same_as(&merged.blob)));
    assert!(merged.is_write_needed || merged.blob.serialize() == theirs.serialize());
    assert!(!merge(&base, &merged.blob, &merged.blob).is_write_needed);
    assert!(!merge(&theirs, &theirs, &ours).is_write_needed);
});
