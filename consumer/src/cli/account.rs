//! `consumer account`: one account of the index, and its doctor.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use common::account::CacheKey;
use common::backends::Backends;
use common::event::UsernamePolicy;
use common::index::{AccountActivity, JobReason, Schedule};
use common::output;
use common::program::Outcome;
use consumer::view::AccountView;
use jiff::Timestamp;

use super::due::ahead;
use super::erase::Erase;

/// Look at one account
#[derive(Args)]
pub(super) struct Account {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// All the index knows of one account, listed or not
    Show {
        /// The cache key: the home account id of a signed-in user
        cache_key: CacheKey,
        /// One JSON document instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Let workers claim an account at a time, if it is not due before, or take that back
    Schedule(ScheduleArgs),
    /// Let workers claim an account now that a failure or a completion holds back
    Retry {
        /// The cache key
        cache_key: CacheKey,
    },
    /// Take an account out of everything, with a receipt of what was found where
    Erase(Erase),
    /// Why a token can or cannot be had for an account, and what to do about it
    Doctor(Box<super::doctor::Doctor>),
}

#[derive(Args)]
struct ScheduleArgs {
    /// The cache key
    cache_key: CacheKey,
    #[command(flatten)]
    when: When,
    /// Why: one line for whoever looks at what is due; what was said before, where it is left out
    #[arg(long, conflicts_with = "cancel")]
    reason: Option<JobReason>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct When {
    /// A time (2026-11-22T10:00:00Z), or how long from now (2h, 7d)
    #[arg(long, value_parser = ahead, value_name = "TIME|DURATION")]
    at: Option<Timestamp>,
    /// Take back what was asked for
    #[arg(long)]
    cancel: bool,
}

impl ScheduleArgs {
    async fn run(self, backends: &Backends) -> anyhow::Result<Outcome> {
        let Self { cache_key, when, reason } = self;
        let schedule = when.at.map(|at| Schedule { at, reason });
        if schedule.is_some() {
            let known = backends.index().await?.get(&cache_key).await?;
            known.filter(AccountActivity::is_listed).context("the index lists no account of this cache key")?;
        }
        backends.claims().await?.schedule(&cache_key, schedule.as_ref()).await?;
        Ok(Outcome::Done)
    }
}

impl Account {
    pub(super) async fn run(self, backends: &Backends, usernames: &UsernamePolicy) -> anyhow::Result<Outcome> {
        match self.what {
            What::Show { cache_key, json } => show(backends, &cache_key, json).await,
            What::Schedule(schedule) => schedule.run(backends).await,
            What::Retry { cache_key } => {
                backends.claims().await?.forget_hold(&cache_key).await?;
                Ok(Outcome::Done)
            }
            What::Erase(command) => command.run(backends, usernames).await,
            What::Doctor(doctor) => doctor.run(backends, usernames).await,
        }
    }
}

async fn show(backends: &Backends, cache_key: &CacheKey, json: bool) -> anyhow::Result<Outcome> {
    let account = backends.index().await?.get(cache_key).await?;
    let account = account.context("the index knows no account of this cache key")?;
    let view = AccountView::of(&account);
    if json {
        output::json(&view)?
    } else {
        output::fields(&view.fields())
    }
    Ok(Outcome::Done)
}
