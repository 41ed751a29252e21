//! What a projector says of itself to an orchestrator and a metrics collector.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::{PartitionState, PartitionStatus, ProjectorStatus};
use crate::health::{Health, Kind, Metrics, Readiness};

/// Ready while all partitions are followed that are its own, even none.
impl Health for watch::Receiver<ProjectorStatus> {
    async fn readiness(&self) -> Readiness {
        let status = self.borrow();
        match (status.is_ready(), status.is_standby()) {
            (true, true) => Readiness::Ready("standby"),
            (true, false) => Readiness::Ready("ok"),
            (false, _) => Readiness::Not(reasons(&status)),
        }
    }

    fn metrics(&self, metrics: &mut Metrics) {
        write_down(&self.borrow(), Timestamp::now(), metrics);
    }
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

fn write_down(status: &ProjectorStatus, now: Timestamp, metrics: &mut Metrics) {
    let ready = u8::from(status.is_ready());
    metrics.one("projector_ready", Kind::Gauge, "1 while all partitions are followed that are its own.", ready);
    if let Some(sharing) = &status.sharing {
        let help = "Projectors that share the partitions; 0 while that is unknown.";
        metrics.one("projector_members", Kind::Gauge, help, sharing.members);
        let help = "Partitions that are this projector's.";
        metrics.one("projector_partitions_held", Kind::Gauge, help, sharing.mine.len());
    }
    let of_each = |value: fn(&PartitionStatus, Timestamp) -> Option<f64>| {
        let values = status.followed().map(move |(n, partition)| (label(n), value(partition, now)));
        values.filter_map(|(label, value)| value.map(|value| (label, value)))
    };
    metrics.add(
        "projector_lag_seconds",
        Kind::Gauge,
        "Age of the newest applied event while the log has more.",
        of_each(|p, now| Some(seconds(p.lag(now)))),
    );
    metrics.add("projector_headroom_seconds", Kind::Gauge, "Time until the log's retention reaches what is not applied, if nothing more is applied; absent where nothing was ever cut.", of_each(|p, _| p.headroom.map(seconds)));
    metrics.add(
        "projector_gap",
        Kind::Gauge,
        "1 where the log no longer has what comes next.",
        of_each(|p, _| Some(f64::from(u8::from(p.gap.is_some())))),
    );
    metrics.add(
        "projector_lost_ends_total",
        Kind::Counter,
        "How often the log was found to have lost its end, and was read again from further back.",
        of_each(|p, _| Some(p.lost_ends as f64)),
    );
    let next_offsets = of_each(|p, _| Some(p.next_offset as f64));
    metrics.add("projector_next_offset", Kind::Gauge, "The checkpoint.", next_offsets);
    metrics.add(
        "projector_events_applied_total",
        Kind::Counter,
        "Events applied, those read again included.",
        of_each(|p, _| Some(p.events_applied as f64)),
    );
    let refused = status.partitions.iter().flat_map(|(n, partition)| {
        partition
            .refused
            .iter()
            .map(move |(reason, count)| (format!("{{partition=\"{n}\",reason=\"{reason}\"}}"), *count))
    });
    let help = "Events and messages parked in the dead letters.";
    metrics.add("projector_refused_total", Kind::Counter, help, refused);
}

fn label(partition: u32) -> String {
    format!("{{partition=\"{partition}\"}}")
}

fn seconds(duration: SignedDuration) -> f64 {
    duration.as_secs_f64()
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
            lost_ends: 1,
            events_applied: 12,
            refused: BTreeMap::from([("field", 2)]),
            headroom: Some(SignedDuration::from_secs(90)),
            ..PartitionStatus::default()
        };
        let status = ProjectorStatus { partitions: BTreeMap::from([(3, partition)]), ..ProjectorStatus::default() };
        let mut metrics = Metrics::default();
        write_down(&status, Timestamp::UNIX_EPOCH, &mut metrics);
        let text = metrics.into_text();
        for line in [
            "projector_ready 1",
            "projector_lag_seconds{partition=\"3\"} 0",
            "projector_headroom_seconds{partition=\"3\"} 90",
            "projector_gap{partition=\"3\"} 0",
            "projector_lost_ends_total{partition=\"3\"} 1",
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
