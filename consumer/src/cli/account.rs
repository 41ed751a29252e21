//! `consumer account`: one account of the index, and its doctor.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use common::account::CacheKey;
use common::backends::Backends;
use common::event::UsernamePolicy;
use common::index::AccountActivity;
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
    Schedule(Schedule),
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
struct Schedule {
    /// The cache key
    cache_key: CacheKey,
    #[command(flatten)]
    when: When,
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

impl Schedule {
    async fn run(self, backends: &Backends) -> anyhow::Result<Outcome> {
        if self.when.at.is_some() {
            let known = backends.index().await?.get(&self.cache_key).await?;
            known.filter(AccountActivity::is_listed).context("the index lists no account of this cache key")?;
        }
        backends.claims().await?.schedule(&self.cache_key, self.when.at).await?;
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
