//! Two writers changed one blob.

use common::token_cache::msal::{CredentialQuery, TokenCacheBlob, TokenResponse, merge};
use serde_json::{Value, json};

use crate::support::*;

const NOW: i64 = WRITTEN + 4_000;

fn changed(base: &TokenCacheBlob, change: impl FnOnce(&mut TokenCacheBlob)) -> TokenCacheBlob {
    let mut blob = base.clone();
    change(&mut blob);
    blob
}

/// Changes the raw JSON, as a library we do not know would.
fn edited(base: &TokenCacheBlob, edit: impl FnOnce(&mut Value)) -> TokenCacheBlob {
    let mut value = json(base);
    edit(&mut value);
    blob(&value.to_string())
}

/// The refresh as Node writes it: under its own key, without a modification time.
fn refreshed_by_node(base: &TokenCacheBlob, secret: &str, now: i64) -> TokenCacheBlob {
    edited(base, |value| {
        value["RefreshToken"][format!("{HOME}-login.windows.net-refreshtoken-{CLIENT}---")] = json!({"home_account_id": HOME,
            "environment": "login.windows.net", "credential_type": "RefreshToken", "client_id": CLIENT, "secret": secret});
        value["AccessToken"]["node"] = json!({"home_account_id": HOME, "environment": "login.windows.net",
            "client_id": CLIENT, "realm": TENANT, "target": "User.Read Mail.Read openid profile",
            "secret": format!("access of {secret}"), "cached_at": now.to_string(), "expires_on": (now + 3600).to_string()});
    })
}

#[test]
fn where_we_changed_nothing_theirs_is_taken_to_the_byte() {
    for name in SIGNED_IN {
        let base = golden(name);
        let theirs = changed(&base, |blob| blob.save(&refreshed(1), NOW));
        let merged = merge(&base, &base, &theirs);
        assert!(!merged.is_write_needed);
        assert_eq!(merged.blob.serialize(), theirs.serialize(), "{name}");
        let merged = merge(&base, &theirs, &theirs);
        assert!(!merged.is_write_needed && merged.blob.serialize() == theirs.serialize(), "{name}");
    }
}

#[test]
fn where_they_changed_nothing_ours_is_taken_to_the_byte() {
    let base = golden("python-1.39.json");
    let compact = blob(&json(&base).to_string());
    let ours = changed(&base, |blob| blob.save(&refreshed(1), NOW));
    let merged = merge(&base, &ours, &compact);
    assert!(merged.is_write_needed && merged.blob.serialize() == ours.serialize());
}

#[test]
fn different_credentials_of_both_are_kept() {
    for name in SIGNED_IN {
        let base = golden(name);
        let other = |n| TokenResponse { scopes: vec!["Files.Read".into()], refresh_token: None, ..refreshed(n) };
        let ours = changed(&base, |blob| blob.save(&refreshed(1), NOW));
        let theirs = changed(&base, |blob| blob.save(&TokenResponse { id_token: None, ..other(2) }, NOW + 5));
        let merged = merge(&base, &ours, &theirs);
        assert!(merged.is_write_needed && merged.conflicts == 0, "{name} {merged:?}");
        let access = |scope| access_secret(&merged.blob, &[scope], NOW + 10).unwrap();
        assert_eq!(access("Mail.Read"), "fake-new-access-token-1", "{name}");
        assert_eq!(access("Files.Read"), "fake-new-access-token-2", "{name}");
        assert_eq!(refresh_secret(&merged.blob).unwrap(), "fake-new-refresh-token-1", "{name}");
    }
}

#[test]
fn of_two_refreshes_the_later_wins_on_either_side() {
    for name in SIGNED_IN {
        let base = golden(name);
        let early = changed(&base, |blob| blob.save(&refreshed(1), NOW));
        let late = changed(&base, |blob| blob.save(&refreshed(2), NOW + 30));
        for (ours, theirs, won) in [(&early, &late, 0), (&late, &early, 3)] {
            let merged = merge(&base, ours, theirs);
            assert_eq!((merged.conflicts, merged.won_by_ours), (3, won), "{name}");
            assert_eq!(refresh_secret(&merged.blob).unwrap(), "fake-new-refresh-token-2", "{name}");
            assert_eq!(access_secret(&merged.blob, &["User.Read"], NOW + 60).unwrap(), "fake-new-access-token-2");
            assert_eq!(merged.blob.id_tokens().next().unwrap().secret.expose_secret(), "fake.new-id-token.2");
            assert_eq!(merged.blob.refresh_tokens().count(), 1, "{name}");
        }
    }
}

#[test]
fn a_refresh_of_a_library_without_modification_times_is_dated_by_its_access_token() {
    for name in SIGNED_IN {
        let base = golden(name);
        let ours = changed(&base, |blob| blob.save(&refreshed(1), NOW));
        for (node_at, expected) in [(NOW - 5, "fake-new-refresh-token-1"), (NOW + 5, "node's")] {
            let theirs = refreshed_by_node(&base, "node's", node_at);
            for merged in [merge(&base, &ours, &theirs), merge(&base, &theirs, &ours)] {
                assert_eq!(refresh_secret(&merged.blob).unwrap(), expected, "{name}");
                assert_eq!(merged.blob.refresh_tokens().count(), 1, "{name}");
                let used = merged.blob.access_tokens().filter(|token| token.target.contains("Mail.Read"));
                assert_eq!(used.count(), 1, "{name}: no two with a scope in common");
            }
        }
    }
}

