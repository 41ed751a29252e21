//! One account: whether it is to be tried, its token, and the event about what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::backends::TokenCache;
use common::event::{AccountDetails, AccountHint, Activity, EventDraft, Recovery};
use common::identity::{AccessToken, AcquireError, Acquired, Denied, IdentityClient, TokenAcquirer, TokenSource};
use common::index::AccountActivity;
use common::program::one_line;
use jiff::{SignedDuration, Timestamp};

use super::due::ClaimGuard;
use super::plan::Plan;
use super::report::{AccountOutcome, Skipped};
use super::settings::WorkerSettings;
use super::writer::HydrationWriter;

/// Hydrates accounts, one at a call.
#[derive(Debug)]
pub(super) struct Hydrator {
    pub(super) client: IdentityClient,
    pub(super) cache: TokenCache,
    pub(super) settings: WorkerSettings,
}

/// What became of one account.
pub(super) struct Hydration {
    pub(super) outcome: AccountOutcome,
    /// There is one where the outcome is good so far.
    pub(super) token: Option<AccessToken>,
    /// Whether a refresh was written back, with its event.
    pub(super) is_hydrated: bool,
    /// Whether an event that is due could not be kept.
    pub(super) is_untold: bool,
    /// Why there is no token, in a sentence.
    pub(super) detail: Option<String>,
    /// When the provider may be asked again; or when the token that was found has to be renewed.
    pub(super) until: Option<Timestamp>,
}

/// Under what an account is worked on.
#[derive(Debug, Default)]
pub(super) struct Under {
    /// The claim, where there is one.
    pub(super) claim: Option<Arc<ClaimGuard>>,
    /// Whether to refresh in any case.
    pub(super) is_forced: bool,
}

impl Hydration {
    pub(super) fn without_token(outcome: AccountOutcome) -> Self {
        Self { outcome, token: None, is_hydrated: false, is_untold: false, detail: None, until: None }
    }
}

impl Hydrator {
    /// Has a token for the account.
    ///
    /// # Cancel safety
    /// A refresh that was begun ends by itself and is written back, with its event.
    pub(super) async fn hydrate(&self, account: &AccountActivity, under: &Under) -> Hydration {
        let details = match self.details_to_try(account) {
            Ok(details) => details,
            Err(skipped) => return Hydration::without_token(AccountOutcome::Skipped(skipped)),
        };
        let writer = Arc::new(self.writer(details, under));
        match self.acquire(account, details, &writer, under).await {
            Ok(acquired) => {
                let is_hydrated =
                    acquired.source == TokenSource::Refreshed || writer.has_written.load(Ordering::SeqCst);
                let outcome = if is_hydrated { AccountOutcome::Hydrated } else { AccountOutcome::StillValid };
                let until = self.renewed_from(&acquired.token);
                Hydration { token: Some(acquired.token), is_hydrated, until, ..Hydration::without_token(outcome) }
            }
            Err(error) => self.failed(account, details, &error, under).await,
        }
    }

    fn details_to_try<'a>(&self, account: &'a AccountActivity) -> Result<&'a AccountDetails, Skipped> {
        if !account.is_listed() {
            return Err(Skipped::Removed);
        }
        let details = &account.details.as_ref().ok_or(Skipped::Unknown)?.value;
        if !details.client_id.as_str().eq_ignore_ascii_case(self.client.client_id().as_str()) {
            return Err(Skipped::OtherClient);
        }
        let failure = account.failure_in_force().map(|register| &register.value);
        match failure.map(|failure| (failure.reason.recovery(), failure.retry_after)) {
            Some((Recovery::UserActivity, _)) if !self.settings.tries_parked => Err(Skipped::Parked),
            Some((Recovery::Retry, Some(after))) if after > self.client.clock().unix_seconds() => {
                Err(Skipped::BackingOff)
            }
            _ => Ok(details),
        }
    }

    /// When a token is no longer valid for long enough.
    fn renewed_from(&self, token: &AccessToken) -> Option<Timestamp> {
        let ahead = SignedDuration::try_from(self.settings.silent.min_remaining).ok()?;
        token.expires_on().checked_sub(ahead).ok()
    }

    fn writer(&self, details: &AccountDetails, under: &Under) -> HydrationWriter {
        HydrationWriter {
            store: Arc::clone(&self.cache.store),
            source: self.settings.source.clone(),
            clock: self.client.clock().clone(),
            known: details.clone(),
            has_written: AtomicBool::new(false),
            claim: under.claim.clone(),
        }
    }

    /// The acquirer is this account's own: its writer knows the account, and nothing goes on behind the outcome.
    async fn acquire(
        &self,
        account: &AccountActivity,
        details: &AccountDetails,
        writer: &Arc<HydrationWriter>,
        under: &Under,
    ) -> Result<Acquired, AcquireError> {
        let plan = Plan { client: &self.client, settings: &self.settings, key: &account.cache_key, details };
        let mut request = plan.request(self.cache.store.as_ref()).await?;
        request.options.force_refresh |= under.is_forced;
        let acquirer = TokenAcquirer::new(
            self.client.clone(),
            Arc::clone(&self.cache.store),
            Arc::clone(writer) as _,
            Some(Arc::clone(&self.cache.refresh_lock)),
        );
        let acquired = acquirer.acquire_token_silent(&request).await;
        acquirer.drain().await;
        acquired
    }

    async fn failed(
        &self,
        account: &AccountActivity,
        details: &AccountDetails,
        error: &AcquireError,
        under: &Under,
    ) -> Hydration {
        let reason = error.reason();
        let until = error.retry_after();
        if let Some(outcome) = outcome_without_event(error, under).await {
            tracing::info!(cache_key = %account.cache_key, outcome = outcome.as_str(), "an account is left to others");
            return Hydration { until, ..Hydration::without_token(outcome) };
        }
        tracing::info!(
            cache_key = %account.cache_key,
            reason = reason.as_str(),
            error = error as &dyn std::error::Error,
            "no token for an account"
        );
        let failure = Activity::AcquisitionFailed(error.failure(AccountHint::from(details)));
        let event = EventDraft::new(self.settings.source.clone(), account.cache_key.clone(), failure);
        let told = self.cache.outbox.append(&event).await;
        if let Err(error) = &told {
            tracing::warn!(%error, cache_key = %account.cache_key, "the log will not know of a failure");
        }
        let (is_untold, detail) = (told.is_err(), Some(one_line(error)));
        Hydration { is_untold, detail, until, ..Hydration::without_token(AccountOutcome::NoToken(reason)) }
    }
}

/// What is nobody's failure: the account is another worker's, or its tenant is left alone. A worker that has lost its
/// claim may have been refused for what the new holder did, so it says nothing of the account.
async fn outcome_without_event(error: &AcquireError, under: &Under) -> Option<AccountOutcome> {
    match error {
        AcquireError::Denied(Denied::ClaimLost) => return Some(AccountOutcome::ClaimLost),
        AcquireError::Denied(Denied::Paused { .. }) => return Some(AccountOutcome::LeftAlone),
        _ => {}
    }
    match &under.claim {
        Some(claim) if claim.is_lost().await => Some(AccountOutcome::ClaimLost),
        _ => None,
    }
}
