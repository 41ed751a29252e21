//! `consumer topology`: the log's partitions, and the one place that declares them.

use clap::{Args, Subcommand};
use common::backends::Backends;
use common::log::{ActivityLog, Bounds};
use common::output;
use common::program::Outcome;
use serde::Serialize;

use super::grow::Grow;

/// Show the partitions of the log, declare it, or give it more partitions
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Topology {
    #[command(subcommand)]
    change: Option<Change>,
    /// Declare the exchange, streams and queues first; what is there already stays as it is
    #[arg(long)]
    apply: bool,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Change {
    /// Add partitions while everything runs
    Grow(Grow),
}

#[derive(Serialize)]
struct PartitionView {
    partition: u32,
    first_offset: u64,
    next_offset: u64,
}

impl Topology {
    pub(super) async fn run(self, backends: &Backends) -> anyhow::Result<Outcome> {
        if let Some(Change::Grow(grow)) = self.change {
            return grow.run(backends).await;
        }
        if self.apply {
            backends.declare_log().await?;
        }
        let partitions = look(backends.log().await?.log.as_ref()).await?;
        if self.json {
            output::json(&partitions)?;
        } else {
            output::table(&["PARTITION", "FIRST OFFSET", "NEXT OFFSET"], partitions.iter().map(PartitionView::row));
        }
        Ok(Outcome::Done)
    }
}

async fn look(log: &dyn ActivityLog) -> anyhow::Result<Vec<PartitionView>> {
    let mut partitions = Vec::new();
    for partition in 0..log.partitions().await? {
        let Bounds { first, next } = log.bounds(partition).await?;
        partitions.push(PartitionView { partition, first_offset: first, next_offset: next });
    }
    Ok(partitions)
}

impl PartitionView {
    fn row(&self) -> Vec<String> {
        vec![self.partition.to_string(), self.first_offset.to_string(), self.next_offset.to_string()]
    }
}
