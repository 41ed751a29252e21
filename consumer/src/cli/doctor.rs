//! `consumer account doctor`: why a token can or cannot be had.

use clap::Args;
use common::account::{CacheKey, Username};
use common::backends::Backends;
use common::event::UsernamePolicy;
use common::identity::IdentityClient;
use common::index::{ActivityStore, Filter, ListRequest, Query};
use common::output;
use common::program::Outcome;
use common::settings::IdentityProviderSettings;
use consumer::doctor::{self, Diagnosis, Level, Verdict};
use consumer::worker::{RunReport, Selection, Worker, WorkerSettings};
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::pick::looked_up;

/// How many accounts of one username are examined.
const MOST_ACCOUNTS: usize = 20;

/// Why a token can or cannot be had for an account, and what to do about it
///
/// Exit code 0: a token can be had. 3: for one of the accounts none can be had, and it says why.
#[derive(Args)]
pub(super) struct Doctor {
    /// The cache key (the home account id of a signed-in user), or the username, plain
    #[arg(value_name = "KEY|USER")]
    whom: CacheKey,
    /// Acquire a token as the worker does, by a refresh where one is needed
    #[arg(long = "try")]
    tries: bool,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    provider: IdentityProviderSettings,
}

#[derive(Serialize)]
struct Report {
    accounts: Vec<Examined>,
}

#[derive(Serialize)]
struct Examined {
    /// How the blob is laid out where it is kept.
    layout: String,
    /// Whether this program encrypts blobs, and takes encrypted ones alone.
    is_encrypted: bool,
    #[serde(flatten)]
    diagnosis: Diagnosis,
    /// What came of trying.
    attempt: Option<Attempt>,
}

#[derive(Serialize)]
struct Attempt {
    outcome: String,
    detail: Option<String>,
    is_hydrated: bool,
}

impl Doctor {
    pub(super) async fn run(self, backends: &Backends, usernames: &UsernamePolicy) -> anyhow::Result<Outcome> {
        let (index, cache) = (backends.index().await?, backends.token_cache().await?);
        let keys = self.keys(index.as_ref(), usernames).await?;
        let mut worker = match self.tries {
            false => None,
            true => {
                let client = IdentityClient::discover(self.provider.provider()?).await?;
                let settings = WorkerSettings { tries_parked: true, ..WorkerSettings::default() };
                Some(Worker::new(index.clone(), cache.clone(), client, settings))
            }
        };
        let is_encrypted = backends.settings().cache_cipher()?.is_some();
        let client_id = self.provider.client_id().cloned();
        let doctor = doctor::Doctor { index, store: cache.store, client_id };
        let mut accounts = Vec::with_capacity(keys.len());
        for key in keys {
            let attempt = match &mut worker {
                Some(worker) => Some(attempt(worker, &key).await?),
                None => None,
            };
            let diagnosis = doctor.examine(&key, Timestamp::now()).await;
            accounts.push(Examined { layout: layout(backends)?, is_encrypted, diagnosis, attempt });
        }
        let report = Report { accounts };
        if self.json {
            output::json(&report)?
        } else {
            report.print()
        }
        Ok(if report.accounts.iter().all(Examined::is_well) { Outcome::Done } else { Outcome::Difference })
    }

    /// The key itself where the index knows it; else the accounts of that username; else the key all the same.
    async fn keys(&self, index: &dyn ActivityStore, usernames: &UsernamePolicy) -> anyhow::Result<Vec<CacheKey>> {
        let is_key = index.get(&self.whom).await?.is_some();
        if let (false, Ok(username)) = (is_key, Username::new(self.whom.as_str()))
            && let Ok(username) = looked_up(&username, usernames)
        {
            let (query, filter) = (Query::User(username), Filter::default());
            let request = ListRequest { query, filter, limit: MOST_ACCOUNTS, cursor: None };
            let accounts = index.list(&request).await?.accounts;
            if !accounts.is_empty() {
                return Ok(accounts.into_iter().map(|account| account.cache_key).collect());
            }
        }
        Ok(vec![self.whom.clone()])
    }
}

async fn attempt(worker: &mut Worker, key: &CacheKey) -> anyhow::Result<Attempt> {
    let report = worker.hydrate(&Selection::One(key.clone()), CancellationToken::new()).await?;
    Ok(Attempt::of(&report))
}

impl Attempt {
    fn of(report: &RunReport) -> Self {
        let outcome = report.outcomes.keys().next().copied().unwrap_or("not_in_the_index");
        let detail = report.examples.first().and_then(|example| example.detail.clone());
        Self { outcome: outcome.to_owned(), detail, is_hydrated: report.hydrated > 0 }
    }

    fn is_good(&self) -> bool {
        self.is_hydrated || self.outcome == "still_valid"
    }
}

/// How blobs are kept, by the settings; the store itself refuses what is laid out in another way.
fn layout(backends: &Backends) -> anyhow::Result<String> {
    let settings = backends.settings();
    Ok(match settings.cache_url()?.scheme() {
        "sqlite" => "sqlite".to_owned(),
        _ => settings.cache_layout.to_string(),
    })
}

impl Examined {
    /// A try decides; without one, what was seen.
    fn is_well(&self) -> bool {
        match &self.attempt {
            Some(attempt) => attempt.is_good(),
            None => matches!(self.diagnosis.verdict, Verdict::Valid | Verdict::Refreshable),
        }
    }

    fn print(&self) {
        let Diagnosis { cache_key, summary, findings, index, blob, .. } = &self.diagnosis;
        output::line(&format!("{cache_key}: {summary}"));
        if let Some(attempt) = &self.attempt {
            let detail = attempt.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
            output::line(&format!("tried now: {}{detail}", attempt.outcome.replace('_', " ")));
        }
        output::line("");
        for finding in findings {
            output::line(&format!("{} {}", mark(finding.level), finding.text));
            if let Some(advice) = &finding.advice {
                output::line(&format!("         → {advice}"));
            }
        }
        output::line("");
        output::fields(&[
            ("username", shown(index.username.as_ref())),
            ("home account id", shown(index.home_account_id.as_ref())),
            ("tenant id", shown(index.tenant_id.as_ref())),
            ("client id", shown(index.client_id.as_ref())),
            ("last activity", shown(index.last_activity)),
            ("last hydration", shown(index.last_hydration)),
            ("blob", blob.bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes} bytes"))),
            ("kept as", format!("{}, {}", self.layout, if self.is_encrypted { "encrypted" } else { "not encrypted" })),
        ]);
        let tokens = blob.access_tokens.iter().map(|token| {
            let state = if token.is_valid { "valid" } else { "expired" };
            vec!["access".to_owned(), token.scopes.clone(), shown(token.expires_on), state.to_owned()]
        });
        let refresh = blob.refresh_tokens.iter().map(|token| {
            vec!["refresh".to_owned(), format!("of {}", token.client_id), "-".to_owned(), "present".to_owned()]
        });
        let rows: Vec<Vec<String>> = tokens.chain(refresh).collect();
        if !rows.is_empty() {
            output::line("");
            output::table(&["TOKEN", "FOR", "EXPIRES", "STATE"], rows);
        }
        blob.oddities.iter().for_each(|oddity| output::line(&format!("unusual: {oddity}")));
    }
}

impl Report {
    fn print(&self) {
        for (number, account) in self.accounts.iter().enumerate() {
            if number > 0 {
                output::line("");
            }
            account.print();
        }
    }
}

fn mark(level: Level) -> &'static str {
    match level {
        Level::Good => "ok      ",
        Level::Note => "note    ",
        Level::Wait => "wait    ",
        Level::Obstacle => "obstacle",
    }
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
