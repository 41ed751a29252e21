//! What each MSAL library wrote is understood, and left as it was.

use common::token_cache::msal::{AccessTokenQuery, CredentialQuery, TokenCacheBlob};

use crate::support::*;

#[test]
fn every_golden_blob_is_kept_to_the_byte_and_holds_nothing_odd() {
    let goldens = all_goldens();
    assert!(goldens.len() >= 14, "{}", goldens.len());
    for (name, bytes) in goldens {
        let blob = TokenCacheBlob::parse(&bytes).unwrap();
        assert_eq!(&*blob.serialize(), bytes, "{name}");
        assert_eq!(blob.oddities().collect::<Vec<_>>(), [], "{name}");
    }
}

#[test]
fn every_library_says_who_signed_in() {
    for name in SIGNED_IN {
        let blob = golden(name);
        let summary = blob.summary(HOME, WRITTEN);
        assert_eq!(summary.home_account_id, Some(HOME), "{name}");
        assert_eq!((summary.object_id, summary.tenant_id), (Some(UID), Some(TENANT)), "{name}");
        assert_eq!((summary.client_id, summary.realm), (Some(CLIENT), Some(TENANT)), "{name}");
        assert_eq!(summary.username, Some("jörg@contoso.example"), "{name}");
        assert!(summary.has_refresh_token && summary.has_valid_access_token && !summary.is_app_only, "{name}");
        assert!((1_795_403_600..=1_795_403_601).contains(&summary.access_token_expires_on.unwrap()), "{name}");
        assert_eq!(summary.assertion_hash, None, "{name}");
    }
}

#[test]
fn every_librarys_tokens_are_found_under_the_other_cloud_name() {
    for name in SIGNED_IN {
        let blob = golden(name);
        for environment in ["login.microsoftonline.com", "login.windows.net", "sts.windows.net"] {
            let query = AccessTokenQuery { environment, ..access(&["mail.read", "OpenId", "offline_access"]) };
            let found = blob.find_access_token(&query, WRITTEN).unwrap();
            assert_eq!(found.token.secret.expose_secret(), "fake-access-token-1+/=", "{name}");
            assert!(!found.is_refresh_due, "{name}");
            let query = CredentialQuery { environment, ..OWNER };
            let expected = if name.starts_with("python") || name.starts_with("node") { 2 } else { 1 };
            let found = blob.find_refresh_token(&query).unwrap();
            assert_eq!(found.secret.expose_secret(), format!("fake-refresh-token-{expected}"), "{name}");
        }
        assert_eq!(access_secret(&blob, &["api://FAKE-api/tasks.read"], WRITTEN).unwrap(), "fake-access-token-2+/=");
        assert_eq!(access_secret(&blob, &["Mail.Send"], WRITTEN), None);
        assert!(blob.find_access_token(&access(&["Mail.Read"]), WRITTEN + 1_800).unwrap().is_refresh_due, "{name}");
        assert_eq!(access_secret(&blob, &["Mail.Read"], 1_795_403_600 - 298), None, "{name}");
    }
}

#[test]
fn an_on_behalf_of_blob_is_found_by_its_assertion_only() {
    for (name, hash) in [
        ("dotnet-4.87-obo.json", HASH.to_owned()),
        ("go-1.9-obo.json", format!("{HASH}=")),
        ("node-7-obo.json", HASH.to_owned()),
        ("node-2-obo.json", HASH.to_owned()),
    ] {
        let blob = golden(name);
        let session = Some(hash.as_str());
        assert_eq!(blob.summary(&hash, WRITTEN).assertion_hash, session, "{name}");
        let query = access(&["api://fake-api/Tasks.Read"]);
        assert!(blob.find_access_token(&query, WRITTEN).is_none(), "{name}");
        assert!(blob.find_access_token(&AccessTokenQuery { assertion_hash: session, ..query }, WRITTEN).is_some());
        assert!(blob.find_refresh_token(&CredentialQuery { assertion_hash: session, ..OWNER }).is_some(), "{name}");
    }
    assert!(golden("dotnet-4.87-obo.json").find_refresh_token(&OWNER).is_none());
}

#[test]
fn a_familys_refresh_token_serves_every_client_of_the_family() {
    for name in ["go-1.9-family.json", "node-7-family.json", "node-2-family.json", "python-1.39-obo-family.json"] {
        let mut blob = golden(name);
        assert_eq!(blob.find_refresh_token(&OWNER).unwrap().family_id, Some("1"), "{name}");
        let sibling = CredentialQuery { client_id: "sibling", ..OWNER };
        assert!(blob.find_refresh_token(&sibling).is_none(), "{name}");
        let text = String::from_utf8(blob.serialize().into_owned()).unwrap();
        let metadata =
            r#""AppMetadata":{"s":{"client_id":"sibling","environment":"login.windows.net","family_id":"1"},"#;
        let text = text.replacen("\"AppMetadata\": {", metadata, 1).replacen(
            "\"AppMetadata\":{\"app",
            &format!("{metadata}\"app"),
            1,
        );
        blob = TokenCacheBlob::parse(text.as_bytes()).unwrap();
        assert_eq!(blob.find_refresh_token(&sibling).unwrap().family_id, Some("1"), "{name}");
    }
}

#[test]
fn an_apps_own_tokens_are_no_users() {
    let blob = golden("python-1.39-app.json");
    let summary = blob.summary("app_tenant_AppTokenCache", WRITTEN);
    assert!(summary.is_app_only && summary.home_account_id.is_none() && !summary.has_refresh_token);
    let query = AccessTokenQuery { home_account_id: "", ..access(&["api://fake-api/.default"]) };
    assert!(blob.find_access_token(&query, WRITTEN).is_some());
}