#[test]
fn a_sign_out_beats_a_refresh_in_flight_on_either_side() {
    for name in SIGNED_IN {
        let base = changed(&golden(name), |blob| {
            blob.save(&TokenResponse { home_account_id: "other.user".into(), ..refreshed(9) }, NOW);
        });
        let refreshed = changed(&base, |blob| blob.save(&refreshed(1), NOW + 1));
        let signed_out = changed(&base, |blob| {
            blob.remove_account(HOME);
        });
        for merged in [merge(&base, &refreshed, &signed_out), merge(&base, &signed_out, &refreshed)] {
            assert_eq!(merged.signed_out, [HOME], "{name}");
            assert!(!String::from_utf8_lossy(&merged.blob.serialize()).contains(HOME), "{name}");
            let other = CredentialQuery { home_account_id: "other.user", ..OWNER };
            assert!(merged.blob.find_refresh_token(&other).is_some(), "{name}");
        }
        assert!(!merge(&base, &refreshed, &signed_out).is_write_needed, "{name}");
    }
}

#[test]
fn what_they_removed_stays_removed_unless_we_renewed_it() {
    let base = golden("python-1.39.json");
    let theirs = edited(&base, |value| value["AccessToken"] = json!({}));
    let ours = changed(&base, |blob| {
        blob.save(&TokenResponse { refresh_token: None, id_token: None, ..refreshed(1) }, NOW);
    });
    let merged = merge(&base, &ours, &theirs);
    assert_eq!(
        merged.blob.access_tokens().map(|t| t.secret.expose_secret()).collect::<Vec<_>>(),
        ["fake-new-access-token-1"]
    );
    assert_eq!(refresh_secret(&merged.blob), refresh_secret(&base));
    assert!(merged.signed_out.is_empty());
}

#[test]
fn client_metadata_is_never_lost_and_never_doubled() {
    let base = golden("go-1.9.json");
    let ours = changed(&base, |blob| blob.save(&refreshed(1), NOW));
    let theirs = edited(&base, |value| {
        value["AppMetadata"] = json!({"x": {"client_id": CLIENT, "environment": "sts.windows.net", "family_id": "1"}});
        value["Extra"] = json!(1);
    });
    let merged = merge(&base, &ours, &theirs).blob;
    assert_eq!(merged.app_metadata().map(|m| m.family_id).collect::<Vec<_>>(), [Some("1")]);
    let theirs = edited(&base, |value| {
        value["AppMetadata"] = json!({});
        value["Extra"] = json!(1);
    });
    assert_eq!(merge(&base, &ours, &theirs).blob.app_metadata().count(), 1);
}

#[test]
fn a_family_ends_with_one_refresh_token() {
    let base = golden("node-7-family.json");
    let family =
        |client: &str, n| TokenResponse { client_id: client.into(), family_id: Some("1".into()), ..refreshed(n) };
    let ours = changed(&base, |blob| blob.save(&family(CLIENT, 1), NOW));
    let theirs = changed(&base, |blob| blob.save(&family("sibling", 2), NOW + 9));
    for merged in [merge(&base, &ours, &theirs), merge(&base, &theirs, &ours)] {
        let tokens: Vec<_> = merged.blob.refresh_tokens().map(|t| t.secret.expose_secret()).collect();
        assert_eq!(tokens, ["fake-new-refresh-token-2"]);
        assert_eq!(refresh_secret(&merged.blob).unwrap(), "fake-new-refresh-token-2");
    }
}

#[test]
fn what_nobody_here_knows_is_merged_member_by_member() {
    let base = blob(r#"{"Foreign":{"same":1,"ours":1,"theirs":1,"both":1,"gone":1},"AccessToken":{"odd":5}}"#);
    let ours = blob(
        r#"{"Foreign":{"same":1,"ours":2,"theirs":1,"both":2,"gone":1,"new":2},"AccessToken":{"odd":5,"odder":6},"Ours":[2]}"#,
    );
    let theirs = blob(r#"{"Theirs":[3],"Foreign":{"same":1,"ours":1,"theirs":3,"both":3},"AccessToken":{"odd":7}}"#);
    let merged = json(&merge(&base, &ours, &theirs).blob);
    let expected = json!({"Foreign": {"same": 1, "ours": 2, "theirs": 3, "both": 3, "new": 2},
        "AccessToken": {"odd": 7, "odder": 6}, "Ours": [2], "Theirs": [3]});
    assert_eq!(merged, expected);
}

#[test]
fn two_credentials_that_chose_one_key_both_stay() {
    let entity =
        |user: &str| json!({"home_account_id": user, "environment": PUBLIC, "client_id": CLIENT, "secret": user});
    let with = |user: &str| blob(&json!({"RefreshToken": {"the key": entity(user)}}).to_string());
    let merged = merge(&TokenCacheBlob::empty(), &with("a.t"), &with("b.t")).blob;
    let merged = TokenCacheBlob::parse(&merged.serialize()).unwrap();
    assert_eq!(merged.refresh_tokens().map(|t| t.home_account_id).collect::<Vec<_>>(), ["b.t", "a.t"]);
}
