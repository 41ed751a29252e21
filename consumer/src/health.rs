//! What an orchestrator and a metrics collector ask a projector: `/livez`, `/readyz`, `/metrics`.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::projector::{PartitionState, PartitionStatus, ProjectorStatus};

type Status = watch::Receiver<ProjectorStatus>;

/// Answers until `shutdown`.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, status: Status, shutdown: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(status);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// 200 while all partitions are followed that are its own, even none; else 503 and a line for each reason.
async fn readyz(State(status): State<Status>) -> (StatusCode, String) {
    let status = status.borrow();
    if status.is_ready() {
        let word = if status.is_standby() { "standby\n" } else { "ok\n" };
        return (StatusCode::OK, word.to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons(&status))
}

fn reasons(status: &ProjectorStatus) -> String {
    let mut reasons = String::new();
    if let Some(why) = &status.trouble {
        let _ = writeln!(reasons, "{why}");
    }
    for (partition, PartitionStatus { state, .. }) in status.followed() {
        let why = match state {
            PartitionState::Following | PartitionState::Ceded => continue,
            PartitionState::Opening => "opening",
            PartitionState::Paused { why } | PartitionState::Stopped { why: Some(why) } => why,
            PartitionState::Stopped { why: None } => "stopped",
        };
        let _ = writeln!(reasons, "partition {partition}: {why}");
    }
    if reasons.is_empty() {
        reasons.push_str("the partitions of the log are not known yet\n");
    }
    reasons
}

/// In the text format of Prometheus.
async fn metrics(State(status): State<Status>) -> String {
    text(&status.borrow(), Timestamp::now())
}

fn text(status: &ProjectorStatus, now: Timestamp) -> String {
    let mut text = Text(String::new());
    let ready = u8::from(status.is_ready());
    text.metric(
        "projector_ready",
        "gauge",
        "1 while all partitions are followed that are its own.",
        [(String::new(), ready)],
    );
    if let Some(sharing) = &status.sharing {
        let members = [(String::new(), sharing.members)];
        text.metric(
            "projector_members",
            "gauge",
            "Projectors that share the partitions; 0 while that is unknown.",
            members,
        );
        let held = [(String::new(), sharing.mine.len())];
        text.metric("projector_partitions_held", "gauge", "Partitions that are this projector's.", held);
    }
    let of_each = |value: fn(&PartitionStatus, Timestamp) -> Option<f64>| {
        let values = status.followed().map(move |(n, partition)| (label(n), value(partition, now)));
        values.filter_map(|(label, value)| value.map(|value| (label, value)))
    };
    text.metric(
        "projector_lag_seconds",
        "gauge",
        "Age of the newest applied event while the log has more.",
        of_each(|p, now| Some(seconds(p.lag(now)))),
    );
    text.metric("projector_headroom_seconds", "gauge", "Time until the log's retention reaches what is not applied, if nothing more is applied; absent where nothing was ever cut.", of_each(|p, _| p.headroom.map(seconds)));
    text.metric(
        "projector_gap",
        "gauge",
        "1 where the log no longer has what comes next.",
        of_each(|p, _| Some(f64::from(u8::from(p.gap.is_some())))),
    );
    text.metric("projector_next_offset", "gauge", "The checkpoint.", of_each(|p, _| Some(p.next_offset as f64)));
    text.metric(
        "projector_events_applied_total",
        "counter",
        "Events applied, those read again included.",
        of_each(|p, _| Some(p.events_applied as f64)),
    );
    let refused = status.partitions.iter().flat_map(|(n, partition)| {
        partition
            .refused
            .iter()
            .map(move |(reason, count)| (format!("{{partition=\"{n}\",reason=\"{reason}\"}}"), *count))
    });
    text.metric("projector_refused_total", "counter", "Events and messages parked in the dead letters.", refused);
    text.0
}

fn label(partition: u32) -> String {
    format!("{{partition=\"{partition}\"}}")
}

fn seconds(duration: SignedDuration) -> f64 {
    duration.as_secs_f64()
}

struct Text(String);

impl Text {
    fn metric<V: std::fmt::Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (String, V)>,
    ) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_metrics_say_what_the_status_says() {
        let partition = PartitionStatus {
            state: PartitionState::Following,
            next_offset: 7,
            events_applied: 12,
            refused: BTreeMap::from([("field", 2)]),
            headroom: Some(SignedDuration::from_secs(90)),
            ..PartitionStatus::default()
        };
        let status = ProjectorStatus { partitions: BTreeMap::from([(3, partition)]), ..ProjectorStatus::default() };
        let text = text(&status, Timestamp::UNIX_EPOCH);
        for line in [
            "projector_ready 1",
            "projector_lag_seconds{partition=\"3\"} 0",
            "projector_headroom_seconds{partition=\"3\"} 90",
            "projector_gap{partition=\"3\"} 0",
            "projector_next_offset{partition=\"3\"} 7",
            "projector_events_applied_total{partition=\"3\"} 12",
            "projector_refused_total{partition=\"3\",reason=\"field\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn who_is_not_ready_says_why() {
        assert_eq!(reasons(&ProjectorStatus::default()), "the partitions of the log are not known yet\n");
        let partition = PartitionStatus {
            state: PartitionState::Paused { why: "the index is away".to_owned() },
            ..PartitionStatus::default()
        };
        let status = ProjectorStatus { partitions: BTreeMap::from([(0, partition)]), ..ProjectorStatus::default() };
        assert_eq!(reasons(&status), "partition 0: the index is away\n");
    }
}
