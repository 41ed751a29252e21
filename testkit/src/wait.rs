//! Waiting for a condition with a bound.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Polls `condition` until it is true.
///
/// # Panics
/// When `limit` passes first; the panic names the caller's line. A condition that never resolves counts as false.
#[track_caller]
pub fn wait_until<C, F>(limit: Duration, mut condition: C) -> impl Future<Output = ()>
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    wait_for(limit, move || {
        let met = condition();
        async move { met.await.then_some(()) }
    })
}

/// Polls `question` until it answers, and returns the answer.
///
/// # Panics
/// When `limit` passes first; the panic names the caller's line. A question that never resolves counts as unanswered.
#[track_caller]
pub fn wait_for<C, F, T>(limit: Duration, question: C) -> impl Future<Output = T>
where
    C: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let caller = Location::caller();
    async move {
        match poll_within(limit, question).await {
            Some(answer) => answer,
            None => panic!("the condition waited for at {caller} was not met within {limit:?}"),
        }
    }
}

/// The answer, or none when `limit` passes first.
pub(crate) async fn poll_within<C, F, T>(limit: Duration, mut question: C) -> Option<T>
where
    C: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(answer) = tokio::time::timeout_at(deadline, question()).await.ok()? {
            return Some(answer);
        }
        if Instant::now() + pause >= deadline {
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_returns_as_soon_as_the_condition_holds() {
        let polls = Cell::new(0);
        wait_until(Duration::from_secs(1), || {
            polls.set(polls.get() + 1);
            let enough = polls.get() == 3;
            async move { enough }
        })
        .await;
        assert_eq!(polls.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn it_hands_back_the_answer() {
        let answer = wait_for(Duration::from_secs(1), || async { Some(7) }).await;
        assert_eq!(answer, 7);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "was not met within 1s")]
    async fn it_panics_when_the_bound_passes() {
        wait_until(Duration::from_secs(1), || async { false }).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "wait.rs")]
    async fn a_condition_that_hangs_counts_as_false() {
        wait_until(Duration::from_secs(1), std::future::pending).await;
    }
}
