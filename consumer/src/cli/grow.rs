//! `consumer topology grow`: more partitions for a log in use.

use clap::Args;
use common::backends::{Backends, GrowLogError};
use common::log::{GrowError, MAX_PARTITIONS};
use common::output;
use common::program::{Outcome, WrongUsage};
use serde::Serialize;

/// Add partitions to the log while everything runs; none is ever taken away
#[derive(Args)]
pub(super) struct Grow {
    /// How many there are to be
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PARTITIONS)))]
    partitions: u32,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct GrownView {
    before: u32,
    partitions: u32,
    added: Vec<u32>,
}

impl Grow {
    pub(super) async fn run(self, backends: &Backends) -> anyhow::Result<Outcome> {
        let grown = backends.grow_log(self.partitions).await.map_err(in_words)?;
        let added = (grown.before..grown.partitions).collect();
        let view = GrownView { before: grown.before, partitions: grown.partitions, added };
        if self.json {
            output::json(&view)?;
        } else {
            output::fields(&[("before", view.before.to_string()), ("partitions", view.partitions.to_string())]);
        }
        Ok(Outcome::Done)
    }
}

/// A number that no log could be given is a matter of usage.
fn in_words(error: GrowLogError) -> anyhow::Error {
    match error {
        GrowLogError::Grow(refused @ (GrowError::Fewer { .. } | GrowError::TooMany)) => {
            WrongUsage(refused.to_string()).into()
        }
        error => error.into(),
    }
}
