//! From what was read to what it means. Pure.

use common::account::ClientId;
use common::event::{AccountDetails, FailureReason};
use common::index::AccountActivity;
use jiff::Timestamp;

use super::Verdict;
use super::advice;
use super::blob::{AccessTokenReport, BlobReport, RefreshTokenReport};
use super::finding::{Finding, Level};

/// How long a token has still to be valid to be handed out.
const ENOUGH_SECONDS: i64 = 300;

/// What was read of one account.
pub(super) struct Case<'a> {
    pub(super) account: Option<&'a AccountActivity>,
    pub(super) blob: &'a BlobReport,
    pub(super) client_id: Option<&'a ClientId>,
    pub(super) now: Timestamp,
}

impl Case<'_> {
    pub(super) fn findings(&self, index_answered: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        if index_answered {
            findings.push(self.listed());
            findings.extend(self.last_failure());
            findings.extend(self.other_client());
        }
        match self.unreadable() {
            Some(finding) => findings.push(finding),
            None => findings.extend(self.content()),
        }
        findings
    }

    pub(super) fn verdict(&self, findings: &[Finding]) -> (Verdict, String) {
        // The first of the worst: the index comes before the blob, as a cause before what follows from it.
        let worst = findings.iter().rev().max_by_key(|finding| finding.level);
        match worst.map(|finding| (finding.level, &finding.text)) {
            Some((Level::Obstacle, text)) => (Verdict::No, format!("no token can be had: {text}")),
            Some((Level::Wait, text)) => (Verdict::Later, format!("no token for now: {text}")),
            _ => match self.best_token() {
                Some(token) => (Verdict::Valid, format!("a token can be had: {}", valid_until(token))),
                None => {
                    (Verdict::Refreshable, "a token can be had by a refresh, unless the provider objects".to_owned())
                }
            },
        }
    }

    fn details(&self) -> Option<&AccountDetails> {
        self.account.and_then(|account| account.details.as_ref()).map(|register| &register.value)
    }

    fn listed(&self) -> Finding {
        let Some(account) = self.account else {
            return Finding::new(
                Level::Obstacle,
                "the index does not know this account, so no worker looks for it",
                "check the key; then whether the app writes its caches through the adapter, and whether relay and \
                 projector run (`producer relay`, `consumer project`)",
            );
        };
        match (account.is_listed(), account.last_activity, account.removed_at) {
            (true, Some(time), _) => Finding::good(format!("the index lists the account; the user was here {time:.0}")),
            (_, _, Some(time)) => Finding::new(
                Level::Obstacle,
                format!("the cache was removed {time:.0}: the user signed out, or it was purged"),
                "nothing: the account is listed again when the user signs in again",
            ),
            _ => Finding::new(
                Level::Obstacle,
                "the index has heard of the account from a worker only, and of no activity of its user",
                "rebuild the index from the log, if the log still has the user's activity",
            ),
        }
    }

    /// The failure in force; after it was tried in vain, only another try can tell whether it still is so.
    fn last_failure(&self) -> Option<Finding> {
        let register = self.account.filter(|account| account.is_listed())?.failure_in_force()?;
        let (failure, at) = (&register.value, register.stamp.time());
        let codes = [failure.error.as_ref(), failure.suberror.as_ref()].into_iter().flatten();
        let codes: Vec<&str> = codes.map(|code| code.as_str()).collect();
        let codes = if codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) };
        let reason = failure.reason;
        let retry = failure.retry_after.and_then(|time| Timestamp::from_second(time).ok());
        let pause = retry.map(|time| format!("; the provider may be asked again {time:.0}")).unwrap_or_default();
        let text = format!("the last attempt failed {at:.0}: {}{codes}{pause}", in_words(reason));
        Some(Finding::new(advice::level(reason), text, advice::after(reason)))
    }

    fn other_client(&self) -> Option<Finding> {
        let (own, theirs) = (self.client_id?, &self.details()?.client_id);
        let is_own = own.as_str().eq_ignore_ascii_case(theirs.as_str());
        (!is_own).then(|| {
            Finding::new(
                Level::Obstacle,
                format!("the account belongs to the app {theirs}, and this is {own}"),
                "run the worker with that app's registration: IDP_CLIENT_ID and its secret or certificate",
            )
        })
    }

    fn unreadable(&self) -> Option<Finding> {
        if let (Some(reason), Some(problem)) = (self.blob.unreadable, &self.blob.problem) {
            return Some(Finding::new(advice::level(reason), problem.clone(), advice::after(reason)));
        }
        let reason = FailureReason::CacheMissing;
        let is_missing = self.blob.is_stored == Some(false);
        is_missing
            .then(|| Finding::new(Level::Obstacle, "no token cache is stored under this key", advice::after(reason)))
    }

    fn content(&self) -> Vec<Finding> {
        if let Some(swapped) = self.swapped() {
            return vec![swapped];
        }
        let mut findings = vec![self.access_token(), self.refresh_token()];
        if !self.blob.oddities.is_empty() {
            let text = format!("{} entries of the blob are unusual", self.blob.oddities.len());
            findings.push(Finding::new(Level::Note, text, "see the list; some MSAL library may choke on them"));
        }
        findings
    }

    /// Whether the blob is about others, and not about whom the index says.
    fn swapped(&self) -> Option<Finding> {
        let own = self.details()?.home_account_id.as_str();
        let owners = self.blob.owners();
        if owners.is_empty() || owners.contains(&own) {
            return None;
        }
        let text = format!("the blob under this key is of {}, and not of {own}", owners.join(", "));
        Some(Finding::new(Level::Obstacle, text, advice::after(FailureReason::MalformedCache)))
    }

    fn access_token(&self) -> Finding {
        if let Some(token) = self.best_token() {
            return Finding::good(valid_until(token));
        }
        let newest = self.own_access_tokens().filter_map(|token| token.expires_on).max();
        match newest {
            Some(time) if time > self.now => Finding::good(format!("the access token expires soon, {time:.0}")),
            Some(time) => Finding::good(format!("the access token expired {time:.0}, which a refresh mends")),
            None => Finding::good("the blob holds no access token for this app, which a refresh mends"),
        }
    }

    fn refresh_token(&self) -> Finding {
        let own: Vec<&RefreshTokenReport> = self.own_refresh_tokens().collect();
        if let Some(token) = own.iter().find(|token| self.is_this_client(&token.client_id) || token.family_id.is_some())
        {
            let written = token.written_at.map(|time| format!(", written {time:.0}")).unwrap_or_default();
            return Finding::good(format!("there is a refresh token{written}"));
        }
        let level = if self.best_token().is_some() { Level::Note } else { Level::Obstacle };
        let text = match own.first() {
            Some(token) => format!("the refresh token is the app {}'s alone", token.client_id),
            None => "there is no refresh token for this account".to_owned(),
        };
        Finding::new(level, text, advice::after(FailureReason::NoRefreshToken))
    }

    fn best_token(&self) -> Option<&AccessTokenReport> {
        let enough = self.now.as_second() + ENOUGH_SECONDS;
        let valid = self.own_access_tokens().filter(|token| token.expires_on.is_some_and(|t| t.as_second() >= enough));
        valid.max_by_key(|token| token.expires_on)
    }

    fn own_access_tokens(&self) -> impl Iterator<Item = &AccessTokenReport> {
        let own = self.blob.access_tokens.iter();
        own.filter(|token| self.is_this_user(&token.home_account_id) && self.is_this_client(&token.client_id))
    }

    fn own_refresh_tokens(&self) -> impl Iterator<Item = &RefreshTokenReport> {
        self.blob.refresh_tokens.iter().filter(|token| self.is_this_user(&token.home_account_id))
    }

    /// Where the index does not say whose it is, whoever is in the blob will do.
    fn is_this_user(&self, home_account_id: &str) -> bool {
        self.details().is_none_or(|details| details.home_account_id.as_str() == home_account_id)
    }

    fn is_this_client(&self, client_id: &str) -> bool {
        let known = self.client_id.or_else(|| self.details().map(|details| &details.client_id));
        known.is_none_or(|known| known.as_str().eq_ignore_ascii_case(client_id))
    }
}

fn valid_until(token: &AccessTokenReport) -> String {
    let until = token.expires_on.map(|time| format!("{time:.0}")).unwrap_or_default();
    format!("the access token for {} is valid until {until}", token.scopes)
}

fn in_words(reason: FailureReason) -> String {
    reason.as_str().replace('_', " ")
}
