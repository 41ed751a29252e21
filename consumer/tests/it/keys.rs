//! `consumer keys`: new keys, and the move of a whole cache to them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use common::account::{CacheKey, ClientId};
use common::sqlite::Database;
use common::token_cache::encryption::{BlobCipher, EncryptedTokenCache, EnvelopeScope, KeyRing, add_fresh_key};
use common::token_cache::{
    CacheWrite, ExpiryChange, Precondition, SqliteTokenCache, SqliteTokenCacheOptions, TokenCacheScan, TokenCacheStore,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::program::{Servers, text};

const BLOB: &[u8] = br#"{"RefreshToken":{"k":{"secret":"s3cret"}}}"#;

/// A cache in SQLite, with an old key file and one where a new key is active and the old one still opens.
struct Rig {
    folder: TempDir,
    raw: SqliteTokenCache,
}

impl Rig {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("cache.sqlite").display()).parse().unwrap();
        let database = Database::open(&url).await.unwrap();
        let raw = SqliteTokenCache::open(database, SqliteTokenCacheOptions::default()).await.unwrap();
        let rig = Self { folder, raw };
        add_fresh_key(&rig.file("old"), "old".parse().unwrap()).unwrap();
        add_fresh_key(&rig.file("new"), "new".parse().unwrap()).unwrap();
        let old = std::fs::read_to_string(rig.file("old")).unwrap();
        std::fs::write(rig.file("retired"), old.replace("active", "inactive")).unwrap();
        rig
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn under(&self, name: &str) -> EncryptedTokenCache {
        let scope = EnvelopeScope { instance_name: "tokencache:".to_owned(), client_id: ClientId::new("app").unwrap() };
        let cipher = BlobCipher::new(KeyRing::from_files(&[self.file(name)]).unwrap(), scope);
        EncryptedTokenCache::new(Arc::new(self.raw.clone()), cipher, "test")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Servers::default().command(arguments);
        command.env("TOKEN_CACHE_URL", format!("sqlite://{}", self.file("cache.sqlite").display()));
        let files = format!("{},{}", self.file("new").display(), self.file("retired").display());
        command.env("TOKEN_CACHE_ENCRYPTION_KEYS", files).env("TOKEN_CACHE_ENCRYPTION_CLIENT_ID", "app");
        command
    }

    /// Runs `consumer keys rewrap --json` with further arguments; its exit code and report.
    async fn rewrap(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let arguments = [&["keys", "rewrap", "--json"], arguments].concat();
        let output = self.command(&arguments).output().await.unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(!said.contains("s3cret") && !said.contains(&key_in(&self.file("new"))), "{said}");
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    }
}

fn key_in(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap().split_whitespace().last().unwrap().to_owned()
}

async fn put(store: &dyn TokenCacheStore, key: &str, blob: &[u8]) {
    let key = CacheKey::new(key).unwrap();
    let (expiry, precondition) = (ExpiryChange::default(), Precondition::None);
    store.write(CacheWrite { key: &key, blob, expiry, precondition, event: None, fence: None }).await.unwrap();
}

fn counts<const N: usize>(report: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| report[name].as_u64().unwrap())
}

