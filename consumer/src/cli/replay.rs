//! `consumer replay`: applies part of the log to the live index again.

use std::str::FromStr;

use clap::Args;
use common::account::{CacheKey, TenantId};
use common::backends::Backends;
use common::output;
use common::program::{Outcome, WrongUsage};
use common::settings::{InvalidMoment, moment};
use consumer::replay::{From, Replay as Replaying, ReplaySettings, Until};
use jiff::Timestamp;

use super::bar::Bar;

/// Apply part of the log to the live index again, while it is followed; moves no checkpoint
#[derive(Args)]
pub(super) struct Replay {
    /// `first`, an offset, a time (2026-11-22T10:00:00Z) or how long ago (2h, 7d)
    #[arg(long)]
    from: Place,
    /// Before this offset, or with the last event of this time
    #[arg(long)]
    until: Option<Place>,
    /// Only this partition
    #[arg(long)]
    partition: Option<u32>,
    /// Only events that name this home tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Only events about this cache key
    #[arg(long)]
    account: Option<CacheKey>,
    /// A JSON line each second, and one at the end, instead of a bar
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy)]
enum Place {
    First,
    Offset(u64),
    Time(Timestamp),
}

impl FromStr for Place {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        if text == "first" {
            return Ok(Self::First);
        }
        text.parse().map(Self::Offset).or_else(|_| moment(text).map(Self::Time))
    }
}

impl Replay {
    pub(super) async fn run(self, backends: &Backends) -> anyhow::Result<Outcome> {
        let (log, index) = (backends.log().await?, backends.index().await?);
        let json = self.json;
        let bar = Bar::new(json);
        let done = Replaying::new(log.log, index, self.settings()?).run(&|progress| bar.show(progress)).await;
        bar.done();
        let done = done?;
        if json {
            output::json_line(&done)?;
        } else {
            output::fields(&[
                ("messages", done.messages.to_string()),
                ("events applied", done.applied.to_string()),
                ("passed over", done.passed_over.to_string()),
                ("refused", done.refused.to_string()),
            ]);
        }
        Ok(Outcome::Done)
    }

    fn settings(self) -> Result<ReplaySettings, WrongUsage> {
        let from = match self.from {
            Place::First => From::First,
            Place::Offset(offset) => From::Offset(offset),
            Place::Time(time) => From::Time(time),
        };
        let until = match self.until {
            None => Until::End,
            Some(Place::Offset(offset)) => Until::Offset(offset),
            Some(Place::Time(time)) => Until::Time(time),
            Some(Place::First) => return Err(WrongUsage("--until takes an offset or a time".to_owned())),
        };
        let Self { partition, tenant, account, .. } = self;
        Ok(ReplaySettings { from, until, partition, tenant, account, ..ReplaySettings::default() })
    }
}
