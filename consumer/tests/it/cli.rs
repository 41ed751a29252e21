//! Wrong settings, missing servers and broken files: one clear line, the right exit code, no panic.

use std::process::Output;

use testkit::servers::{KeyPrefix, Vhost};

use crate::program::{Servers, text};

/// Checks that a command failed with this code, and gives the one line it said.
fn complaint(output: &Output, code: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    said
}

fn on_index(url: &str) -> Servers {
    Servers { index: Some(url.to_owned()), ..Servers::default() }
}

fn on_log(url: &str) -> Servers {
    Servers { log: Some(url.to_owned()), ..Servers::default() }
}

#[tokio::test]
async fn a_url_of_the_wrong_kind_is_wrong_usage() {
    let output = on_index("amqp://guest:s3cret@127.0.0.1").run(&["query", "counts"]).await;
    let said = complaint(&output, 2);
    assert!(said.contains("--index-url (ACTIVITY_INDEX_URL)") && said.contains("redis://"), "{said}");
    let said = complaint(&on_index("not a url with s3cret").run(&["query", "counts"]).await, 2);
    assert!(!said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn wrong_arguments_are_wrong_usage() {
    for arguments in [&["query", "active"][..], &["query", "active", "--since", "yesterday"], &["frobnicate"], &[]] {
        let output = Servers::default().run(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_without_its_password() {
    let said = complaint(&on_index("redis://user:s3cret@127.0.0.1:1").run(&["query", "counts"]).await, 1);
    assert!(said.contains("redis://127.0.0.1:1") && !said.contains("s3cret"), "{said}");
    let said = complaint(&on_log("amqp://user:s3cret@127.0.0.1:1/%2f").run(&["topology", "--apply"]).await, 1);
    assert!(said.contains("amqp://127.0.0.1:1") && !said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn refused_credentials_are_said_to_be_that() {
    let broker = testkit::servers::amqp_url().await;
    let said = complaint(&on_log(&with_password(&broker, "wr0ng")).run(&["topology", "--apply"]).await, 1);
    assert!(said.contains("user or password") && !said.contains("wr0ng"), "{said}");
}

async fn declare_classic_queue(broker: &str, name: &str) {
    let connection = lapin::Connection::connect(broker, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), options, lapin::types::FieldTable::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
}

fn with_password(url: &url::Url, password: &str) -> String {
    let mut url = url.clone();
    url.set_password(Some(password)).unwrap();
    url.to_string()
}

#[tokio::test]
async fn a_queue_of_another_kind_is_named_with_what_to_do() {
    let vhost = Vhost::fresh().await;
    declare_classic_queue(&vhost.amqp_url(), "tokencache.activity-0").await;
    let said = complaint(&on_log(&vhost.amqp_url()).run(&["topology", "--apply"]).await, 1);
    assert!(said.contains("tokencache.activity-0") && said.contains("another kind"), "{said}");
}

#[tokio::test]
async fn a_log_that_is_not_declared_is_said_to_be_that() {
    let vhost = Vhost::fresh().await;
    let said = complaint(&on_log(&vhost.amqp_url()).run(&["topology"]).await, 1);
    assert!(said.contains("topology --apply"), "{said}");
}

#[tokio::test]
async fn a_broken_file_is_said_to_be_that_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.sqlite");
    std::fs::write(&path, "this is no database, but somebody's notes").unwrap();
    let servers = on_index(&format!("sqlite://{}", path.display()));
    let said = complaint(&servers.run(&["query", "counts"]).await, 1);
    assert!(said.contains("not an SQLite database"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "this is no database, but somebody's notes");
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_said_to_be_that() {
    let said = complaint(&on_index("sqlite:///no/such/folder/index.sqlite").run(&["query", "counts"]).await, 1);
    assert!(said.contains("folder exists"), "{said}");
}

#[tokio::test]
async fn an_account_nobody_knows_is_an_error_and_an_empty_list_is_not() {
    let prefix = KeyPrefix::fresh().await;
    let servers = Servers {
        index: Some(prefix.redis_url().to_owned()),
        index_prefix: Some(prefix.as_str().to_owned()),
        ..Servers::default()
    };
    let said = complaint(&servers.run(&["account", "show", "nobody.nowhere"]).await, 1);
    assert!(said.contains("no account"), "{said}");
    let page = servers.json(&["query", "idle", "--for", "0s", "--json"]).await;
    assert_eq!(page, serde_json::json!({"accounts": [], "next": null}));
}

#[tokio::test]
async fn partitions_are_added_by_command_and_shown_with_the_index() {
    let (vhost, prefix, folder) = (Vhost::fresh().await, KeyPrefix::fresh().await, tempfile::tempdir().unwrap());
    let file = format!("sqlite://{}", folder.path().join("all.sqlite").display());
    let on_servers = Servers {
        log: Some(vhost.amqp_url()),
        index: Some(prefix.redis_url().to_owned()),
        index_prefix: Some(prefix.as_str().to_owned()),
    };
    for servers in [on_servers, Servers { log: Some(file.clone()), index: Some(file), ..Servers::default() }] {
        servers.json(&["topology", "--apply", "--json"]).await;
        let grown = servers.json(&["topology", "grow", "--partitions", "3", "--json"]).await;
        assert_eq!(grown.as_array().unwrap().len(), 3);
        let shown = servers.json(&["topology", "--index", "--json"]).await;
        let empty = serde_json::json!({
            "partition": 2, "first_offset": 0, "next_offset": 0, "kept_from": null,
            "index": {"checkpoint": null, "behind": 0, "headroom_seconds": null},
        });
        assert_eq!(shown[2], empty);
        let said = complaint(&servers.run(&["topology", "grow", "--partitions", "2"]).await, 2);
        assert!(said.contains("has 3 partitions"), "{said}");
    }
}
