//! What holds for any bytes and any two changes of a blob.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use common::token_cache::msal::{
    AccessToken, AccessTokenQuery, CredentialQuery, Limits, TokenCacheBlob, TokenResponse, merge,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::support::*;

const USERS: [&str; 3] = [HOME, "b.t", "sub-of-a-provider"];
const ENVIRONMENTS: [&str; 3] = [PUBLIC, "login.windows.net", "idp.example"];
const SCOPES: [&str; 5] = ["User.Read", "User.Read Mail.Read", "Files.Read", "openid profile", "mail.read openid"];

/// One thing a writer does.
#[derive(Debug, Clone)]
enum Change {
    Save {
        user: usize,
        environment: usize,
        scopes: usize,
        refresh: bool,
        family: bool,
        hash: bool,
        after: i64,
    },
    /// A library with keys of its own and no modification times.
    Foreign {
        user: usize,
        environment: usize,
        scopes: usize,
        after: i64,
        key: u8,
    },
    SignOut {
        user: usize,
    },
    Drop {
        section: usize,
        entry: Index,
    },
    AddUnknown {
        section: Option<usize>,
        name: u8,
    },
}

fn change() -> impl Strategy<Value = Change> {
    let after = || 0..3_i64;
    prop_oneof![
        4 => (0..3_usize, 0..3_usize, 0..5_usize, any::<[bool; 3]>(), after()).prop_map(
            |(user, environment, scopes, [refresh, family, hash], after)| Change::Save { user, environment, scopes, refresh, family, hash, after }
        ),
        3 => (0..3_usize, 0..3_usize, 0..5_usize, after(), 0..3_u8).prop_map(
            |(user, environment, scopes, after, key)| Change::Foreign { user, environment, scopes, after, key }
        ),
        1 => (0..3_usize).prop_map(|user| Change::SignOut { user }),
        1 => (0..5_usize, any::<Index>()).prop_map(|(section, entry)| Change::Drop { section, entry }),
        1 => (prop::option::of(0..5_usize), any::<u8>()).prop_map(|(section, name)| Change::AddUnknown { section, name }),
    ]
}

const SECTIONS: [&str; 5] = ["AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata"];

/// Applies changes from `start` on; `side` marks everything unknown, so that the two sides never change the same.
fn apply(base: &TokenCacheBlob, changes: &[Change], side: &str, start: i64) -> TokenCacheBlob {
    let mut now = start;
    let mut blob = base.clone();
    for (n, change) in changes.iter().enumerate() {
        if let Change::Save { after, .. } | Change::Foreign { after, .. } = change {
            now += after;
        }
        blob = apply_one(blob, change, side, n, now);
    }
    TokenCacheBlob::parse(&blob.serialize()).unwrap()
}

fn apply_one(mut blob: TokenCacheBlob, change: &Change, side: &str, n: usize, now: i64) -> TokenCacheBlob {
    match *change {
        Change::Save { user, environment, scopes, refresh, family, hash, .. } => {
            let response = TokenResponse {
                home_account_id: USERS[user].into(),
                environment: ENVIRONMENTS[environment].into(),
                scopes: vec![SCOPES[scopes].into()],
                access_token: format!("at {side} {n}").into(),
                refresh_token: refresh.then(|| format!("rt {side} {n}").into()),
                id_token: Some(format!("it {side} {n}").into()),
                family_id: family.then(|| "1".into()),
                assertion_hash: hash.then(|| "session".into()),
                username: Some(format!("user {side}")),
                ..refreshed(0)
            };
            blob.save(&response, now);
            blob
        }
        Change::Foreign { user, environment, scopes, key, .. } => {
            let mut value = json(&blob);
            let common =
                json!({"home_account_id": USERS[user], "environment": ENVIRONMENTS[environment], "client_id": CLIENT});
            let with = |more: Value| {
                let mut entity = common.clone();
                entity.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                entity
            };
            value["RefreshToken"][format!("rt{key}")] = with(json!({"secret": format!("foreign rt {side} {n}")}));
            value["AccessToken"][format!("at{key}")] =
                with(json!({"secret": format!("foreign at {side} {n}"), "realm": TENANT,
                "target": SCOPES[scopes], "cached_at": now.to_string(), "expires_on": (now + 3600).to_string()}));
            value["Account"][format!("a{key}")] = json!({"home_account_id": USERS[user],
                "environment": ENVIRONMENTS[environment], "realm": TENANT, "username": format!("foreign {side}")});
            parse(&value)
        }
        Change::SignOut { user } => {
            blob.remove_account(USERS[user]);
            blob
        }
        Change::Drop { section, entry } => {
            let mut value = json(&blob);
            if let Some(Value::Object(entries)) = value.get_mut(SECTIONS[section]) {
                let keys: Vec<String> = entries.keys().cloned().collect();
                if !keys.is_empty() {
                    entries.remove(&keys[entry.index(keys.len())]);
                }
            }
            parse(&value)
        }
        Change::AddUnknown { section, name } => {
            let mut value = json(&blob);
            match section {
                Some(section) => {
                    value[SECTIONS[section]][format!("unknown {side} {name}")] = json!({"x": n, "unknown": side})
                }
                None => value[format!("Unknown {side} {name}")] = json!({"x": n, "unknown": side}),
            }
            parse(&value)
        }
    }
}

