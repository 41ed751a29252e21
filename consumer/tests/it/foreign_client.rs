//! A client in another language publishes events; the program projects them and answers from them.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::servers::{KeyPrefix, Vhost};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::program::Servers;

const PATIENCE: Duration = Duration::from_secs(30);

fn event(username: &str) -> Value {
    json!({
        "specversion": "1.0",
        "id": uuid::Uuid::new_v4().to_string(),
        "source": "/apps/python",
        "type": "tokencache.user-activity.v1",
        "subject": format!("{username}.utid"),
        "time": "2026-11-22T10:00:00Z",
        "data": {
            "home_account_id": format!("{username}.utid"),
            "environment": "login.microsoftonline.com",
            "client_id": "client",
            "username": format!("{username}@contoso.com"),
            "has_refresh_token": true,
        },
    })
}

/// Publishes each line as one message with pika, and waits for the broker's confirm.
async fn publish(broker: &str, bodies: &[String]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/python/publish_events.py");
    let mut python = Command::new(testkit::python::interpreter())
        .arg(script)
        .env("AMQP_URL", broker)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(bodies.join("\n").as_bytes()).await.unwrap();
    assert!(python.wait().await.unwrap().success());
}

async fn found(servers: &Servers, username: &str) -> Value {
    servers.json(&["query", "user", &format!("{username}@CONTOSO.com"), "--json"]).await["accounts"].take()
}

async fn wait_for_user(servers: &Servers, username: &str) -> Value {
    testkit::wait_for(PATIENCE, || async {
        let accounts = found(servers, username).await;
        (accounts.as_array().unwrap().len() == 1).then_some(accounts)
    })
    .await
}

#[tokio::test]
async fn an_event_of_a_python_client_is_found_and_a_malformed_one_is_parked() {
    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    let servers = Servers {
        log: Some(vhost.amqp_url()),
        index: Some(prefix.redis_url().to_owned()),
        index_prefix: Some(prefix.as_str().to_owned()),
    };
    servers.json(&["topology", "--apply", "--json"]).await;
    let mut projector = servers.start(&["project"]);

    let mut malformed = event("broken");
    malformed["data"]["has_refresh_token"] = json!("yes");
    publish(&vhost.amqp_url(), &[event("alice").to_string(), malformed.to_string(), "{".to_owned()]).await;
    publish(&vhost.amqp_url(), &[event("bob").to_string()]).await;

    let alice = wait_for_user(&servers, "alice").await;
    assert_eq!(alice[0]["home_account_id"], "alice.utid");
    assert_eq!(alice[0]["tenant_id"], "utid");
    assert_eq!(alice[0]["state"], "ready");
    wait_for_user(&servers, "bob").await;
    assert_eq!(found(&servers, "broken").await, json!([]));

    let parked = crate::program::parked(&vhost.amqp_url()).await;
    let reasons: Vec<(u64, &str)> = parked.iter().map(|letter| (letter.offset, letter.reason.as_str())).collect();
    assert_eq!(reasons, [(1, "field"), (2, "not_json")]);
    assert!(parked[0].detail.starts_with("data.has_refresh_token"), "{}", parked[0].detail);
    assert_eq!(parked[1].raw, b"{");
    assert!(projector.try_wait().unwrap().is_none(), "the projector goes on");
}
