//! Reading blobs: what is kept, what is refused, whose they are.

use common::token_cache::msal::{BlobError, BlobErrorKind, Limits, OddityKind, Section, TokenCacheBlob};

const HOME: &str = "uid.utid";

fn blob(text: &str) -> TokenCacheBlob {
    TokenCacheBlob::parse(text.as_bytes()).unwrap()
}

/// Access tokens as `(home account id, cached at, expires on)`.
fn with_access_tokens(tokens: &[(&str, i64, i64)]) -> String {
    let entries: Vec<String> = tokens
        .iter()
        .enumerate()
        .map(|(i, (home, cached, expires))| {
            format!(
                r#""k{i}":{{"home_account_id":"{home}","environment":"login.windows.net","client_id":"app","realm":"utid",
                "secret":"fake-at-{i}","credential_type":"AccessToken","target":"s{i}","cached_at":"{cached}","expires_on":"{expires}"}}"#
            )
        })
        .collect();
    format!(r#"{{"AccessToken":{{{}}}}}"#, entries.join(","))
}

#[test]
fn nothing_at_all_is_an_empty_cache_and_stays_what_it_was() {
    for text in ["", " \r\n\t", "{}", r#"{"AccessToken":null}"#, r#"{ "Account" : {} }"#] {
        let blob = blob(text);
        assert!(blob.is_empty(), "{text:?}");
        assert_eq!(&*blob.serialize(), text.as_bytes());
    }
}

#[test]
fn data_protection_is_undecryptable_and_never_guessed_at() {
    let error = TokenCacheBlob::parse(&[0x09, 0xF0, 0xC9, 0xF0, b'{', b'}']).unwrap_err();
    assert_eq!((error.kind(), &error), (BlobErrorKind::Undecryptable, &BlobError::DataProtection));
}

#[test]
fn what_is_no_cache_is_malformed_and_the_error_repeats_none_of_it() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let texts = [
        "null",
        "[]",
        "5",
        r#""eyJsecret""#,
        r#"{"AccessToken":"eyJsecret"}"#,
        r#"{"a":eyJsecret}"#,
        "{",
        "{}{}",
        &deep,
    ];
    for text in texts {
        let error = TokenCacheBlob::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), BlobErrorKind::Malformed);
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    assert_eq!(TokenCacheBlob::parse(b"{\"a\":\"\xFF\"}").unwrap_err(), BlobError::NotUtf8 { offset: 6 });
}

