//! One job: done, failed, panicked or out of time; never more than its own account's trouble.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use common::account::CacheKey;
use common::identity::AccessToken;
use futures_util::FutureExt as _;

use super::report::AccountOutcome;

/// Runs a job within its time; `None` where it was done.
pub(super) async fn run<F, E>(
    key: &CacheKey,
    token: AccessToken,
    time_limit: Duration,
    begin: impl FnOnce(AccessToken) -> F,
) -> Option<AccountOutcome>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let handed_out = token.clone();
    // What a job that panicked has left half done is its own.
    let job = AssertUnwindSafe(async { begin(handed_out).await }).catch_unwind();
    match tokio::time::timeout(time_limit, job).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => {
            let error = without_token(error.to_string(), &token);
            tracing::warn!(cache_key = %key, error, "a job failed");
            Some(AccountOutcome::JobFailed)
        }
        Ok(Err(_)) => {
            tracing::error!(cache_key = %key, "a job panicked");
            Some(AccountOutcome::JobPanicked)
        }
        Err(_) => {
            tracing::warn!(cache_key = %key, ?time_limit, "a job took too long");
            Some(AccountOutcome::JobTimedOut)
        }
    }
}

/// Jobs are other people's code: what they say goes into the log, and the token does not.
fn without_token(text: String, token: &AccessToken) -> String {
    match token.expose() {
        "" => text,
        secret if text.contains(secret) => text.replace(secret, "…"),
        _ => text,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn token() -> AccessToken {
        AccessToken::new("marker-token".to_owned().into(), Timestamp::UNIX_EPOCH)
    }

    async fn outcome<F: Future<Output = Result<(), String>>>(
        begin: impl FnOnce(AccessToken) -> F,
    ) -> Option<AccountOutcome> {
        run(&"key".parse().unwrap(), token(), Duration::from_secs(60), begin).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_s_error_panic_and_time_out_are_outcomes() {
        assert_eq!(outcome(|_| async { Ok(()) }).await, None);
        assert_eq!(outcome(|_| async { Err("no".to_owned()) }).await, Some(AccountOutcome::JobFailed));
        assert_eq!(outcome(|_| async { panic!("on purpose") }).await, Some(AccountOutcome::JobPanicked));
        let at_once = |_| -> std::future::Ready<Result<(), String>> { panic!("on purpose, before the first await") };
        assert_eq!(outcome(at_once).await, Some(AccountOutcome::JobPanicked));
        assert_eq!(outcome(|_| std::future::pending()).await, Some(AccountOutcome::JobTimedOut));
    }

    #[test]
    fn a_token_in_a_job_s_error_is_taken_out_of_it() {
        let said = without_token("401 for Bearer marker-token".to_owned(), &token());
        assert_eq!(said, "401 for Bearer …");
    }
}
