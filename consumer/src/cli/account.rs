//! `consumer account`: one account of the index.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use common::account::CacheKey;
use common::backends::Backends;
use common::output;
use common::program::Outcome;

use crate::view::AccountView;

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
}

impl Account {
    pub(super) async fn run(self, backends: &Backends) -> anyhow::Result<Outcome> {
        let What::Show { cache_key, json } = self.what;
        let account = backends.index().await?.get(&cache_key).await?;
        let account = account.context("the index knows no account of this cache key")?;
        let view = AccountView::of(&account);
        if json {
            output::json(&view)?
        } else {
            output::fields(&view.fields())
        }
        Ok(Outcome::Done)
    }
}