#[test]
fn size_and_depth_have_limits() {
    let limits = Limits { max_bytes: 20, max_depth: 3 };
    let parse = |text: &str| TokenCacheBlob::parse_within(text.as_bytes(), limits).map(|_| ());
    assert_eq!(parse(r#"{"a":{"b":{}}}"#), Ok(()));
    assert_eq!(parse(r#"{"a":{"b":[{}]}}"#), Err(BlobError::TooDeep { limit: 3 }));
    assert_eq!(parse(r#"{"a":"0123456789abcde"}"#), Err(BlobError::TooLarge { bytes: 23, limit: 20 }));
    assert_eq!(
        TokenCacheBlob::parse(&vec![b' '; (1 << 20) + 1]).unwrap_err(),
        BlobError::TooLarge { bytes: (1 << 20) + 1, limit: 1 << 20 }
    );
}

#[test]
fn an_entry_that_cannot_be_used_is_kept_and_named_by_its_place() {
    let text = r#"{"RefreshToken":{
        "a":5,
        "b":{"environment":"e","client_id":"c","secret":["x"]},
        "c":{"environment":"e","client_id":"c"},
        "d":{"environment":"e","client_id":"c","secret":"s","ext":{}},
        "e":{"environment":"e","client_id":"c","secret":"s","credential_type":"Cookie"},
        "f":{"environment":"e","client_id":"c","secret":"good","last_modification_time":7,"family_id":null}}}"#;
    let blob = blob(text);
    let secrets: Vec<_> = blob.refresh_tokens().map(|token| token.secret.expose_secret()).collect();
    assert_eq!(secrets, ["good"]);
    let oddities: Vec<_> = blob.oddities().map(|oddity| (oddity.section, oddity.entry, oddity.kind)).collect();
    let expected = [
        (1, OddityKind::NotAnObject),
        (2, OddityKind::WrongType { field: "secret" }),
        (3, OddityKind::MissingField { field: "secret" }),
        (4, OddityKind::Extended),
        (5, OddityKind::UnknownCredentialType),
        (6, OddityKind::NumberForTime { field: "last_modification_time" }),
        (6, OddityKind::NullField { field: "family_id" }),
    ];
    assert_eq!(oddities, expected.map(|(entry, kind)| (Section::RefreshToken, Some(entry), kind)));
    assert_eq!(&*blob.serialize(), text.as_bytes());
}

#[test]
fn the_last_of_duplicated_keys_counts_at_every_level() {
    let entity =
        |name: &str| format!(r#"{{"home_account_id":"h","environment":"e","username":"no","username":"{name}"}}"#);
    let text = format!(
        r#"{{"Account":{{"x":{}}},"Account":{{"k":{},"k":{}}}}}"#,
        entity("one"),
        entity("two"),
        entity("three")
    );
    let blob = blob(&text);
    let names: Vec<_> = blob.accounts().map(|account| account.username).collect();
    assert_eq!(names, ["three"]);
}

#[test]
fn escapes_are_resolved_and_a_lone_surrogate_only_costs_its_entry() {
    let text = r#"{"Account":{
        "a":{"home_account_id":"h","environment":"e","username":"J\u00f6rg\u002b"},
        "\udc00":{"home_account_id":"h","environment":"e","username":"\ud800"}}}"#;
    let blob = blob(text);
    let names: Vec<_> = blob.accounts().map(|account| account.username).collect();
    assert_eq!(names, ["Jörg+"]);
    assert_eq!(blob.oddities().count(), 1);
}

#[test]
fn no_secret_can_be_seen_in_debug() {
    let blob = blob(&with_access_tokens(&[(HOME, 1, 2)]));
    let token = blob.access_tokens().next().unwrap();
    assert_eq!(token.secret.expose_secret(), "fake-at-0");
    assert!(!format!("{blob:?} {token:?}").contains("fake-at"));
}

#[test]
fn a_summary_without_an_account_speaks_from_the_tokens() {
    let blob = blob(&with_access_tokens(&[(HOME, 10, 500), (HOME, 20, 300)]));
    let summary = blob.summary(HOME, 400);
    assert_eq!(summary.home_account_id, Some(HOME));
    assert_eq!((summary.object_id, summary.tenant_id), (Some("uid"), Some("utid")));
    assert_eq!((summary.client_id, summary.environment), (Some("app"), Some("login.windows.net")));
    assert_eq!((summary.access_token_expires_on, summary.has_valid_access_token), (Some(500), true));
    assert!(!summary.has_refresh_token && !summary.is_app_only && summary.username.is_none());
    assert_eq!(blob.summary(HOME, 200).access_token_expires_on, Some(300), "the soonest that is valid");
    let late = blob.summary(HOME, 500);
    assert_eq!((late.access_token_expires_on, late.has_valid_access_token), (Some(500), false), "the last one");
}

#[test]
fn among_several_users_the_cache_key_decides_else_the_last_write() {
    let blob = blob(&with_access_tokens(&[("a.t", 30, 1), ("b.t", 40, 2), ("c.t", 20, 3)]));
    assert_eq!(blob.summary("c.t", 0).home_account_id, Some("c.t"));
    assert_eq!(blob.summary("a-session", 0).home_account_id, Some("b.t"));
}

#[test]
fn an_apps_own_cache_is_about_nobody() {
    let app = blob(&with_access_tokens(&[("", 1, 2)]));
    let summary = app.summary("app_utid_AppTokenCache", 0);
    assert!(summary.is_app_only && summary.home_account_id.is_none());
    assert!(!blob("").summary("key", 0).is_app_only);
}

#[test]
fn a_generic_providers_subject_is_not_split() {
    let account = |home: &str, kind: &str| {
        format!(
            r#"{{"Account":{{"k":{{"home_account_id":"{home}","environment":"idp","realm":"r","authority_type":"{kind}"}}}}}}"#
        )
    };
    for (home, kind, object, tenant) in [
        ("sub", "MSSTS", "sub", Some("r")),
        ("a.b", "Generic", "a.b", Some("r")),
        ("a.b", "ADFS", "a.b", Some("r")),
        ("a.b.c", "MSSTS", "a.b.c", Some("r")),
        ("a.b", "MSSTS", "a", Some("b")),
    ] {
        let blob = blob(&account(home, kind));
        let summary = blob.summary(home, 0);
        assert_eq!((summary.object_id, summary.tenant_id), (Some(object), tenant), "{home} {kind}");
    }
}
