//! The rules for a reader and writer among five libraries.

use std::collections::HashSet;
use std::time::Duration;

use common::token_cache::msal::{
    AccessTokenQuery, CredentialQuery, Section, TokenCacheBlob, TokenResponse, same_environment,
};
use serde_json::{Value, json};

use crate::support::*;

const NOW: i64 = WRITTEN + 4_000;

fn saved(name: &str, response: &TokenResponse) -> TokenCacheBlob {
    let mut blob = golden(name);
    blob.save(response, NOW);
    // What is handed out afterwards is what the next reader parses.
    TokenCacheBlob::parse(&blob.serialize()).unwrap()
}

/// A refresh token entity in the given shape.
fn refresh(secret: &str, modified: Option<i64>) -> Value {
    let mut entity = json!({"home_account_id": HOME, "environment": PUBLIC, "client_id": CLIENT, "secret": secret});
    if let Some(modified) = modified {
        entity["last_modification_time"] = Value::String(modified.to_string());
    }
    entity
}

fn token(target: &str, cached_at: i64) -> Value {
    json!({"home_account_id": HOME, "environment": PUBLIC, "client_id": CLIENT, "realm": TENANT, "target": target,
        "secret": format!("fake-{target}-{cached_at}"), "cached_at": cached_at.to_string(),
        "expires_on": (cached_at + 3600).to_string()})
}

