//! `consumer account erase`: an account taken out of everything, with a receipt.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use common::account::{CacheKey, Username};
use common::backends::{Backends, LogRetention};
use common::event::{EventSource, UsernamePolicy};
use common::index::{ActivityStore, Filter, ListRequest, Query};
use common::output;
use common::program::{Outcome, WrongUsage};
use common::settings::span;
use consumer::dead_letters::Erased;
use consumer::erase::{ErasureStores, IndexTrace, Receipt, UsernameTrace, erase};
use jiff::Timestamp;

/// The most accounts one user has, and more.
const MOST_ACCOUNTS: usize = 1_000;
/// The `source` of the removals.
const SOURCE: &str = "/consumer/erase";

#[derive(Args)]
pub(super) struct Erase {
    /// The cache key, or a username: then all accounts of that user
    account: String,
    /// Yes, it shall be gone
    #[arg(long)]
    yes: bool,
    /// How long the log keeps events, for the receipt, where the log does not say it itself
    #[arg(long, env = "ACTIVITY_LOG_MAX_AGE", value_parser = span, value_name = "DURATION", default_value = "100d")]
    log_max_age: Duration,
    /// One JSON document instead of lines
    #[arg(long)]
    json: bool,
}

impl Erase {
    pub(super) async fn run(self, backends: &Backends, usernames: &UsernamePolicy) -> anyhow::Result<Outcome> {
        let index = backends.index().await?;
        let keys = self.keys(index.as_ref(), usernames).await?;
        if !self.yes {
            let told = format!("this erases {} accounts for good; say --yes if that is meant", keys.len());
            return Err(WrongUsage(told).into());
        }
        let claims = backends.claims().await?;
        let (cache, log) = (backends.token_cache().await?, backends.log().await?);
        let stores = ErasureStores { cache, log, index, claims };
        let source = EventSource::new(SOURCE)?;
        let max_age = match backends.log_retention().await? {
            LogRetention::For(max_age) => Some(max_age),
            LogRetention::Forever => None,
            LogRetention::NotTold => Some(self.log_max_age),
        };
        let mut receipts = Vec::new();
        for key in &keys {
            let receipt = erase(&stores, key, &source, max_age).await;
            receipts.push(receipt.with_context(|| format!("{} accounts were erased before", receipts.len()))?);
        }
        if self.json {
            output::json(&receipts)?;
        } else {
            receipts.iter().for_each(print);
        }
        Ok(Outcome::Done)
    }

    /// The accounts of the user where the index knows one of this name, else the cache key itself.
    async fn keys(&self, index: &dyn ActivityStore, usernames: &UsernamePolicy) -> anyhow::Result<Vec<CacheKey>> {
        let username = self.account.parse::<Username>().ok().and_then(|username| usernames.apply(&username));
        if let Some(username) = username {
            let query = Query::User(username);
            let request = ListRequest { query, filter: Filter::default(), limit: MOST_ACCOUNTS, cursor: None };
            let accounts = index.list(&request).await?.accounts;
            if !accounts.is_empty() {
                return Ok(accounts.into_iter().map(|account| account.cache_key).collect());
            }
        }
        if self.account.contains('@') {
            anyhow::bail!("the index lists no account of this username; give the cache key");
        }
        Ok(vec![self.account.parse()?])
    }
}

fn print(receipt: &Receipt) {
    output::fields(&[
        ("cache key", receipt.cache_key.to_string()),
        ("removed at", when(receipt.removed_at)),
        ("token cache", if receipt.blob { "1 blob deleted" } else { "held no blob" }.to_owned()),
        ("outbox", format!("{} entries deleted", receipt.outbox_entries + receipt.outbox_refused)),
        ("index", index_in_words(receipt.index).to_owned()),
        ("dead letters", letters_in_words(&receipt.dead_letters)),
        ("unrouted", letters_in_words(&receipt.unrouted)),
        ("log", format!("the removal is in {} partitions", receipt.partitions)),
        ("name in the log", name_in_words(receipt.username_in_log).to_owned()),
        ("aged out at", ages_out_in_words(receipt.ages_out_at)),
        ("not looked at", "snapshots, backups, and what other programs keep".to_owned()),
    ]);
}

fn index_in_words(index: IndexTrace) -> &'static str {
    match index {
        IndexTrace::Erased => "entry erased; the time of the removal is kept, so that it stays removed",
        IndexTrace::Nothing => "held nothing; the time of the removal is kept",
    }
}

fn letters_in_words(erased: &Erased) -> String {
    let deleted = format!("{} deleted", erased.letters);
    if erased.left.is_empty() { deleted } else { format!("{deleted}; left: {}", erased.left.join(", ")) }
}

fn name_in_words(name: UsernameTrace) -> &'static str {
    match name {
        UsernameTrace::Plain => "in plain, until its events have aged out",
        UsernameTrace::Hashed => "none, a keyed hash only",
        UsernameTrace::NoneKnown => "none is known",
    }
}

fn ages_out_in_words(at: Option<Timestamp>) -> String {
    match at {
        Some(time) => format!("{time:.0}, about: the log is cut by whole files"),
        None => "never: the log keeps everything; see `consumer topology retain`".to_owned(),
    }
}

fn when(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"))
}
