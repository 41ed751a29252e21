//! The file of the tokens that are known, as digests.
//!
//! A line is a token's entry, a JSON object; empty lines and those that begin with `#` are skipped:
//!
//! ```json
//! {"name": "worker-eu", "sha256": "9f86d081…", "scopes": ["read", "claim"], "tenants": ["72f988bf-…"]}
//! ```
//!
//! `tenants` is left out where the token may act for every tenant. The file is read again every few seconds; while it
//! cannot be read, or makes no sense, what it said last goes on to hold.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::account::TenantId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::rate::Bucket;
use super::scope::Scope;
use super::token::TokenDigest;

/// How large the file may be.
pub const MOST_TOKEN_FILE_BYTES: u64 = 1 << 20;
/// How many tokens there may be.
pub const MOST_TOKENS: usize = 1_000;
/// How many tenants a token may be restricted to.
pub const MOST_TENANTS: usize = 64;
/// The longest name of a token.
pub const MOST_NAME_BYTES: usize = 64;
/// How often the file is read again.
const READ_EVERY: Duration = Duration::from_secs(2);

/// One token, as its line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// What it is called in logs.
    pub name: String,
    /// The digest of the token.
    pub sha256: TokenDigest,
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// The home tenants it may act for; all where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<BTreeSet<TenantId>>,
}

/// A token of the list, with what is left of its rate.
#[derive(Debug)]
pub(super) struct KnownToken {
    pub(super) entry: TokenEntry,
    pub(super) bucket: Arc<Bucket>,
}

/// The tokens that are known.
#[derive(Debug, Default)]
pub struct TokenList(Vec<Arc<KnownToken>>);

/// A file that makes no list of tokens. The texts never repeat what it holds.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("the token file {path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is larger than [`MOST_TOKEN_FILE_BYTES`].
    #[error("the token file is larger than 1 MiB; is it a token file?")]
    TooLarge,
    /// There is no entry.
    #[error("the token file has no entry; `consumer api-token new` makes one")]
    Empty,
    /// There are more than [`MOST_TOKENS`].
    #[error("the token file has more than {MOST_TOKENS} entries")]
    TooMany,
    /// A line is no entry.
    #[error("line {line} of the token file {what}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

impl TokenList {
    /// The tokens of a file's text.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut list = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let wrong = |what: String| TokenFileError::Line { line: line_number, what };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if list.0.len() == MOST_TOKENS {
                return Err(TokenFileError::TooMany);
            }
            let entry: TokenEntry = serde_json::from_str(line).map_err(|error| wrong(told(&error)))?;
            entry.check().map_err(wrong)?;
            if list.0.iter().any(|known| known.entry.name == entry.name || known.entry.sha256 == entry.sha256) {
                return Err(wrong("has a name or a token that stands there already".to_owned()));
            }
            list.0.push(Arc::new(KnownToken { entry, bucket: Arc::default() }));
        }
        if list.0.is_empty() { Err(TokenFileError::Empty) } else { Ok(list) }
    }

    /// The tokens of a file.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        Self::parse(&text_of(path)?)
    }

    /// The token that a client sent. Every entry is compared, in a time that tells nothing about any of them.
    pub(super) fn find(&self, token: &str) -> Option<Arc<KnownToken>> {
        let digest = TokenDigest::of(token);
        let mut found = None;
        for known in &self.0 {
            if bool::from(known.entry.sha256.is(&digest)) {
                found = Some(known);
            }
        }
        found.map(Arc::clone)
    }

    /// The same tokens, each with what is left of its rate in `before`.
    fn with_buckets_of(mut self, before: &Self) -> Self {
        for known in &mut self.0 {
            let same = before.0.iter().find(|old| old.entry.sha256 == known.entry.sha256);
            if let Some(old) = same {
                *known = Arc::new(KnownToken { entry: known.entry.clone(), bucket: Arc::clone(&old.bucket) });
            }
        }
        self
    }
}

impl TokenEntry {
    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > MOST_NAME_BYTES || self.name.chars().any(char::is_control) {
            return Err(format!("has a name that is empty, longer than {MOST_NAME_BYTES} bytes or unprintable"));
        }
        if self.scopes.is_empty() {
            return Err("has no scope; give read, claim, admin or token".to_owned());
        }
        match &self.tenants {
            Some(tenants) if tenants.is_empty() => Err("has an empty list of tenants; leave it out for all".to_owned()),
            Some(tenants) if tenants.len() > MOST_TENANTS => Err(format!("has more than {MOST_TENANTS} tenants")),
            _ => Ok(()),
        }
    }
}

/// What is wrong with a line, without what stands in it: that may be a token by mistake.
fn told(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "lacks a field, has one too many, or one of the wrong kind",
        _ => "is not JSON",
    };
    format!("{what} (column {}): an entry is {{\"name\", \"sha256\", \"scopes\", \"tenants\"}}", error.column())
}

