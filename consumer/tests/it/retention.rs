//! How long the log is kept is changed while it is in use, and the receipt of an erasure goes by it.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use testkit::servers::{PrivateRabbitMq, RabbitMqOptions as Broker, Vhost};

use crate::program::{Servers, text};
use crate::rig::{PATIENCE, Rig, random_events};

const RETAIN: &[&str] = &["topology", "retain", "--max-age", "30d"];

/// In how many days what the receipt is about has aged out; nothing where it never does.
async fn ages_out_in_days(servers: &Servers, rig: &Rig, management: Option<&str>) -> Option<i64> {
    let mut command = servers.command(&["account", "erase", "user-1.tenant", "--yes", "--json"]);
    command.env("TOKEN_CACHE_URL", rig.url()).envs(management.map(|url| ("ACTIVITY_LOG_MANAGEMENT_URL", url)));
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let receipts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let at: Timestamp = receipts[0]["ages_out_at"].as_str()?.parse().unwrap();
    Some((at.duration_since(Timestamp::now()) + SignedDuration::from_hours(1)).as_hours() / 24)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_log_is_kept_as_long_as_it_is_told() {
    let rig = Rig::embedded(1).await;
    rig.append_shuffled(&random_events(20, 5, 200), 200).await;
    let servers = Servers { log: Some(rig.url()), index: Some(rig.url()), ..Servers::default() };
    assert_eq!(ages_out_in_days(&servers, &rig, None).await, None);
    let output = servers.run(RETAIN).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(ages_out_in_days(&servers, &rig, None).await, Some(30));
    assert_eq!(servers.run(&["topology", "retain", "--max-age", "0s"]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_management_api_the_command_is_printed() {
    let vhost = Vhost::fresh().await;
    let servers = Servers { log: Some(vhost.amqp_url()), ..Servers::default() };
    let output = servers.run(RETAIN).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let command = text(&output.stdout);
    assert!(command.starts_with(&format!("rabbitmqctl set_policy --vhost '{}' ", vhost.name())), "{command}");
    assert!(command.trim_end().ends_with(r#"'{"max-age":"30D"}'"#) && !command.contains("guest"), "{command}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_management_api_sets_a_policy_that_holds_for_the_streams() {
    let plugins = vec!["rabbitmq_management".to_owned()];
    let broker = PrivateRabbitMq::start(Broker { plugins, ..Broker::default() }).await;
    let rig = Rig::embedded(1).await;
    let servers = Servers { log: Some(broker.url()), index: Some(rig.url()), ..Servers::default() };
    let declared = servers.run(&["topology", "--apply"]).await;
    assert!(declared.status.success(), "{}", text(&declared.stderr));
    let management = broker.management_url();
    let as_declared = || async { ages_out_in_days(&servers, &rig, Some(&management)).await == Some(100) };
    testkit::wait_until(PATIENCE, as_declared).await;

    let output = servers.command(RETAIN).env("ACTIVITY_LOG_MANAGEMENT_URL", &management).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let policies = broker.rabbitmqctl(&["list_policies"]).await;
    assert!(policies.contains("30D") && policies.contains("tokencache-activity-retention"), "{policies}");
    let by_policy = || async { ages_out_in_days(&servers, &rig, Some(&management)).await == Some(30) };
    testkit::wait_until(PATIENCE, by_policy).await;

    let wrong = management.replace("guest:guest", "guest:s3cret");
    let refused = servers.command(RETAIN).env("ACTIVITY_LOG_MANAGEMENT_URL", wrong).output().await.unwrap();
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("refuses this user") && !said.contains("s3cret"), "{said}");
}
