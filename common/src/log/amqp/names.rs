//! The names of DESIGN's topology, which foreign producers and operators know too.

/// The exchange everything is published to, with the partition's number as the routing key.
pub(super) const EXCHANGE: &str = "tokencache.activity";
/// The fanout exchange dead letters are published to, and the quorum queue bound to it.
pub(super) const DEAD_LETTERS: &str = "tokencache.activity.dead";
/// The fanout exchange, and the quorum queue bound to it, for what no stream takes.
pub(super) const UNROUTED: &str = "tokencache.activity.unrouted";

/// The routing key of signals that an account needs its user: apps bind queues of their own to the exchange by it.
pub(super) const REAUTHENTICATION_KEY: &str = "reauthentication-required";
/// The stream that keeps these signals, so that one that nobody else wants has a place to go.
pub(super) const REAUTHENTICATION: &str = "tokencache.activity.reauthentication-required";

/// An empty queue that is there once the stream of a partition takes what is published: who may write to the exchange and
/// read nothing else can see by it that the partition is there.
pub(super) fn marker(partition: u32) -> String {
    format!("{EXCHANGE}.partition-{partition}")
}

/// The stream of a partition.
pub(super) fn stream(partition: u32) -> String {
    format!("{EXCHANGE}-{partition}")
}
