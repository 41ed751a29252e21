//! `consumer api-token`: tokens of the HTTP API.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use common::account::TenantId;
use common::output;
use common::program::{Outcome, WrongUsage};
use consumer::api::{ApiToken, Scope, TokenEntry, TokenList};

/// The tokens that the HTTP API is asked with
#[derive(Args)]
pub(super) struct ApiTokens {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make a token: it is shown this once, and the API is given its digest alone
    New(New),
}

#[derive(Args)]
struct New {
    /// What it is called in logs
    #[arg(long)]
    name: String,
    /// What it may be used for: read, claim, admin, token
    #[arg(long, value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,
    /// The home tenants whose accounts it may know of [default: all]
    #[arg(long, value_delimiter = ',')]
    tenants: Vec<TenantId>,
    /// The token file to add its entry to, made where there is none; then the token alone is printed
    #[arg(long)]
    file: Option<PathBuf>,
}

impl ApiTokens {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        match self.what {
            What::New(new) => new.run(),
        }
    }
}

impl New {
    fn run(self) -> anyhow::Result<Outcome> {
        let token = ApiToken::fresh()?;
        let tenants: BTreeSet<TenantId> = self.tenants.into_iter().collect();
        let entry = TokenEntry {
            name: self.name,
            sha256: token.digest(),
            scopes: self.scopes.into_iter().collect(),
            tenants: (!tenants.is_empty()).then_some(tenants),
        };
        let line = serde_json::to_string(&entry)?;
        match &self.file {
            Some(file) => {
                add(file, &line)?;
                output::line(token.expose());
            }
            None => {
                check(&line)?;
                output::fields(&[("token", token.expose().to_owned()), ("entry", line)]);
            }
        }
        Ok(Outcome::Done)
    }
}

/// Adds an entry to a file that stays a token file with it.
fn add(path: &Path, line: &str) -> anyhow::Result<()> {
    let is_new = !path.try_exists()?;
    let before = if is_new { String::new() } else { std::fs::read_to_string(path)? };
    // The line before may have no end.
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    check(&format!("{before}{gap}{line}"))?;
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("{gap}{line}\n").as_bytes())?;
    file.sync_all().with_context(|| format!("{} was not written", path.display()))
}

fn check(text: &str) -> Result<(), WrongUsage> {
    TokenList::parse(text).map(drop).map_err(|error| WrongUsage(format!("the entry would not be taken: {error}")))
}
