//! Envelopes: what opens, and everything that must not.

use proptest::prelude::*;

use super::envelope::is_envelope;
use super::key_ring::{Key, KeyId, KeyRing};
use super::*;
use crate::account::{CacheKey, ClientId};
use crate::token_cache::msal::{BlobError, TokenCacheBlob};

const BLOB: &[u8] = br#"{"RefreshToken":{"k":{"secret":"s3cret"}}}"#;

fn key(id: &str, byte: u8) -> Key {
    Key::new(KeyId::new(id).unwrap(), &[byte; 32])
}

fn cipher(active: Key, inactive: Vec<Key>) -> BlobCipher {
    cipher_for(active, inactive, "tokencache:", "app")
}

fn cipher_for(active: Key, inactive: Vec<Key>, instance: &str, client: &str) -> BlobCipher {
    let scope = EnvelopeScope { instance_name: instance.to_owned(), client_id: ClientId::new(client).unwrap() };
    BlobCipher::new(KeyRing::new(vec![active], inactive).unwrap(), scope)
}

fn ada() -> CacheKey {
    CacheKey::new("ada.tenant").unwrap()
}

fn forged(id: &str) -> UndecryptableBlob {
    UndecryptableBlob::Forged { key_id: KeyId::new(id).unwrap() }
}

#[test]
fn what_was_sealed_opens_in_its_place_and_no_two_envelopes_are_alike() {
    let cipher = cipher(key("one", 1), vec![]);
    let (first, second) = (cipher.seal(&ada(), BLOB).unwrap(), cipher.seal(&ada(), BLOB).unwrap());
    assert_ne!(first, second);
    for envelope in [&first, &second] {
        assert_eq!(cipher.open(&ada(), envelope).unwrap(), BLOB);
        assert!(!String::from_utf8_lossy(envelope).contains("s3cret"));
    }
    assert_eq!(first.len(), 4 + 1 + 1 + 3 + 24 + BLOB.len() + 16);
}

/// Made with libsodium's crypto_aead_xchacha20poly1305_ietf_encrypt: key 01…01, nonce 02…02.
#[test]
fn the_format_is_what_it_is_documented_to_be() {
    let envelope = hex(GOLDEN);
    let cipher = cipher(key("one", 1), vec![]);
    assert_eq!(cipher.open(&ada(), &envelope).unwrap(), b"{}");
    assert!(cipher.is_under_active_key(&envelope));
}

const GOLDEN: &str =
    "8954434501036f6e65020202020202020202020202020202020202020202020202b71b8acd79010f98f2c9eabcb7e12ddd2b03";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn an_envelope_opens_neither_for_another_user_nor_app_nor_instance() {
    let envelope = cipher(key("one", 1), vec![]).seal(&ada(), BLOB).unwrap();
    let bob = CacheKey::new("bob.tenant").unwrap();
    assert_eq!(cipher(key("one", 1), vec![]).open(&bob, &envelope), Err(forged("one")));
    for (instance, client) in [("tokencache:", "other"), ("staging:", "app"), ("tokencache", ":app")] {
        let other = cipher_for(key("one", 1), vec![], instance, client);
        assert_eq!(other.open(&ada(), &envelope), Err(forged("one")), "{instance} {client}");
    }
}

#[test]
fn an_old_key_still_opens_and_an_unknown_one_is_named() {
    let envelope = cipher(key("old", 1), vec![]).seal(&ada(), BLOB).unwrap();
    let rotated = cipher(key("new", 2), vec![key("old", 1)]);
    assert_eq!(rotated.open(&ada(), &envelope).unwrap(), BLOB);
    assert!(!rotated.is_under_active_key(&envelope));
    let error = cipher(key("new", 2), vec![]).open(&ada(), &envelope).unwrap_err();
    assert_eq!(error, UndecryptableBlob::UnknownKey { key_id: KeyId::new("old").unwrap() });
    assert!(error.to_string().contains("the key old"), "{error}");
    let same_name = cipher(key("old", 2), vec![]);
    assert_eq!(same_name.open(&ada(), &envelope), Err(forged("old")), "another key of this name");
    let renamed = cipher(key("new", 1), vec![]);
    let mut moved = envelope.clone();
    moved[6..9].copy_from_slice(b"new");
    assert_eq!(renamed.open(&ada(), &moved), Err(forged("new")), "the header is bound too");
}