fn parse(value: &Value) -> TokenCacheBlob {
    TokenCacheBlob::parse(value.to_string().as_bytes()).unwrap()
}

/// A base that was tidied by no one, and two changes of it.
fn three() -> impl Strategy<Value = (TokenCacheBlob, TokenCacheBlob, TokenCacheBlob)> {
    let changes = || prop::collection::vec(change(), 0..5);
    (changes(), changes(), changes()).prop_map(|(base, ours, theirs)| {
        let base = apply(&TokenCacheBlob::empty(), &base, "base", 1_000);
        let (ours, theirs) = (apply(&base, &ours, "ours", 1_010), apply(&base, &theirs, "theirs", 1_010));
        (base, ours, theirs)
    })
}

/// The content apart from order and keys.
fn content(blob: &TokenCacheBlob) -> BTreeMap<String, BTreeSet<String>> {
    let Value::Object(sections) = json(blob) else { unreachable!("a blob is an object") };
    let entities = |entries: Value| match entries {
        Value::Object(entries) => entries.values().map(Value::to_string).collect(),
        other => BTreeSet::from([other.to_string()]),
    };
    sections.into_iter().map(|(name, entries)| (name, entities(entries))).filter(|(_, e)| !e.is_empty()).collect()
}

fn cloud(environment: &str) -> &str {
    if ENVIRONMENTS[..2].contains(&environment) { PUBLIC } else { environment }
}

fn api_scopes(token: &AccessToken<'_>) -> Vec<String> {
    let api: Vec<_> = token.scopes().map(str::to_lowercase).filter(|s| s != "openid" && s != "profile").collect();
    if api.is_empty() { vec![String::new()] } else { api }
}

/// What the libraries would stumble over.
fn doubles(blob: &TokenCacheBlob) -> Vec<String> {
    let mut seen = HashSet::new();
    let refresh = blob
        .refresh_tokens()
        .map(|t| format!("rt {} {} {:?}", t.home_account_id, cloud(t.environment), t.assertion_hash));
    let metadata = blob.app_metadata().map(|m| format!("client {} {}", m.client_id, cloud(m.environment)));
    let ids =
        blob.id_tokens().map(|t| format!("id {} {} {:?}", t.home_account_id, cloud(t.environment), t.assertion_hash));
    let access = blob.access_tokens().flat_map(|t| {
        let owner = format!("at {} {} {:?}", t.home_account_id, cloud(t.environment), t.assertion_hash);
        api_scopes(&t).into_iter().map(move |scope| format!("{owner} {scope}"))
    });
    refresh.chain(metadata).chain(ids).chain(access).filter(|one| !seen.insert(one.clone())).collect()
}

