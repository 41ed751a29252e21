//! The commands `hydrate` and `account doctor`, as an operator runs them.

use std::process::{Output, Stdio};
use std::time::Duration;

use common::account::CacheKey;
use common::event::FailureReason;
use serde_json::Value;
use testkit::identity_provider::{Fault, FaultRule};
use testkit::wait_until;
use tokio::process::Command;

use super::rig::{ADA, CLIENT, GRACE, Rig, SECRET, TENANT, strict};
use crate::program::text;

const PATIENCE: Duration = Duration::from_secs(60);

fn command(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consumer"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).env("LOGS", "warn");
    for variable in ["ACTIVITY_LOG_URL", "ACTIVITY_INDEX_URL", "TOKEN_CACHE_URL"] {
        command.env(variable, rig.url());
    }
    command
}

fn with_provider(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = command(rig, arguments);
    command.envs([
        ("IDP_AUTHORITY", rig.provider.base_url()),
        ("IDP_TENANT", TENANT),
        ("IDP_CLIENT_ID", CLIENT),
        ("IDP_CLIENT_SECRET", SECRET),
        ("IDP_ENVIRONMENT", "login.microsoftonline.com"),
    ]);
    command
}

/// Runs a command that ends with this code; gives its output and, of JSON, the document.
async fn ends(mut command: Command, code: i32) -> (Output, Value) {
    let output = command.output().await.unwrap();
    let said = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, json)
}

async fn rig() -> (Rig, CacheKey, CacheKey) {
    let rig = Rig::embedded(strict()).await;
    let (ada, grace) = (rig.sign_in(ADA).await.key, rig.sign_in(GRACE).await.key);
    (rig, ada, grace)
}

const ACTIVE: [&str; 5] = ["hydrate", "active", "--since", "1h", "--json"];

#[tokio::test]
async fn hydrate_says_what_became_of_everybody() {
    let (rig, ada, grace) = rig().await;
    let (_, report) = ends(with_provider(&rig, &ACTIVE), 0).await;
    assert_eq!(
        (&report["accounts"], &report["hydrated"], &report["outcomes"]["still_valid"]),
        (&2.into(), &0.into(), &2.into())
    );
    rig.age(&ada).await;
    rig.age(&grace).await;
    rig.provider.inject(FaultRule::from(Fault::InteractionRequired { claims: None }).for_user(ADA));
    let (_, report) = ends(with_provider(&rig, &ACTIVE), 3).await;
    assert_eq!((&report["hydrated"], &report["failed"]), (&1.into(), &1.into()));
    assert_eq!(report["examples"][0]["cache_key"], ada.as_str());
    assert!(report["examples"][0]["detail"].as_str().unwrap().contains("sign in again"), "{report}");
    assert_eq!(rig.events().await.len(), 2);

    let (output, _) = ends(with_provider(&rig, &["hydrate", "idle", "--for", "0s"]), 0).await;
    let table = text(&output.stdout);
    assert!(table.contains("skipped parked") && table.contains("still valid"), "{table}");
    rig.provider.clear_faults();
    let (output, _) = ends(with_provider(&rig, &["hydrate", "user", "ADA@contoso.com"]), 0).await;
    assert!(text(&output.stdout).contains("hydrated"), "who is asked for by name is tried");
    let (_, report) = ends(with_provider(&rig, &["hydrate", "account", ada.as_str(), "--force", "--json"]), 0).await;
    assert_eq!(report["hydrated"], 1);
}

#[tokio::test]
async fn hydrate_that_cannot_do_its_work_at_all_fails() {
    let (rig, ada, grace) = rig().await;
    let (output, _) = ends(command(&rig, &ACTIVE), 2).await;
    assert!(text(&output.stderr).contains("IDP_CLIENT_ID"));
    let mut no_secret = command(&rig, &ACTIVE);
    no_secret.env("IDP_CLIENT_ID", CLIENT);
    let (output, _) = ends(no_secret, 2).await;
    assert!(text(&output.stderr).contains("IDP_CLIENT_SECRET"));
    let mut nowhere = with_provider(&rig, &ACTIVE);
    nowhere.env("IDP_AUTHORITY", "http://127.0.0.1:1");
    ends(nowhere, 1).await;

    rig.age(&ada).await;
    rig.age(&grace).await;
    let mut wrong = with_provider(&rig, &ACTIVE);
    wrong.env("IDP_CLIENT_SECRET", "another-secret");
    let (output, report) = ends(wrong, 1).await;
    assert_eq!(report["outcomes"]["identity_provider_unavailable"], 2);
    assert!(report["examples"][0]["detail"].as_str().unwrap().contains("check the client secret"), "{report}");
    assert!(!text(&output.stderr).contains("another-secret"));
}

