//! The program `demo`: everybody who signs in is found again, on one file and on real servers.

use std::process::Stdio;

use serde_json::Value;
use testkit::servers::{KeyPrefix, Vhost};
use tokio::process::Command;

async fn report(settings: &[(&str, &str)], users: u64) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["demo", "--json", "--users", &users.to_string()])
        .env_remove("ACTIVITY_LOG_URL")
        .env_remove("ACTIVITY_INDEX_URL")
        .env_remove("TOKEN_CACHE_URL")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn assert_nobody_is_lost(report: &Value, users: u64) {
    for field in ["users", "accounts_indexed", "hydrated"] {
        assert_eq!(report[field], users, "{field}: {report}");
    }
    for field in ["cache_writes", "events_emitted", "events_projected"] {
        assert!(report[field].as_u64().unwrap() >= users, "{field}: {report}");
    }
    assert_eq!(report["lost"], 0, "{report}");
}

#[tokio::test]
async fn without_a_server_everybody_who_signs_in_is_found_again() {
    let report = report(&[], 100).await;
    assert_nobody_is_lost(&report, 100);
    assert!(report["log"].as_str().unwrap().starts_with("sqlite://"), "{report}");
}

#[tokio::test]
async fn on_rabbitmq_and_redis_everybody_who_signs_in_is_found_again() {
    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    let settings = [
        ("ACTIVITY_LOG_URL", vhost.amqp_url()),
        ("ACTIVITY_INDEX_URL", prefix.redis_url().to_owned()),
        ("TOKEN_CACHE_URL", prefix.redis_url().to_owned()),
        ("ACTIVITY_INDEX_PREFIX", format!("{}index:", prefix.as_str())),
        ("TOKEN_CACHE_INSTANCE_NAME", format!("{}cache:", prefix.as_str())),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for layout in ["aspnet", "string"] {
        let with_layout = [settings.clone(), vec![("TOKEN_CACHE_LAYOUT", layout)]].concat();
        assert_nobody_is_lost(&report(&with_layout, 50).await, 50);
    }
}
