//! One at a time for each cache key: two refreshes with one refresh token would spend it twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::account::CacheKey;

/// From how many keys on those that nobody waits for are swept out.
const SWEEP_FROM: usize = 1024;

/// The queues, by cache key; a key is in the map while somebody has or waits for its turn, and a little longer.
#[derive(Debug, Default)]
pub(super) struct Turns {
    keys: Mutex<HashMap<CacheKey, Weak<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Waits for the turn of `key`, which lasts until the guard is dropped.
    pub(super) async fn wait(&self, key: &CacheKey) -> OwnedMutexGuard<()> {
        self.queue(key).lock_owned().await
    }

    fn queue(&self, key: &CacheKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = keys.get(key).and_then(Weak::upgrade) {
            return queue;
        }
        // Swept when the map has doubled, so that the sweep costs each key a constant.
        if keys.len() >= SWEEP_FROM && keys.len() == keys.capacity() {
            keys.retain(|_, queue| queue.strong_count() > 0);
        }
        let queue = Arc::default();
        keys.insert(key.clone(), Arc::downgrade(&queue));
        queue
    }
}
