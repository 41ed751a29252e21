//! `consumer account`: one account of the index, and its doctor.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use common::account::CacheKey;
use common::backends::Backends;
use common::event::UsernamePolicy;
use common::output;
use common::program::Outcome;
use consumer::view::AccountView;

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
    /// Take an account out of everything, with a receipt of what was found where
    Erase(Erase),
    /// Why a token can or cannot be had for an account, and what to do about it
    Doctor(Box<super::doctor::Doctor>),
}

impl Account {
    pub(super) async fn run(self, backends: &Backends, usernames: &UsernamePolicy) -> anyhow::Result<Outcome> {
        match self.what {
            What::Show { cache_key, json } => show(backends, &cache_key, json).await,
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
