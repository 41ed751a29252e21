//! `consumer query due`: which accounts are due, why, since when, and who holds them.

use clap::Args;
use common::account::{ClientId, TenantId};
use common::index::{Claims, Cursor, Due, DueAccount, DuePolicy, DueReason, DueRequest, Hold};
use common::output;
use common::program::Outcome;
use common::settings::{moment, span};
use consumer::view::AccountView;
use jiff::Timestamp;
use serde::Serialize;

#[derive(Args)]
pub(super) struct DueArgs {
    /// Due by this time (2026-11-22T10:00:00Z), or so long from now (2h, 7d); now, where it is not given
    #[arg(long, value_parser = ahead)]
    until: Option<Timestamp>,
    /// Only accounts of this home tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Only accounts of this app
    #[arg(long)]
    client: Option<ClientId>,
    /// How many accounts at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Where to go on: the `next` of the page before
    #[arg(long)]
    cursor: Option<Cursor>,
}

/// Reads a time, or a duration that is taken for so long after now.
pub(super) fn ahead(text: &str) -> Result<Timestamp, String> {
    if let Ok(duration) = span(text) {
        return Timestamp::now().checked_add(duration).map_err(|error| error.to_string());
    }
    moment(text)
        .map_err(|_| "give a time such as 2026-11-22T10:00:00Z, or how long from now, such as 2h or 7d".to_owned())
}

#[derive(Serialize)]
struct DueView<'a> {
    #[serde(flatten)]
    account: AccountView<'a>,
    due: &'a Due,
    hold: Option<HoldView<'a>>,
}

#[derive(Serialize)]
struct HoldView<'a> {
    until: Timestamp,
    worker: Option<&'a str>,
    attempts: u32,
}

#[derive(Serialize)]
struct PageView<'a> {
    accounts: Vec<DueView<'a>>,
    next: Option<String>,
}

impl DueArgs {
    pub(super) async fn run(self, claims: &dyn Claims, json: bool) -> anyhow::Result<Outcome> {
        let limit = usize::from(self.limit);
        let (tenant, client) = (self.tenant, self.client);
        let until = self.until.unwrap_or_else(Timestamp::now);
        let mut request = DueRequest { until, tenant, client, limit, cursor: self.cursor };
        let mut accounts = Vec::new();
        let next = loop {
            request.limit = limit - accounts.len();
            let page = claims.due(&request).await?;
            accounts.extend(page.accounts);
            request.cursor = page.next;
            if request.cursor.is_none() || accounts.len() >= limit {
                break request.cursor;
            }
        };
        if json {
            let next = next.as_ref().map(Cursor::to_string);
            output::json(&PageView { accounts: accounts.iter().map(DueView::of).collect(), next })?;
        } else {
            print(&accounts, next.as_ref());
        }
        Ok(Outcome::Done)
    }
}

impl<'a> DueView<'a> {
    fn of(due: &'a DueAccount) -> Self {
        Self { account: AccountView::of(&due.account), due: &due.due, hold: due.hold.as_ref().map(HoldView::of) }
    }
}

impl<'a> HoldView<'a> {
    fn of(hold: &'a Hold) -> Self {
        Self { until: hold.until, worker: hold.worker.as_ref().map(|worker| worker.as_str()), attempts: hold.attempts }
    }
}

const HEADINGS: [&str; 5] = ["CACHE KEY", "TENANT", "DUE AT", "WHY", "HELD"];

fn print(accounts: &[DueAccount], next: Option<&Cursor>) {
    if accounts.is_empty() && next.is_none() {
        return output::line("no accounts");
    }
    output::table(&HEADINGS, accounts.iter().map(row));
    if let Some(next) = next {
        output::line(&format!("more with --cursor {next}"));
    }
}

fn row(due: &DueAccount) -> Vec<String> {
    vec![
        due.account.cache_key.to_string(),
        due.account.tenant_id().map_or_else(|| "-".to_owned(), ToString::to_string),
        format!("{:.0}", due.due.at),
        why(&due.due),
        due.hold.as_ref().map_or_else(|| "-".to_owned(), held),
    ]
}

fn why(due: &Due) -> String {
    let word = match due.reason {
        DueReason::AccessTokenExpires => "access token expires",
        DueReason::RefreshTokenIdle => "refresh token idle",
        DueReason::Retry => "retry",
        DueReason::Scheduled => "scheduled",
    };
    due.scheduled_for.as_ref().map_or_else(|| word.to_owned(), |reason| format!("{word}: {reason}"))
}

fn held(hold: &Hold) -> String {
    match (&hold.worker, hold.attempts) {
        (Some(worker), _) => format!("by {worker} until {:.0}", hold.until),
        (None, 0) => format!("settles until {:.0}", hold.until),
        (None, attempts) => format!("backs off until {:.0} after {attempts} failures", hold.until),
    }
}

/// What makes accounts due in a generation that is filled.
#[derive(Args)]
pub(super) struct DuePolicyArgs {
    /// How long before its access token expires an account is due; "off": that makes nobody due
    #[arg(long, env = "DUE_HORIZON", value_parser = horizon, default_value = "5m", value_name = "DURATION")]
    due_horizon: Horizon,
    /// How long a refresh token lives unused, where nothing else is known of it
    #[arg(long, env = "REFRESH_TOKEN_LIFE", value_parser = seconds, default_value = "90d", value_name = "DURATION")]
    refresh_token_life: u32,
    /// How long before its refresh token dies an account is due; without it, a third of its life
    #[arg(long, env = "KEEP_ALIVE", value_parser = seconds, value_name = "DURATION")]
    keep_alive: Option<u32>,
}

/// How many seconds before, if at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Horizon(Option<u32>);

fn horizon(text: &str) -> Result<Horizon, String> {
    if text == "off" {
        return Ok(Horizon(None));
    }
    seconds(text).map(|seconds| Horizon(Some(seconds))).map_err(|error| format!("{error}, or off"))
}

fn seconds(text: &str) -> Result<u32, String> {
    let duration = span(text).map_err(|error| error.to_string())?;
    u32::try_from(duration.as_secs()).map_err(|_| "give less than 136 years".to_owned())
}

impl DuePolicyArgs {
    pub(super) fn policy(&self) -> DuePolicy {
        DuePolicy {
            horizon_seconds: self.due_horizon.0,
            refresh_token_life_seconds: self.refresh_token_life,
            keep_alive_seconds: self.keep_alive,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_horizon_is_a_duration_or_off() {
        assert_eq!(horizon("10m"), Ok(Horizon(Some(600))));
        assert_eq!(horizon("off"), Ok(Horizon(None)));
        assert!(horizon("soon").unwrap_err().ends_with("or off"));
    }

    #[test]
    fn until_is_a_time_or_so_long_from_now() {
        assert_eq!(ahead("2026-11-22T10:00:00Z").unwrap().to_string(), "2026-11-22T10:00:00Z");
        assert!((7199..=7201).contains(&ahead("2h").unwrap().duration_since(Timestamp::now()).as_secs()));
        assert!(ahead("soon").is_err());
    }
}
