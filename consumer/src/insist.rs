//! Doing something again while its server is away.

use common::retry::{Retry, RetryDelays, Setback};
use tokio::time::sleep;

/// Does it until it is done, or fails for a reason that does not pass by itself.
pub(crate) async fn insist<T, E>(retry: RetryDelays, act: impl AsyncFn() -> Result<T, E>) -> Result<T, E>
where
    for<'a> Setback: From<&'a E>,
{
    let mut retry = Retry::new(retry);
    loop {
        let done = act().await;
        let setback = match &done {
            Err(error) => Setback::from(error),
            Ok(_) => return done,
        };
        if !setback.is_transient {
            return done;
        }
        tracing::warn!(why = %setback, "a server is away; going on when it is back");
        sleep(retry.delay_after(&setback)).await;
    }
}