#[test]
fn what_is_no_envelope_is_named_and_never_taken_for_plain_text() {
    let cipher = cipher(key("one", 1), vec![]);
    let data_protection = [&[0x09, 0xF0, 0xC9, 0xF0][..], BLOB].concat();
    let mut newer = cipher.seal(&ada(), BLOB).unwrap();
    newer[4] = 2;
    for (stored, expected) in [
        (BLOB, UndecryptableBlob::NotEncrypted),
        (b"", UndecryptableBlob::NotEncrypted),
        (b" {}", UndecryptableBlob::NotEncrypted),
        (&data_protection, UndecryptableBlob::DataProtection),
        (&newer, UndecryptableBlob::UnknownVersion { version: 2 }),
        (b"\x89TCE", UndecryptableBlob::CutOff),
        (b"\x89TCE\x01\x00", UndecryptableBlob::CutOff),
    ] {
        assert_eq!(cipher.open(&ada(), stored), Err(expected));
    }
}

#[test]
fn without_keys_an_envelope_is_undecryptable_and_not_malformed() {
    let envelope = cipher(key("one", 1), vec![]).seal(&ada(), BLOB).unwrap();
    assert_eq!(TokenCacheBlob::parse(&envelope).unwrap_err(), BlobError::Encrypted);
    assert!(std::str::from_utf8(&envelope[..1]).is_err(), "no text begins like it");
}

#[test]
fn a_ring_has_one_active_key_and_no_name_twice() {
    let id = |text| KeyId::new(text).unwrap();
    assert_eq!(KeyRing::new(vec![], vec![key("one", 1)]).unwrap_err(), KeyRingError::NoActiveKey);
    let two = KeyRing::new(vec![key("one", 1), key("two", 2)], vec![]).unwrap_err();
    assert_eq!(two, KeyRingError::TwoActiveKeys(id("one"), id("two")));
    let twice = KeyRing::new(vec![key("one", 1)], vec![key("two", 2), key("two", 3)]).unwrap_err();
    assert_eq!(twice, KeyRingError::TwiceThere(id("two")));
    for wrong in ["", "a b", "a/b", "ü", &"k".repeat(65)] {
        assert_eq!(KeyId::new(wrong), Err(InvalidKeyId), "{wrong}");
    }
}

#[test]
fn a_key_is_never_shown() {
    let shown = format!("{:?}", cipher(key("one", 0x41), vec![key("two", 0x42)]));
    assert!(shown.contains("one") && shown.contains("two") && shown.contains("tokencache:"), "{shown}");
    assert!(!shown.contains("65") && !shown.contains("AAAA") && !shown.contains("BBBB"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_come_back(blob in prop::collection::vec(any::<u8>(), 0..2048)) {
        let cipher = cipher(key("one", 1), vec![]);
        let envelope = cipher.seal(&ada(), &blob).unwrap();
        prop_assert!(is_envelope(&envelope));
        prop_assert_eq!(cipher.open(&ada(), &envelope).unwrap(), blob);
    }

    #[test]
    fn a_bit_flipped_anywhere_is_an_error(at in any::<prop::sample::Index>(), bit in 0..8) {
        let cipher = cipher(key("one", 1), vec![key("two", 2)]);
        let mut envelope = cipher.seal(&ada(), BLOB).unwrap();
        let at = at.index(envelope.len());
        envelope[at] ^= 1_u8 << bit;
        prop_assert!(cipher.open(&ada(), &envelope).is_err());
    }

    #[test]
    fn a_cut_anywhere_is_an_error(at in any::<prop::sample::Index>()) {
        let cipher = cipher(key("one", 1), vec![]);
        let envelope = cipher.seal(&ada(), BLOB).unwrap();
        prop_assert!(cipher.open(&ada(), &envelope[..at.index(envelope.len())]).is_err());
    }

    #[test]
    fn foreign_bytes_are_an_error_and_no_panic(stored in prop::collection::vec(any::<u8>(), 0..200)) {
        let cipher = cipher(key("one", 1), vec![]);
        prop_assert!(cipher.open(&ada(), &stored).is_err());
        prop_assert!(cipher.open(&ada(), &[b"\x89TCE\x01", &stored[..]].concat()).is_err());
    }
}