/// Every operation, on whatever it is.
fn exercise(bytes: &[u8]) {
    let Ok(blob) = TokenCacheBlob::parse(bytes) else {
        return;
    };
    assert_eq!(&*blob.serialize(), bytes);
    let _ =
        (blob.summary(HOME, WRITTEN), blob.oddities().map(|o| o.to_string()).collect::<Vec<_>>(), format!("{blob:?}"));
    let _ = blob
        .find_access_token(&AccessTokenQuery { min_remaining: std::time::Duration::MAX, ..access(&["a"]) }, i64::MAX);
    let _ = blob.find_refresh_token(&CredentialQuery { assertion_hash: Some("h"), ..OWNER });
    let mut saved = blob.clone();
    saved.save(&refreshed(1), WRITTEN);
    let roomy = Limits { max_bytes: 4 << 20, ..Limits::default() };
    let saved = TokenCacheBlob::parse_within(&saved.serialize(), roomy).unwrap();
    assert_eq!(refresh_secret(&saved).as_deref(), Some("fake-new-refresh-token-1"));
    let golden = golden("python-1.39.json");
    for (base, ours, theirs) in [(&blob, &saved, &golden), (&golden, &blob, &saved)] {
        let merged = merge(base, ours, theirs).blob;
        TokenCacheBlob::parse_within(&merged.serialize(), roomy).unwrap();
    }
    saved.clone().remove_account(HOME);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_parse_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        exercise(&bytes);
    }

    #[test]
    fn any_json_parses_or_is_refused(text in r#"(\{|\}|\[|\]|:|,|"AccessToken"|"Account"|"secret"|"ext"|"\\u[dD][89c-fC-F]00"|"expires_on"|null|true|-?[0-9]{1,30}|1e[0-9]{3}){0,40}"#) {
        exercise(text.as_bytes());
    }

    #[test]
    fn a_damaged_golden_blob_parses_or_is_refused(
        (_, bytes) in select(all_goldens()),
        damage in prop::collection::vec((any::<Index>(), 0..4_u8, any::<u8>(), 1..40_usize), 1..6),
    ) {
        let mut bytes = bytes;
        for (place, kind, byte, length) in damage {
            let at = place.index(bytes.len().max(1)).min(bytes.len());
            let end = (at + length).min(bytes.len());
            match kind {
                0 => if let Some(one) = bytes.get_mut(at) { *one = byte },
                1 => { bytes.drain(at..end); }
                2 => { let copy = bytes[at..end].to_vec(); bytes.splice(at..at, copy); }
                _ => { bytes.splice(at..end, *select_token(byte)); }
            }
        }
        exercise(&bytes);
    }

    #[test]
    fn a_golden_entity_with_other_types_is_kept_and_never_fatal(
        (_, bytes) in select(all_goldens()),
        places in prop::collection::vec((any::<Index>(), any::<Index>(), any::<Index>(), 0..7_usize), 1..5),
    ) {
        let mut value: Value = serde_json::from_slice(&bytes).unwrap();
        let odd = [json!(null), json!(5), json!(-1e300), json!([]), json!({"ext": 1}), json!("x"), json!(true)];
        for (section, entry, field, kind) in places {
            if let Some(entity) = nth(&mut value, section).and_then(|s| nth(s, entry)).and_then(|e| nth(e, field)) {
                *entity = odd[kind].clone();
            }
        }
        exercise(value.to_string().as_bytes());
    }

    #[test]
    fn a_saved_blob_has_no_doubles_for_what_was_saved((blob, _, _) in three(), user in 0..3_usize, environment in 0..3_usize) {
        let mut saved = blob.clone();
        let home = USERS[user];
        saved.save(&TokenResponse { home_account_id: home.into(), environment: ENVIRONMENTS[environment].into(), ..refreshed(7) }, 2_000);
        let of_it = |one: &String| one.contains(&format!(" {home} {} None", cloud(ENVIRONMENTS[environment])))
            && (!one.starts_with("at") || one.contains("mail.read") || one.contains("user.read"));
        prop_assert_eq!(doubles(&saved).into_iter().filter(of_it).collect::<Vec<_>>(), Vec::<String>::new());
        prop_assert_eq!(unknown(&saved), unknown(&blob));
    }

    #[test]
    fn a_merge_leaves_no_doubles_and_no_shared_keys((base, ours, theirs) in three()) {
        let merged = merge(&base, &ours, &theirs);
        let is_either = merged.blob.says_the_same_as(&ours) || merged.blob.says_the_same_as(&theirs);
        if !is_either {
            prop_assert_eq!(doubles(&merged.blob), Vec::<String>::new());
        }
        let again = TokenCacheBlob::parse(&merged.blob.serialize()).unwrap();
        prop_assert_eq!(again.access_tokens().count(), merged.blob.access_tokens().count());
        prop_assert_eq!(again.refresh_tokens().count(), merged.blob.refresh_tokens().count());
    }

    #[test]
    fn a_merge_is_the_same_for_both_writers((base, ours, theirs) in three()) {
        let (one, other) = (merge(&base, &ours, &theirs), merge(&base, &theirs, &ours));
        prop_assert_eq!(content(&one.blob), content(&other.blob));
        prop_assert_eq!((one.conflicts, one.signed_out), (other.conflicts, other.signed_out));
    }

    #[test]
    fn merging_again_changes_nothing((base, ours, theirs) in three()) {
        let merged = merge(&base, &ours, &theirs).blob;
        for again in [merge(&base, &merged, &theirs), merge(&base, &ours, &merged), merge(&theirs, &merged, &theirs), merge(&base, &merged, &merged)] {
            prop_assert_eq!(content(&again.blob), content(&merged));
        }
    }

    #[test]
    fn a_merge_loses_nothing_unknown((base, ours, theirs) in three()) {
        let merged = unknown(&merge(&base, &ours, &theirs).blob);
        let (base, ours, theirs) = (unknown(&base), unknown(&ours), unknown(&theirs));
        for one in ours.union(&theirs) {
            let was_dropped = base.contains(one) && !(ours.contains(one) && theirs.contains(one));
            prop_assert!(merged.contains(one) || was_dropped, "{} is lost", one);
        }
    }

    #[test]
    fn a_merge_says_when_there_is_nothing_to_write((base, ours, theirs) in three()) {
        let merged = merge(&base, &ours, &theirs);
        prop_assert_eq!(!merged.is_write_needed, merged.blob.serialize() == theirs.serialize());
    }

    #[test]
    fn who_signed_out_stays_signed_out((base, ours, theirs) in three(), user in select(USERS.to_vec())) {
        let mut theirs = theirs;
        let knows = |blob: &TokenCacheBlob| blob.accounts().any(|a| a.home_account_id == user)
            || blob.refresh_tokens().any(|t| t.home_account_id == user);
        theirs.remove_account(user);
        let merged = merge(&base, &ours, &theirs).blob;
        if knows(&base) {
            prop_assert!(!knows(&merged));
            prop_assert!(merged.access_tokens().all(|t| t.home_account_id != user));
        }
    }
}