#[tokio::test]
async fn hydrate_told_to_stop_ends_what_it_began() {
    let (rig, ada, grace) = rig().await;
    rig.age(&ada).await;
    rig.age(&grace).await;
    rig.provider.inject(Fault::Delay { millis: 500 });
    let before = rig.refreshes();
    let mut command = with_provider(&rig, &ACTIVE);
    let child = command.args(["--concurrency", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id().unwrap().to_string();
    wait_until(PATIENCE, async || rig.is_locked(&grace).await).await;
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert_eq!(
        (&report["accounts"], &report["hydrated"], &report["is_cut_short"]),
        (&1.into(), &1.into(), &true.into())
    );
    assert_eq!((rig.refreshes() - before, rig.events().await.len()), (1, 1), "what was refreshed is written back");
}

async fn examined(rig: &Rig, whom: &str, code: i32) -> Value {
    let (output, report) = ends(command(rig, &["account", "doctor", whom, "--json"]), code).await;
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    let (plain, _) = ends(command(rig, &["account", "doctor", whom]), code).await;
    for shown in [said, text(&plain.stdout)] {
        assert!(rig.provider.secrets_seen().len() >= 6, "they are recorded");
        for secret in rig.provider.secrets_seen() {
            assert!(!shown.contains(&secret), "{shown}");
        }
    }
    assert_eq!(report["accounts"].as_array().unwrap().len(), 1);
    report["accounts"][0].clone()
}

#[tokio::test]
async fn the_doctor_finds_an_account_by_key_and_by_username_and_says_that_all_is_well() {
    let (rig, ada, _) = rig().await;
    for whom in [ada.as_str(), "Ada@Contoso.com"] {
        let report = examined(&rig, whom, 0).await;
        assert_eq!((&report["cache_key"], &report["verdict"]), (&ada.as_str().into(), &"valid".into()));
        assert!(report["summary"].as_str().unwrap().contains("is valid until"), "{report}");
        assert_eq!((&report["layout"], &report["blob"]["is_stored"]), (&"sqlite".into(), &true.into()));
        assert!(report["blob"]["bytes"].as_u64().unwrap() > 1000);
        assert_eq!(report["blob"]["refresh_tokens"].as_array().unwrap().len(), 1);
        assert_eq!(report["index"]["state"], "ready");
    }
    rig.age(&ada).await;
    let report = examined(&rig, ADA, 0).await;
    assert_eq!(report["verdict"], "refreshable");
}

#[tokio::test]
async fn the_doctor_says_why_there_is_no_token_and_what_to_do() {
    let (rig, ada, grace) = rig().await;
    let of_ada = rig.cache.store.read(&ada).await.unwrap().unwrap();
    let said = async |whom: &CacheKey, verdict: &str, parts: &[&str]| {
        let report = examined(&rig, whom.as_str(), 3).await;
        assert_eq!(report["verdict"], verdict, "{report}");
        let all = report.to_string();
        for part in parts {
            assert!(all.contains(part), "{part} is not in {report:#}");
        }
    };
    rig.put(&grace, &of_ada).await;
    said(&grace, "no", &["is of", ada.as_str(), "find out who writes under this key"]).await;
    rig.put(&grace, b"\x09\xF0\xC9\xF0...").await;
    said(&grace, "no", &["Data Protection", "\"unreadable\":\"undecryptable\"", "Encrypt"]).await;
    rig.put(&grace, b"no json").await;
    said(&grace, "no", &["not JSON", "\"unreadable\":\"malformed_cache\""]).await;
    rig.put(&grace, b"{}").await;
    said(&grace, "no", &["there is no refresh token", "offline_access"]).await;
    rig.cache.store.remove(&grace, None).await.unwrap();
    said(&grace, "no", &["no token cache is stored", "TOKEN_CACHE_INSTANCE_NAME"]).await;
    said(&"nobody.nowhere".parse().unwrap(), "no", &["the index does not know", "projector"]).await;

    rig.age(&ada).await;
    rig.provider.inject(FaultRule::from(Fault::TooManyRequests { retry_after_seconds: 600 }).times(1));
    rig.hydrate().await;
    rig.events().await;
    said(&ada, "later", &["throttled", "may be asked again", "pause is over"]).await;
    let mut details = rig.account(&ada).await.details.unwrap().value;
    details.client_id = "another-app".parse().unwrap();
    rig.list(&ada, &details).await;
    let mut own = command(&rig, &["account", "doctor", ada.as_str(), "--json"]);
    own.env("IDP_CLIENT_ID", CLIENT);
    let (_, report) = ends(own, 3).await;
    assert!(report.to_string().contains("belongs to the app another-app"), "{report}");
}

#[tokio::test]
async fn the_doctor_tries_only_when_told_to() {
    let (rig, ada, _) = rig().await;
    rig.age(&ada).await;
    let before = rig.refreshes();
    ends(with_provider(&rig, &["account", "doctor", ADA]), 0).await;
    assert_eq!((rig.refreshes(), rig.events().await.len()), (before, 0), "looking changes nothing");
    let (_, report) = ends(with_provider(&rig, &["account", "doctor", ADA, "--try", "--json"]), 0).await;
    let examined = &report["accounts"][0];
    assert_eq!((&examined["attempt"]["outcome"], &examined["verdict"]), (&"hydrated".into(), &"valid".into()));
    assert_eq!((rig.refreshes() - before, rig.events().await.len()), (1, 1));
    rig.age(&ada).await;
    rig.provider.revoke(ADA);
    let (output, _) = ends(with_provider(&rig, &["account", "doctor", ADA, "--try"]), 3).await;
    let said = text(&output.stdout);
    assert!(said.contains("tried now: revoked: ") && said.contains("revoked or expired"), "{said}");
    assert_eq!(rig.failures().await[0].reason, FailureReason::Revoked);
    let (output, _) = ends(command(&rig, &["account", "doctor", ADA, "--try"]), 2).await;
    assert!(text(&output.stderr).contains("IDP_CLIENT_ID"));
}
