//! `consumer topology`: the log's partitions, and the one place that declares them.

use std::time::Duration;

use clap::{Args, Subcommand};
use common::backends::{Backends, GrowLogError};
use common::index::ActivityStore;
use common::log::{ActivityLog, Bounds, GrowError, MAX_PARTITIONS};
use common::output;
use common::program::{Outcome, WrongUsage};
use common::settings::span;
use consumer::gap::{headroom, kept_from};
use jiff::Timestamp;
use serde::Serialize;

/// Show the partitions of the log, or declare it
#[derive(Args)]
pub(super) struct Topology {
    #[command(subcommand)]
    what: Option<What>,
    /// Declare the exchange, streams and queues first; what is there already stays as it is
    #[arg(long)]
    apply: bool,
    /// Show how far the index has come, too
    #[arg(long)]
    index: bool,
    /// One JSON document instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Add partitions while everything runs; none is ever taken away
    Grow {
        /// How many there shall be in all
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PARTITIONS)))]
        partitions: u32,
    },
    /// Keep events for so long: of RabbitMQ by a policy, through --log-management-url or by a command that is printed
    Retain {
        /// The age, such as 120d
        #[arg(long, value_parser = max_age, value_name = "DURATION")]
        max_age: Duration,
    },
}

/// RabbitMQ counts in seconds.
fn max_age(text: &str) -> Result<Duration, String> {
    let age = span(text).map_err(|error| error.to_string())?;
    (age >= Duration::from_secs(1)).then_some(age).ok_or_else(|| "give 1s or more".to_owned())
}

#[derive(Serialize)]
struct PartitionView {
    partition: u32,
    first_offset: u64,
    next_offset: u64,
    /// The time of the oldest event that is kept.
    kept_from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<IndexView>,
}

#[derive(Serialize)]
struct IndexView {
    checkpoint: Option<u64>,
    /// Messages that are not applied.
    behind: u64,
    /// Until retention would reach what is not applied; nothing where nothing was ever cut off.
    headroom_seconds: Option<i64>,
}

impl Topology {
    pub(super) async fn run(self, backends: &Backends) -> anyhow::Result<Outcome> {
        if self.apply {
            backends.declare_log().await?;
        }
        match self.what {
            Some(What::Grow { partitions }) => grow(backends, partitions).await?,
            Some(What::Retain { max_age }) => {
                if let Some(command) = backends.set_log_retention(max_age).await? {
                    return self.by_hand(&command);
                }
            }
            None => {}
        }
        let log = backends.log().await?.log;
        let index = if self.index { Some(backends.index().await?) } else { None };
        let partitions = look(log.as_ref(), index.as_deref()).await?;
        if self.json {
            output::json(&partitions)?;
        } else {
            output::table(&PartitionView::HEADINGS, partitions.iter().map(PartitionView::row));
        }
        Ok(Outcome::Done)
    }
}

impl Topology {
    /// Prints what an operator has to run. Nothing is changed yet, so it is not done.
    fn by_hand(&self, command: &str) -> anyhow::Result<Outcome> {
        if self.json {
            output::json(&serde_json::json!({ "command": command }))?;
        } else {
            output::line(command);
        }
        Ok(Outcome::Done)
    }
}

async fn grow(backends: &Backends, partitions: u32) -> anyhow::Result<()> {
    match backends.grow_log(partitions).await {
        Err(GrowLogError::Grow(fewer @ GrowError::Fewer { .. })) => Err(WrongUsage(fewer.to_string()).into()),
        grown => Ok(grown.map(drop)?),
    }
}

async fn look(log: &dyn ActivityLog, index: Option<&dyn ActivityStore>) -> anyhow::Result<Vec<PartitionView>> {
    let mut partitions = Vec::new();
    for partition in 0..log.partitions().await? {
        let Bounds { first, next } = log.bounds(partition).await?;
        let kept_from = if first < next { kept_from(log, partition).await? } else { None };
        let index = match index {
            Some(index) => Some(IndexView::of(log, index, partition, next).await?),
            None => None,
        };
        partitions.push(PartitionView { partition, first_offset: first, next_offset: next, kept_from, index });
    }
    Ok(partitions)
}

impl IndexView {
    async fn of(log: &dyn ActivityLog, index: &dyn ActivityStore, partition: u32, next: u64) -> anyhow::Result<Self> {
        let checkpoint = index.checkpoint(partition).await?.map(|checkpoint| checkpoint.next_offset);
        let headroom_seconds = headroom(log, index, partition).await?.map(|headroom| headroom.as_secs());
        Ok(Self { checkpoint, behind: next.saturating_sub(checkpoint.unwrap_or(0)), headroom_seconds })
    }
}

impl PartitionView {
    const HEADINGS: [&'static str; 7] =
        ["PARTITION", "FIRST OFFSET", "NEXT OFFSET", "KEPT FROM", "CHECKPOINT", "BEHIND", "HEADROOM"];

    fn row(&self) -> Vec<String> {
        let index = self.index.as_ref();
        vec![
            self.partition.to_string(),
            self.first_offset.to_string(),
            self.next_offset.to_string(),
            self.kept_from.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}")),
            shown(index.and_then(|index| index.checkpoint)),
            shown(index.map(|index| index.behind)),
            index.and_then(|index| index.headroom_seconds).map_or_else(|| "-".to_owned(), |left| format!("{left} s")),
        ]
    }
}

fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}
