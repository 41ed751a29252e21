//! One run for everybody who wants the same at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::task::TaskTracker;

/// How often somebody who waits takes over a run that came to nothing.
const MOST_RUNS: usize = 3;

type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;
type Flights<K, V> = Arc<Mutex<HashMap<K, Flight<V>>>>;

/// Runs that are under way, by what they are for. A run is a task of its own: it goes on when those who wait for it
/// are gone, so that what it has half done is not lost.
pub(super) struct SingleFlight<K, V> {
    flights: Flights<K, V>,
    /// Bounds the map: who finds no place waits for one.
    places: Arc<Semaphore>,
    tracker: TaskTracker,
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> SingleFlight<K, V> {
    pub(super) fn new(most: usize, tracker: TaskTracker) -> Self {
        Self { flights: Flights::default(), places: Arc::new(Semaphore::new(most)), tracker }
    }

    /// The outcome of the run for `key`, which is begun where there is none; `None` where it was cut short.
    ///
    /// # Cancel safety
    /// A dropped call leaves the run to the others, and to its end.
    pub(super) async fn run(&self, key: &K, begin: impl Fn() -> BoxFuture<'static, V>) -> Option<V> {
        for _ in 0..MOST_RUNS {
            let under_way = lock(&self.flights).get(key).cloned();
            let flight = match under_way {
                Some(flight) => flight,
                None => {
                    let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
                    self.join_or_begin(key, place, &begin)
                }
            };
            if let Some(outcome) = flight.await {
                return Some(outcome);
            }
        }
        None
    }

    fn join_or_begin(
        &self,
        key: &K,
        place: OwnedSemaphorePermit,
        begin: impl Fn() -> BoxFuture<'static, V>,
    ) -> Flight<V> {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(key) {
            return flight.clone();
        }
        let (sender, receiver) = oneshot::channel();
        let (run, entry) = (begin(), Entry { flights: Arc::clone(&self.flights), key: key.clone(), _place: place });
        self.tracker.spawn(async move {
            let outcome = run.await;
            // Whoever comes from now on begins anew; whoever waits has the receiver.
            drop(entry);
            let _ = sender.send(outcome);
        });
        let flight = receiver.map(Result::ok).boxed().shared();
        flights.insert(key.clone(), flight.clone());
        flight
    }
}

/// Takes the run off the map when it ends, in whatever way.
struct Entry<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
    _place: OwnedSemaphorePermit,
}

impl<K: Eq + Hash, V> Drop for Entry<K, V> {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

fn lock<K, V>(flights: &Flights<K, V>) -> MutexGuard<'_, HashMap<K, Flight<V>>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn flights(most: usize) -> Arc<SingleFlight<&'static str, usize>> {
        Arc::new(SingleFlight::new(most, TaskTracker::new()))
    }

    #[tokio::test]
    async fn everybody_shares_one_run() {
        let (flights, runs, gate) = (flights(8), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let (flights, runs, gate) = (Arc::clone(&flights), Arc::clone(&runs), Arc::clone(&gate));
                tokio::spawn(async move {
                    let begin = || {
                        let (runs, gate) = (Arc::clone(&runs), Arc::clone(&gate));
                        async move {
                            gate.notified().await;
                            runs.fetch_add(1, Ordering::SeqCst) + 1
                        }
                        .boxed()
                    };
                    flights.run(&"a", begin).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        gate.notify_one();
        for call in calls {
            assert_eq!(call.await.unwrap(), Some(1));
        }
        assert!(lock(&flights.flights).is_empty());
        assert_eq!(flights.places.available_permits(), 8);
    }

    #[tokio::test]
    async fn a_run_goes_on_when_the_one_who_began_it_is_gone() {
        let (flights, gate) = (flights(8), Arc::new(Notify::new()));
        let begin = || {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                7
            }
            .boxed()
        };
        let mut first = Box::pin(flights.run(&"a", begin));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(flights.run(&"a", || async { 8 }.boxed()));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        gate.notify_one();
        assert_eq!(second.await, Some(7));
    }

    #[tokio::test]
    async fn when_a_run_dies_another_one_takes_over() {
        let flights = flights(8);
        let runs = AtomicUsize::new(0);
        let begin = || match runs.fetch_add(1, Ordering::SeqCst) {
            0 => async { panic!("on purpose") }.boxed(),
            run => async move { run }.boxed(),
        };
        assert_eq!(flights.run(&"a", begin).await, Some(1));
        assert!(lock(&flights.flights).is_empty());
    }

    #[tokio::test]
    async fn a_run_that_always_dies_is_given_up() {
        let flights = flights(8);
        assert_eq!(flights.run(&"a", || async { panic!("on purpose") }.boxed()).await, None);
        assert_eq!(flights.places.available_permits(), 8);
    }

    #[tokio::test]
    async fn where_all_places_are_taken_the_next_one_waits() {
        let (flights, gate) = (flights(1), Arc::new(Notify::new()));
        let begin = || {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                1
            }
            .boxed()
        };
        let mut first = Box::pin(flights.run(&"a", begin));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(flights.run(&"b", || async { 2 }.boxed()));
        assert!(futures_util::poll!(&mut second).is_pending());
        gate.notify_one();
        assert_eq!(first.await, Some(1));
        assert_eq!(second.await, Some(2));
    }
}
