//! Golden blobs, token responses and a look at the raw JSON.

use std::path::Path;
use std::time::Duration;

use common::token_cache::msal::{AccessTokenQuery, CredentialQuery, TokenCacheBlob, TokenResponse};
use serde_json::Value;

pub(crate) const UID: &str = "00000000-0000-0000-0000-00000000000a";
pub(crate) const TENANT: &str = "00000000-0000-0000-0000-0000000000ff";
pub(crate) const CLIENT: &str = "00000000-0000-0000-0000-0000000000c1";
pub(crate) const HOME: &str = "00000000-0000-0000-0000-00000000000a.00000000-0000-0000-0000-0000000000ff";
pub(crate) const HASH: &str = "vcXhzzG1weogS40AqQ0IOx_2JDutorh5V6WFSORMGWY";
pub(crate) const PUBLIC: &str = "login.microsoftonline.com";

/// When the golden blobs were last written, with a margin; their tokens live for an hour.
pub(crate) const WRITTEN: i64 = 1_795_400_100;

/// Blobs of a signed-in user, each as one library writes it.
pub(crate) const SIGNED_IN: [&str; 6] =
    ["python-1.39.json", "node-7.json", "node-2.json", "go-1.9.json", "dotnet-4.87.json", "java-1.json"];

pub(crate) fn golden_bytes(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/msal").join(name)).unwrap()
}

pub(crate) fn all_goldens() -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/msal")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut goldens: Vec<_> =
        names.filter(|name| name.ends_with(".json")).map(|name| (name.clone(), golden_bytes(&name))).collect();
    goldens.sort();
    goldens
}

pub(crate) fn golden(name: &str) -> TokenCacheBlob {
    TokenCacheBlob::parse(&golden_bytes(name)).unwrap()
}

pub(crate) fn blob(text: &str) -> TokenCacheBlob {
    TokenCacheBlob::parse(text.as_bytes()).unwrap()
}

pub(crate) fn json(blob: &TokenCacheBlob) -> Value {
    match &*blob.serialize() {
        b"" => Value::Object(serde_json::Map::new()),
        bytes => serde_json::from_slice(bytes).unwrap(),
    }
}

/// The entities of a section with their keys.
pub(crate) fn section(blob: &TokenCacheBlob, name: &str) -> Vec<(String, Value)> {
    match json(blob).get(name) {
        Some(Value::Object(entries)) => entries.iter().map(|(key, entity)| (key.clone(), entity.clone())).collect(),
        _ => Vec::new(),
    }
}

/// The answer to a refresh of the golden user, the `n`th.
pub(crate) fn refreshed(n: u32) -> TokenResponse {
    TokenResponse {
        home_account_id: HOME.into(),
        environment: PUBLIC.into(),
        client_id: CLIENT.into(),
        realm: TENANT.into(),
        scopes: vec!["User.Read".into(), "Mail.Read".into(), "openid".into(), "profile".into()],
        access_token: format!("fake-new-access-token-{n}").into(),
        expires_in: Duration::from_secs(3600),
        ext_expires_in: None,
        refresh_in: None,
        refresh_token: Some(format!("fake-new-refresh-token-{n}").into()),
        family_id: None,
        id_token: Some(format!("fake.new-id-token.{n}").into()),
        client_info: None,
        username: None,
        name: None,
        local_account_id: None,
        authority_type: None,
        assertion_hash: None,
    }
}

pub(crate) fn access<'a>(scopes: &'a [&'a str]) -> AccessTokenQuery<'a> {
    AccessTokenQuery {
        home_account_id: HOME,
        client_id: CLIENT,
        environment: PUBLIC,
        realm: TENANT,
        scopes,
        assertion_hash: None,
        min_remaining: Duration::from_secs(300),
    }
}

pub(crate) const OWNER: CredentialQuery<'static> =
    CredentialQuery { home_account_id: HOME, client_id: CLIENT, environment: PUBLIC, assertion_hash: None };

pub(crate) fn access_secret(blob: &TokenCacheBlob, scopes: &[&str], now: i64) -> Option<String> {
    blob.find_access_token(&access(scopes), now).map(|found| found.token.secret.expose_secret().to_owned())
}

pub(crate) fn refresh_secret(blob: &TokenCacheBlob) -> Option<String> {
    blob.find_refresh_token(&OWNER).map(|token| token.secret.expose_secret().to_owned())
}