fn text_of(path: &Path) -> Result<String, TokenFileError> {
    let unreadable = |source| TokenFileError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    let read = file.take(MOST_TOKEN_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > MOST_TOKEN_FILE_BYTES { Err(TokenFileError::TooLarge) } else { Ok(text) }
}

/// A file of tokens that is read again and again.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    list: watch::Sender<Arc<TokenList>>,
}

impl TokenFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn open(path: PathBuf) -> Result<Self, TokenFileError> {
        let list = Arc::new(TokenList::read(&path)?);
        Ok(Self { path, list: watch::Sender::new(list) })
    }

    /// The tokens as they are now.
    pub(super) fn tokens(&self) -> watch::Receiver<Arc<TokenList>> {
        self.list.subscribe()
    }

    /// Goes on reading it until `shutdown`.
    pub(super) async fn follow(self, shutdown: CancellationToken) {
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_broken = false;
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            is_broken = self.read_again(is_broken).await;
        }
    }

    /// Says whether the file makes no list now.
    async fn read_again(&self, was_broken: bool) -> bool {
        let path = self.path.clone();
        match tokio::task::spawn_blocking(move || TokenList::read(&path)).await {
            Ok(Ok(list)) => {
                self.list.send_if_modified(|before| {
                    let is_new = !list.is_same(before);
                    if is_new {
                        tracing::info!(tokens = list.0.len(), "the token file has changed");
                        *before = Arc::new(list.with_buckets_of(before));
                    }
                    is_new
                });
                false
            }
            Ok(Err(error)) => {
                if !was_broken {
                    let error = &error as &(dyn std::error::Error + 'static);
                    tracing::error!(error, "the token file is not taken; what it said before goes on to hold");
                }
                true
            }
            // The runtime is ending.
            Err(_) => was_broken,
        }
    }
}

impl TokenList {
    fn is_same(&self, other: &Self) -> bool {
        let entries = |list: &Self| list.0.iter().map(|known| known.entry.clone()).collect::<Vec<_>>();
        entries(self) == entries(other)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn line(name: &str, token: &str, rest: &str) -> String {
        format!(r#"{{"name": "{name}", "sha256": "{}"{rest}}}"#, TokenDigest::of(token))
    }

    fn complaint(text: &str) -> String {
        TokenList::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_token_is_found_by_its_digest_with_what_it_may_do() {
        let text = format!(
            "# ours\n\n{}\n{}\n",
            line("reader", "one", r#", "scopes": ["read"]"#),
            line("eu", "two", r#", "scopes": ["read", "claim"], "tenants": ["contoso"]"#)
        );
        let list = TokenList::parse(&text).unwrap();
        let eu = list.find("two").unwrap();
        assert_eq!(eu.entry.name, "eu");
        assert!(eu.entry.scopes.contains(&Scope::Claim) && eu.entry.tenants.as_ref().unwrap().len() == 1);
        assert!(list.find("one").unwrap().entry.tenants.is_none());
        for unknown in ["", "three", &TokenDigest::of("one").to_string()] {
            assert!(list.find(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_and_not_repeated() {
        let good = line("a", "one", r#", "scopes": ["read"]"#);
        for (text, expected) in [
            ("tca_a-token-by-mistake".to_owned(), "line 1 of the token file is not JSON"),
            (format!("{good}\n{}", line("b", "two", "")), "line 2 of the token file lacks a field"),
            (line("a", "one", r#", "scopes": ["root"]"#), "one of the wrong kind"),
            (line("a", "one", r#", "scopes": [], "tenants": ["x"]"#), "no scope"),
            (line("a", "one", r#", "scopes": ["read"], "tenants": []"#), "leave it out"),
            (line("a", "one", r#", "scopes": ["read"], "tenant": "x""#), "one too many"),
            (line("", "one", r#", "scopes": ["read"]"#), "a name that is empty"),
            (format!("{good}\n{}", line("a", "two", r#", "scopes": ["read"]"#)), "stands there already"),
            (format!("{good}\n{}", line("b", "one", r#", "scopes": ["read"]"#)), "stands there already"),
            ("# nothing".to_owned(), "has no entry"),
        ] {
            let said = complaint(&text);
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains("by-mistake") && !said.contains(&TokenDigest::of("one").to_string()), "{said}");
        }
    }

    #[test]
    fn what_is_left_of_a_rate_outlives_a_new_reading() {
        let before = TokenList::parse(&line("a", "one", r#", "scopes": ["read"]"#)).unwrap();
        let after = TokenList::parse(&line("a", "one", r#", "scopes": ["claim"]"#)).unwrap();
        assert!(!after.is_same(&before));
        let after = after.with_buckets_of(&before);
        assert!(Arc::ptr_eq(&after.0[0].bucket, &before.0[0].bucket));
        assert!(after.0[0].entry.scopes.contains(&Scope::Claim));
    }
}