#[tokio::test]
async fn a_cache_is_moved_to_the_active_key_and_what_cannot_be_is_named() {
    let rig = Rig::start().await;
    for number in 0..20 {
        put(&rig.under("old"), &format!("user-{number}"), BLOB).await;
    }
    put(&rig.under("new"), "early", BLOB).await;
    put(&rig.raw, "plain", BLOB).await;
    put(&rig.raw, "foreign", b"\x09\xF0\xC9\xF0").await;

    let names = ["rewrapped", "encrypted", "already_active", "plain_text", "undecryptable"];
    let (code, report) = rig.rewrap(&["--dry-run"]).await;
    assert_eq!((code, counts(&report, names)), (Some(3), [20, 0, 1, 1, 1]));
    let (code, report) = rig.rewrap(&[]).await;
    assert_eq!((code, counts(&report, names)), (Some(3), [20, 0, 1, 1, 1]), "the dry run wrote nothing");
    let problems: Vec<&str> =
        report["problems"].as_array().unwrap().iter().map(|problem| problem["cache_key"].as_str().unwrap()).collect();
    assert!(problems.len() == 2 && problems.contains(&"plain") && problems.contains(&"foreign"), "{problems:?}");

    rig.raw.remove(&CacheKey::new("foreign").unwrap(), None).await.unwrap();
    let (code, report) = rig.rewrap(&["--from-plaintext"]).await;
    assert_eq!((code, counts(&report, names)), (Some(0), [0, 1, 21, 0, 0]));
    let (code, report) = rig.rewrap(&["--dry-run"]).await;
    assert_eq!((code, counts(&report, names)), (Some(0), [0, 0, 22, 0, 0]), "the old key may go");
    for key in ["user-0", "early", "plain"] {
        let blob = rig.under("new").read(&CacheKey::new(key).unwrap()).await.unwrap();
        assert_eq!(blob.as_deref(), Some(BLOB), "{key}");
    }
    let table = rig.command(&["keys", "rewrap"]).output().await.unwrap();
    assert!(text(&table.stdout).contains("already active"), "{}", text(&table.stdout));
}

#[tokio::test]
async fn a_rewrap_that_was_killed_goes_on_where_it_was() {
    let rig = Rig::start().await;
    let cache = rig.under("old");
    for number in 0..150 {
        put(&cache, &format!("user-{number}"), BLOB).await;
    }
    let mut child = rig.command(&["keys", "rewrap"]).spawn().unwrap();
    testkit::wait_until(Duration::from_secs(30), async || is_any_under_new(&rig.raw).await).await;
    child.kill().await.unwrap();
    let (code, report) = rig.rewrap(&[]).await;
    let [rewrapped, already] = counts(&report, ["rewrapped", "already_active"]);
    assert_eq!((code, rewrapped + already), (Some(0), 150));
    assert!(already > 0);
    for number in 0..150 {
        let key = CacheKey::new(format!("user-{number}")).unwrap();
        assert_eq!(rig.under("new").read(&key).await.unwrap().as_deref(), Some(BLOB));
    }
}

async fn is_any_under_new(raw: &SqliteTokenCache) -> bool {
    for key in raw.scan(None, 1000).await.unwrap().keys {
        if raw.peek(&key).await.unwrap().unwrap().starts_with(b"\x89TCE\x01\x03new") {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_new_key_is_active_in_a_new_file_and_inactive_among_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let new = async |more: &[&str]| {
        let arguments = [&["keys", "new"], more].concat();
        Servers::default().command(&arguments).output().await.unwrap()
    };
    let path = file.to_str().unwrap();
    for id in ["first", "second"] {
        let output = new(&["--file", path, "--id", id]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(!text(&output.stdout).contains(&key_in(&file)));
    }
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let ring = KeyRing::from_files(&[&file]).unwrap();
    assert_eq!((ring.active_id().as_str(), ring.inactive_ids().count()), ("first", 1));
    let again = new(&["--file", path, "--id", "first"]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("the key first is there twice"), "{}", text(&again.stderr));

    let printed = folder.path().join("printed");
    std::fs::write(&printed, new(&[]).await.stdout).unwrap();
    KeyRing::from_files(&[printed]).unwrap();
}

#[tokio::test]
async fn settings_that_do_not_fit_are_wrong_usage() {
    let rig = Rig::start().await;
    let complaint = |output: Output| {
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let rewrap = || rig.command(&["keys", "rewrap"]);
    let said = complaint(rewrap().env_remove("TOKEN_CACHE_ENCRYPTION_KEYS").output().await.unwrap());
    assert!(said.contains("TOKEN_CACHE_ENCRYPTION_KEYS"), "{said}");
    let said = complaint(rewrap().env_remove("TOKEN_CACHE_ENCRYPTION_CLIENT_ID").output().await.unwrap());
    assert!(said.contains("TOKEN_CACHE_ENCRYPTION_CLIENT_ID"), "{said}");
    let said = complaint(rewrap().env("TOKEN_CACHE_ENCRYPTION_KEYS", "/nowhere/keys").output().await.unwrap());
    assert!(said.contains("/nowhere/keys"), "{said}");
}
