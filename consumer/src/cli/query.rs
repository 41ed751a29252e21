//! `consumer query`: lists of accounts by activity or by user, and counts.

use std::time::Duration;

use clap::{Args, Subcommand};
use common::account::{TenantId, Username};
use common::backends::Backends;
use common::event::UsernamePolicy;
use common::index::{AccountActivity, ActivityStore, Cursor, ListRequest, Query as IndexQuery};
use common::output;
use common::program::Outcome;
use common::settings::{moment, span};
use consumer::view::AccountView;
use jiff::Timestamp;
use serde::Serialize;

use super::due::DueArgs;
use super::pick::{FilterArgs, looked_up};

/// List accounts of the index
#[derive(Args)]
pub(super) struct Query {
    #[command(subcommand)]
    what: What,
    /// One JSON document instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Accounts whose user was here since a time, newest first
    Active {
        /// A time (2026-11-22T10:00:00Z), or how long ago (2h, 7d)
        #[arg(long, value_parser = moment)]
        since: Timestamp,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Accounts whose user has not been here for a while, longest idle first
    Idle {
        /// How long (2h, 7d)
        #[arg(long = "for", value_parser = span, value_name = "DURATION")]
        duration: Duration,
        #[command(flatten)]
        page: PageArgs,
    },
    /// The accounts of a username
    User {
        /// The username, plain; it is looked up as the setting --usernames writes it
        username: Username,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Accounts that are due for a worker, claimed or not, the most overdue first
    Due(DueArgs),
    /// How many accounts there are, by state
    Counts {
        /// Only of this home tenant
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

#[derive(Args)]
struct PageArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many accounts at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Where to go on: the `next` of the page before
    #[arg(long)]
    cursor: Option<Cursor>,
}

impl Query {
    pub(super) async fn run(self, backends: &Backends, usernames: &UsernamePolicy) -> anyhow::Result<Outcome> {
        let index = backends.index().await?;
        let (query, page) = match self.what {
            What::Active { since, page } => (IndexQuery::ActiveSince(since), page),
            What::Idle { duration, page } => (IndexQuery::IdleSince(Timestamp::now() - duration), page),
            What::User { username, page } => (IndexQuery::User(looked_up(&username, usernames)?), page),
            What::Due(due) => return due.run(backends.claims().await?.as_ref(), self.json).await,
            What::Counts { tenant } => return counts(index.as_ref(), tenant.as_ref(), self.json).await,
        };
        let found = gather(index.as_ref(), page.request(query)).await?;
        if self.json {
            output::json(&found.view())?
        } else {
            found.print()
        }
        Ok(Outcome::Done)
    }
}

impl PageArgs {
    fn request(self, query: IndexQuery) -> ListRequest {
        ListRequest { query, filter: self.filter.filter(), limit: usize::from(self.limit), cursor: self.cursor }
    }
}

struct Found {
    accounts: Vec<AccountActivity>,
    next: Option<Cursor>,
}

#[derive(Serialize)]
struct FoundView<'a> {
    accounts: Vec<AccountView<'a>>,
    next: Option<String>,
}

/// Goes on over short pages until there are as many accounts as were asked for, or no more.
async fn gather(index: &dyn ActivityStore, mut request: ListRequest) -> anyhow::Result<Found> {
    let wanted = request.limit;
    let mut accounts = Vec::new();
    loop {
        request.limit = wanted - accounts.len();
        let page = index.list(&request).await?;
        accounts.extend(page.accounts);
        request.cursor = page.next;
        if request.cursor.is_none() || accounts.len() >= wanted {
            return Ok(Found { accounts, next: request.cursor });
        }
    }
}

impl Found {
    fn view(&self) -> FoundView<'_> {
        FoundView {
            accounts: self.accounts.iter().map(AccountView::of).collect(),
            next: self.next.as_ref().map(Cursor::to_string),
        }
    }

    fn print(&self) {
        if self.accounts.is_empty() {
            return output::line("no accounts");
        }
        output::table(&AccountView::HEADINGS, self.accounts.iter().map(|account| AccountView::of(account).row()));
        if let Some(next) = &self.next {
            output::line(&format!("more with --cursor {next}"));
        }
    }
}

async fn counts(index: &dyn ActivityStore, tenant: Option<&TenantId>, json: bool) -> anyhow::Result<Outcome> {
    let counts = index.counts(tenant).await?;
    if json {
        output::json(&counts)?;
    } else {
        output::fields(&[
            ("listed", counts.listed.to_string()),
            ("ready", counts.by_state.ready.to_string()),
            ("backing off", counts.by_state.backing_off.to_string()),
            ("parked", counts.by_state.parked.to_string()),
            ("removed", counts.by_state.removed.to_string()),
        ]);
    }
    Ok(Outcome::Done)
}