fn keyed(entities: &[Value]) -> Value {
    entities
        .iter()
        .enumerate()
        .map(|(i, entity)| (format!("foreign-key-{i}"), entity.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn cache(refresh_tokens: &[Value], access_tokens: &[Value]) -> TokenCacheBlob {
    blob(&json!({"RefreshToken": keyed(refresh_tokens), "AccessToken": keyed(access_tokens)}).to_string())
}

#[test]
fn rule_1_fields_are_matched_and_never_keys() {
    for name in SIGNED_IN {
        let mut value = json(&golden(name));
        for section in Section::ALL {
            let entities: Vec<Value> = value[section.name()].as_object().unwrap().values().cloned().collect();
            value[section.name()] = keyed(&entities);
        }
        let renamed = blob(&value.to_string());
        assert!(access_secret(&renamed, &["Mail.Read"], WRITTEN).is_some(), "{name}");
        assert_eq!(refresh_secret(&renamed), refresh_secret(&golden(name)), "{name}");
    }
}

#[test]
fn rule_1_another_users_clients_tenants_or_clouds_token_is_never_found() {
    for name in SIGNED_IN {
        let blob = golden(name);
        let query = access(&["Mail.Read"]);
        for other in [
            AccessTokenQuery { home_account_id: "other", ..query },
            AccessTokenQuery { home_account_id: "", ..query },
            AccessTokenQuery { client_id: "other", ..query },
            AccessTokenQuery { realm: "other", ..query },
            AccessTokenQuery { environment: "login.microsoftonline.us", ..query },
            AccessTokenQuery { assertion_hash: Some("session"), ..query },
        ] {
            assert!(blob.find_access_token(&other, WRITTEN).is_none(), "{name} {other:?}");
        }
        for other in [
            CredentialQuery { home_account_id: "other", ..OWNER },
            CredentialQuery { client_id: "other", ..OWNER },
            CredentialQuery { environment: "login.microsoftonline.us", ..OWNER },
        ] {
            assert!(blob.find_refresh_token(&other).is_none(), "{name} {other:?}");
        }
    }
}

#[test]
fn rule_2_one_refresh_token_is_left_under_the_conventional_key() {
    for name in SIGNED_IN {
        let blob = saved(name, &refreshed(1));
        let tokens = section(&blob, "RefreshToken");
        let [(key, entity)] = tokens.as_slice() else { panic!("{name}: {tokens:?}") };
        let environment = entity["environment"].as_str().unwrap();
        assert_eq!(*key, format!("{HOME}-{environment}-refreshtoken-{CLIENT}--"), "{name}");
        assert_eq!(entity["secret"], "fake-new-refresh-token-1", "{name}");
        assert_eq!(entity["last_modification_time"], NOW.to_string(), "{name}");
        assert!(entity.get("target").is_none() && entity.get("family_id").is_none(), "{name}");
    }
}

#[test]
fn rule_2_a_familys_refresh_token_replaces_the_familys() {
    for name in ["go-1.9-family.json", "node-7-family.json", "python-1.39-obo-family.json"] {
        let blob = saved(name, &TokenResponse { family_id: Some("1".into()), ..refreshed(1) });
        let tokens: Vec<_> = blob.refresh_tokens().map(|t| (t.secret.expose_secret(), t.family_id)).collect();
        assert_eq!(tokens, [("fake-new-refresh-token-1", Some("1"))], "{name}");
        assert_eq!(blob.app_metadata().map(|m| m.family_id).collect::<Vec<_>>(), [Some("1")], "{name}");
    }
}

#[test]
fn rule_2_refresh_tokens_of_sessions_stand_beside_one_another() {
    let mut blob = golden("dotnet-4.87-obo.json");
    blob.save(&refreshed(1), NOW);
    blob.save(&TokenResponse { assertion_hash: Some("other".into()), ..refreshed(2) }, NOW);
    blob.save(&TokenResponse { assertion_hash: Some(HASH.into()), ..refreshed(3) }, NOW);
    let found = |hash| {
        let query = CredentialQuery { assertion_hash: hash, ..OWNER };
        blob.find_refresh_token(&query).unwrap().secret.expose_secret()
    };
    assert_eq!(found(None), "fake-new-refresh-token-1");
    assert_eq!(found(Some("other")), "fake-new-refresh-token-2");
    assert_eq!(found(Some(HASH)), "fake-new-refresh-token-3");
    assert_eq!(section(&blob, "RefreshToken").len(), 3);
    let session = &section(&blob, "RefreshToken")[0].1;
    assert_eq!(
        (session["user_assertion_hash"].as_str(), session["userAssertionHash"].as_str()),
        (Some(HASH), Some(HASH))
    );
}

#[test]
fn rule_2_without_a_new_refresh_token_the_one_to_use_stays_alone() {
    let mut blob = cache(
        &[refresh("old", Some(100)), refresh("used", Some(200)), refresh("stale", None)],
        &[token("User.Read", 150)],
    );
    blob.save(&TokenResponse { refresh_token: None, ..refreshed(1) }, 500);
    assert_eq!(blob.refresh_tokens().map(|t| t.secret.expose_secret()).collect::<Vec<_>>(), ["used"]);
}

#[test]
fn rule_3_the_greatest_modification_time_wins_unless_somebody_without_one_wrote_later() {
    let marked = [refresh("old", Some(100)), refresh("new", Some(200))];
    let with_unmarked = [marked[0].clone(), refresh("unmarked", None), marked[1].clone()];
    for (tokens, cached_at, expected) in [
        (&marked[..], 900, "new"),
        (&with_unmarked[..], 200, "new"),
        (&with_unmarked[..], 201, "new"),
        (&with_unmarked[..], 202, "unmarked"),
    ] {
        let blob = cache(tokens, &[token("User.Read", cached_at)]);
        assert_eq!(refresh_secret(&blob).unwrap(), expected, "{} tokens, {cached_at}", tokens.len());
    }
    let mut strangers = token("User.Read", 900);
    strangers["client_id"] = "another app".into();
    assert_eq!(refresh_secret(&cache(&with_unmarked, &[strangers])).unwrap(), "new");
    assert_eq!(refresh_secret(&cache(&with_unmarked[1..2], &[])).unwrap(), "unmarked");
}

#[test]
fn rule_4_access_tokens_that_share_a_scope_are_replaced_and_others_stay() {
    let tokens =
        ["User.Read openid profile", "MAIL.READ Mail.Send", "api://other/x openid profile email", "openid profile"];
    let mut blob = cache(&[], &tokens.map(|target| token(target, 100)));
    blob.save(&refreshed(1), NOW);
    let targets: Vec<_> = blob.access_tokens().map(|t| t.target).collect();
    assert_eq!(targets, ["Mail.Read User.Read openid profile", "api://other/x openid profile email", "openid profile"]);
    assert_eq!(access_secret(&blob, &["User.Read", "Mail.Read"], NOW).unwrap(), "fake-new-access-token-1");
}

#[test]
fn rule_4_a_plain_openid_providers_tokens_replace_one_another() {
    let mut blob = cache(&[], &[token("openid profile", 100), token("openid email offline_access", 100)]);
    blob.save(&TokenResponse { scopes: vec!["openid email".into()], ..refreshed(1) }, NOW);
    assert_eq!(blob.access_tokens().map(|t| t.target).collect::<Vec<_>>(), ["email openid"]);
    assert_eq!(access_secret(&blob, &["openid"], NOW).unwrap(), "fake-new-access-token-1");
}

#[test]
fn rule_4_another_tenants_or_sessions_access_token_stays() {
    let mut guest = token("User.Read", 100);
    guest["realm"] = "another tenant".into();
    let mut session = token("User.Read", 100);
    session["user_assertion_hash"] = "session".into();
    let mut bound = token("User.Read", 100);
    bound["token_type"] = "pop".into();
    let mut blob = cache(&[], &[guest, session, bound]);
    blob.save(&refreshed(1), NOW);
    assert_eq!(blob.access_tokens().count(), 4);
}

#[test]
fn rule_4_one_id_token_for_a_realm_and_one_metadata_for_a_client() {
    for name in SIGNED_IN {
        let blob = saved(name, &refreshed(1));
        assert_eq!(
            blob.id_tokens().map(|t| t.secret.expose_secret()).collect::<Vec<_>>(),
            ["fake.new-id-token.1"],
            "{name}"
        );
        assert_eq!(blob.app_metadata().map(|m| m.client_id).collect::<Vec<_>>(), [CLIENT], "{name}");
        assert_eq!(blob.accounts().count(), 1, "{name}");
    }
    let twice = json!({"AppMetadata": keyed(&[
        json!({"client_id": CLIENT, "environment": "sts.windows.net", "family_id": "1", "kept": [1]}),
        json!({"client_id": CLIENT, "environment": PUBLIC}),
        json!({"client_id": "other", "environment": PUBLIC}),
    ])});
    let mut blob = blob(&twice.to_string());
    blob.save(&refreshed(1), NOW);
    assert_eq!(
        blob.app_metadata().map(|m| (m.client_id, m.family_id)).collect::<Vec<_>>(),
        [(CLIENT, Some("1")), ("other", None)]
    );
    assert_eq!(section(&blob, "AppMetadata")[0].1["kept"], json!([1]));
}

#[test]
fn rule_5_the_environment_of_the_blob_is_kept() {
    for name in SIGNED_IN {
        let before = golden(name).accounts().next().unwrap().environment.to_owned();
        let blob = saved(name, &TokenResponse { environment: "sts.windows.net".into(), ..refreshed(1) });
        assert!(blob.refresh_tokens().all(|token| token.environment == before), "{name}");
        assert!(blob.app_metadata().all(|metadata| metadata.environment == before), "{name}");
        assert!(blob.access_tokens().all(|token| token.environment == before), "{name}");
    }
    let mut other_cloud = golden("node-7.json");
    other_cloud.save(&TokenResponse { environment: "Login.MicrosoftOnline.US".into(), ..refreshed(1) }, NOW);
    let environments: HashSet<_> = other_cloud.refresh_tokens().map(|token| token.environment).collect();
    assert_eq!(environments, HashSet::from(["login.windows.net", "login.microsoftonline.us"]));
}

#[test]
fn rule_5_unknown_fields_entries_and_sections_stay() {
    let text = json!({
        "Foreign": {"x": [1, null, 2.5]},
        "RefreshToken": {"mine": {"home_account_id": HOME, "environment": PUBLIC, "client_id": CLIENT, "secret": "old",
            "odd": {"deep": [true]}, "last_modification_time": 5}, "odd": 7},
        "Account": {"a": {"home_account_id": HOME, "environment": PUBLIC, "realm": TENANT, "username": "u@x",
            "name": null, "tenantProfiles": ["{}"]}},
        "AccessToken": {"ext": {"home_account_id": HOME, "environment": PUBLIC, "client_id": CLIENT, "realm": TENANT,
            "target": "Mail.Read", "secret": "bound", "expires_on": "9", "ext_cache_key": "k"}},
    });
    let mut blob = blob(&text.to_string());
    blob.save(&TokenResponse { username: Some("new@x".into()), ..refreshed(1) }, NOW);
    let after = json(&blob);
    assert_eq!(after["Foreign"], text["Foreign"]);
    assert_eq!(after["RefreshToken"]["odd"], 7);
    assert_eq!(after["AccessToken"]["ext"], text["AccessToken"]["ext"]);
    let refresh = &section(&blob, "RefreshToken")[0].1;
    assert_eq!(
        (&refresh["odd"], refresh["secret"].as_str()),
        (&json!({"deep": [true]}), Some("fake-new-refresh-token-1"))
    );
    let account = &section(&blob, "Account")[0].1;
    assert_eq!((&account["tenantProfiles"], account["username"].as_str()), (&json!(["{}"]), Some("new@x")));
    assert!(account.get("name").is_none(), "a null is not written again");
}

#[test]
fn rule_5_untouched_entries_keep_their_text_and_place() {
    let text = r#"{ "Foreign" : [ 1.50 ], "AccessToken":{"k1" : { "other" : "\u0041" }, "k2":{ }} }"#;
    let mut blob = blob(text);
    blob.save(&refreshed(1), NOW);
    let after = String::from_utf8(blob.serialize().into_owned()).unwrap();
    assert!(
        after.starts_with(r#"{"Foreign":[ 1.50 ],"AccessToken":{"k1":{ "other" : "\u0041" },"k2":{ },""#),
        "{after}"
    );
}

#[test]
fn rule_5_only_strings_and_no_nulls_are_written() {
    for name in SIGNED_IN {
        let response = TokenResponse {
            ext_expires_in: Some(Duration::from_secs(7200)),
            refresh_in: Some(Duration::from_secs(1800)),
            client_info: Some("e30".into()),
            ..refreshed(1)
        };
        let blob = saved(name, &response);
        assert_eq!(blob.oddities().collect::<Vec<_>>(), [], "{name}");
        let (_, entity) =
            section(&blob, "AccessToken").into_iter().find(|(_, e)| e["secret"] == "fake-new-access-token-1").unwrap();
        for (field, seconds) in
            [("cached_at", 0), ("expires_on", 3600), ("extended_expires_on", 7200), ("refresh_on", 1800)]
        {
            assert_eq!(entity[field], (NOW + seconds).to_string(), "{name} {field}");
        }
        assert_eq!(entity["token_type"], "Bearer");
    }
}

#[test]
fn rule_5_the_first_save_writes_every_section_in_the_common_form() {
    let mut blob = TokenCacheBlob::empty();
    let response = TokenResponse {
        username: Some("jörg@contoso.example".into()),
        name: Some("Jörg".into()),
        local_account_id: Some("local".into()),
        client_info: Some("e30".into()),
        authority_type: Some("MSSTS".into()),
        ..refreshed(1)
    };
    blob.save(&response, NOW);
    let keys: Vec<_> = Section::ALL.into_iter().flat_map(|s| section(&blob, s.name())).map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            format!("{HOME}-{PUBLIC}-accesstoken-{CLIENT}-{TENANT}-mail.read user.read openid profile"),
            format!("{HOME}-{PUBLIC}-{TENANT}"),
            format!("{HOME}-{PUBLIC}-idtoken-{CLIENT}-{TENANT}-"),
            format!("{HOME}-{PUBLIC}-refreshtoken-{CLIENT}--"),
            format!("appmetadata-{PUBLIC}-{CLIENT}"),
        ]
    );
    let account = blob.find_account(HOME, "login.windows.net", TENANT).unwrap();
    assert_eq!((account.username, account.local_account_id), ("jörg@contoso.example", "local"));
    assert_eq!((account.name, account.client_info, account.authority_type), (Some("Jörg"), Some("e30"), "MSSTS"));
    assert_eq!(blob.oddities().count(), 0);
}

#[test]
fn rule_6_a_bound_token_is_never_handed_out() {
    for (field, value) in [
        ("ext", json!({})),
        ("ext_cache_key", json!("k")),
        ("additionalCacheKeyComponents", json!({"a": "b"})),
        ("credential_type", json!("AccessToken_With_AuthScheme")),
        ("token_type", json!("pop")),
    ] {
        let mut bound = token("User.Read", 100);
        bound[field] = value;
        assert_eq!(access_secret(&cache(&[], &[bound]), &["User.Read"], 200), None, "{field}");
    }
}

#[test]
fn an_access_token_cached_in_the_future_or_about_to_expire_is_not_used() {
    let blob = cache(&[], &[token("User.Read", 100)]);
    assert_eq!(access_secret(&blob, &["User.Read"], 99), None);
    assert!(access_secret(&blob, &["User.Read"], 100).is_some());
    assert!(access_secret(&blob, &["User.Read"], 3_400).is_some());
    assert_eq!(access_secret(&blob, &["User.Read"], 3_401), None);
    let now = AccessTokenQuery { min_remaining: Duration::ZERO, ..access(&["User.Read"]) };
    assert!(blob.find_access_token(&now, 3_699).is_some());
    assert!(blob.find_access_token(&now, 3_700).is_none());
}

#[test]
fn a_guest_gets_an_account_for_the_tenant_only_with_news_of_the_user() {
    let guest = TokenResponse { realm: "resource-tenant".into(), ..refreshed(1) };
    assert_eq!(saved("node-7.json", &guest).accounts().count(), 1);
    let signed_in = TokenResponse { username: Some("guest@x".into()), ..guest };
    let realms: Vec<_> = saved("node-7.json", &signed_in).accounts().map(|a| a.realm.to_owned()).collect();
    assert_eq!(realms, [TENANT, "resource-tenant"]);
}

#[test]
fn an_apps_own_response_makes_no_account() {
    let mut blob = TokenCacheBlob::empty();
    blob.save(&TokenResponse { home_account_id: String::new(), id_token: None, ..refreshed(1) }, NOW);
    assert_eq!((blob.accounts().count(), blob.refresh_tokens().count(), blob.access_tokens().count()), (0, 0, 1));
    assert!(blob.summary("key", NOW).is_app_only);
}

#[test]
fn an_account_that_is_removed_leaves_nothing_of_its_own() {
    for (name, bytes) in all_goldens().into_iter().filter(|(name, _)| !name.contains("app")) {
        let mut blob = TokenCacheBlob::parse(&bytes).unwrap();
        blob.save(&TokenResponse { home_account_id: "other.user".into(), ..refreshed(1) }, NOW);
        let others = blob.clone();
        assert!(blob.remove_account(HOME) >= 4, "{name}");
        assert!(!String::from_utf8_lossy(&blob.serialize()).contains(HOME), "{name}");
        assert_eq!(blob.summary("other.user", NOW), others.summary("other.user", NOW), "{name}");
        assert_eq!(blob.remove_account(HOME), 0);
        assert!(blob.app_metadata().any(|m| m.client_id == CLIENT && same_environment(m.environment, PUBLIC)));
    }
}

#[test]
fn removing_nobody_removes_nothing() {
    let mut blob = golden("python-1.39-app.json");
    assert_eq!(blob.remove_account("") + blob.remove_account("stranger"), 0);
    assert!(!blob.is_changed());
}

#[test]
fn an_entry_of_somebody_else_under_our_key_is_not_overwritten() {
    let key = format!("{HOME}-{PUBLIC}-refreshtoken-{CLIENT}--");
    let mut blob = blob(&json!({"RefreshToken": {key.clone(): {"foreign": true}}}).to_string());
    blob.save(&refreshed(1), NOW);
    assert_eq!(json(&blob)["RefreshToken"][&key], json!({"foreign": true}));
    assert_eq!(refresh_secret(&blob).unwrap(), "fake-new-refresh-token-1");
}
