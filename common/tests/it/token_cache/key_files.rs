//! Key files: what makes a ring, and how a wrong one is told of without repeating it.

use std::path::{Path, PathBuf};

use common::token_cache::encryption::{KeyFileError, KeyId, KeyRing, KeyText};
use tempfile::TempDir;

const ONE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const TWO: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn error(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = KeyRing::from_files(&[file(&folder, "keys", text)]).unwrap_err();
    format!("{error} {error:?}")
}

#[test]
fn a_ring_is_all_keys_of_all_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let first = file(&folder, "a", &format!("# the team's\n\n  active  one {ONE}\r\n"));
    let second = file(&folder, "b", &format!("inactive two {TWO}"));
    let ring = KeyRing::from_files(&[first, second]).unwrap();
    assert_eq!(ring.active_id().as_str(), "one");
    assert_eq!(ring.inactive_ids().map(KeyId::as_str).collect::<Vec<_>>(), ["two"]);
}

#[test]
fn a_wrong_line_is_told_by_its_number_and_never_repeated() {
    let good = format!("active one {ONE}\n");
    for (wrong, what) in [
        (format!("{good}passive two {TWO}"), "neither `active` nor `inactive`"),
        (format!("{good}inactive {TWO}"), "three words"),
        (format!("{good}inactive two {TWO} extra"), "three words"),
        (format!("{good}inactive t/o {TWO}"), "key id"),
        (format!("{good}inactive two {}", &TWO[1..]), "32 bytes in Base64"),
        (format!("{good}inactive two {TWO}AAAA"), "32 bytes in Base64"),
        (format!("{good}inactive two {}", "AgIC".repeat(500)), "32 bytes in Base64"),
        (format!("{good}inactive two !{}", &TWO[1..]), "32 bytes in Base64"),
    ] {
        let said = error(&wrong);
        assert!(said.contains("line 2") && said.contains(what), "{said}");
        assert!(!said.contains("AgIC") && !said.contains("AQEB"), "{said}");
    }
    for (wrong, what) in [
        (String::new(), "no key is active"),
        (format!("inactive one {ONE}"), "no key is active"),
        (format!("{good}active two {TWO}"), "one and two are both active"),
        (format!("{good}inactive one {TWO}"), "the key one is there twice"),
    ] {
        assert!(error(&wrong).contains(what), "{}", error(&wrong));
    }
}

#[test]
fn a_file_that_is_missing_or_no_key_file_is_named() {
    let missing = KeyRing::from_files(&[Path::new("/nowhere/keys")]).unwrap_err();
    assert!(matches!(&missing, KeyFileError::Unreadable { .. }) && missing.to_string().contains("/nowhere/keys"));
    let folder = tempfile::tempdir().unwrap();
    let large = KeyRing::from_files(&[file(&folder, "large", &"#".repeat((1 << 20) + 1))]).unwrap_err();
    assert!(matches!(large, KeyFileError::TooLarge { .. }), "{large}");
    let binary = folder.path().join("binary");
    std::fs::write(&binary, [0xff; 32]).unwrap();
    assert!(matches!(KeyRing::from_files(&[binary]).unwrap_err(), KeyFileError::Unreadable { .. }));
}

#[test]
fn a_fresh_key_is_a_line_of_a_key_file_and_unlike_any_other() {
    let fresh = || KeyText::fresh(KeyId::new("fresh").unwrap(), true).unwrap();
    let (one, other) = (fresh(), fresh());
    assert_ne!(one.expose(), other.expose());
    let folder = tempfile::tempdir().unwrap();
    let ring = KeyRing::from_files(&[file(&folder, "keys", one.expose())]).unwrap();
    assert_eq!(ring.active_id(), &one.id);
    let key = one.expose().split(' ').next_back().unwrap();
    assert!(!format!("{one:?}").contains(key) && !format!("{ring:?}").contains(key));
}