fn unknown(blob: &TokenCacheBlob) -> BTreeSet<String> {
    content(blob).values().flatten().filter(|entity| entity.contains("unknown")).cloned().collect()
}

fn nth(value: &mut Value, place: Index) -> Option<&mut Value> {
    let members = value.as_object_mut().filter(|members| !members.is_empty())?;
    let place = place.index(members.len());
    members.values_mut().nth(place)
}

/// Something of JSON to put in the middle.
fn select_token(byte: u8) -> &'static [u8; 8] {
    let tokens: [&[u8; 8]; 6] =
        [b"\"\\ud800\"", b"[[[[[[[[", b"{\"a\":{},", b"1e999999", b"\"\",\"ext\"", b"\xff\xfe\x00\x00null"];
    tokens[usize::from(byte) % tokens.len()]
}

#[test]
fn a_bomb_is_refused_or_survived() {
    // Long enough that anything quadratic would be felt.
    const LENGTH: usize = 1 << 16;
    let repeat = |head: &str, part: &str, tail: &str| {
        let mut text = head.to_owned();
        while text.len() + part.len() + tail.len() < LENGTH {
            text.push_str(part);
        }
        text + tail
    };
    let scopes = format!(
        r#"{{"AccessToken":{{"k":{{"home_account_id":"{}","environment":"e","client_id":"c","secret":"s","expires_on":"1","target":""#,
        "h".repeat(LENGTH / 2)
    );
    for bomb in [
        repeat("", "{\"a\":", ""),
        repeat("", "[", ""),
        repeat("{\"AccessToken\":{", "\"a\":{},", "\"b\":0}}"),
        repeat("{", "\"AccessToken\":{},", "\"b\":0}"),
        repeat("{\"x\":", &"9".repeat(1000), "}"),
        repeat("{\"Account\":{\"a\":{", "\"realm\":\"r\",", "\"realm\":null}}}"),
        repeat(&scopes, "s ", "\"}}}"),
        repeat("{\"x\":\"", "\\\\", "\"}"),
        repeat("{\"x\":\"", "\\ud800", "\"}"),
    ] {
        exercise(bomb.as_bytes());
    }
}
