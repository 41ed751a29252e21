//! A map of bounded size whose entries end by themselves.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hashlink::LruCache;
use jiff::Timestamp;

use super::token::Digest;

/// How many entries there may be, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most entries; one more takes the place of the one that was not used for the longest time.
    pub most: usize,
    /// How long an entry lives.
    pub life: Duration,
    /// How long it lives unused.
    pub rest: Duration,
}

/// Entries by the digest of a secret.
pub(super) struct Expiring<V> {
    bounds: Bounds,
    entries: Mutex<LruCache<Digest, Entry<V>>>,
}

struct Entry<V> {
    value: V,
    begun_at: Timestamp,
    used_at: Timestamp,
}

impl<V: Clone> Expiring<V> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, entries: Mutex::new(LruCache::new(bounds.most)) }
    }

    /// Keeps a value from `now` on.
    pub(super) fn insert(&self, key: Digest, value: V, now: Timestamp) {
        let mut entries = self.lock();
        self.forget_ended(&mut entries, now);
        entries.insert(key, Entry { value, begun_at: now, used_at: now });
    }

    /// The value, if it lives; it has then been used.
    pub(super) fn get(&self, key: &Digest, now: Timestamp) -> Option<V> {
        self.change(key, now, |value| value.clone())
    }

    /// Changes the value in its place, if it lives; it has then been used.
    pub(super) fn change<T>(&self, key: &Digest, now: Timestamp, change: impl FnOnce(&mut V) -> T) -> Option<T> {
        let mut entries = self.lock();
        let entry = entries.get_mut(key)?;
        if self.has_ended(entry, now) {
            entries.remove(key);
            return None;
        }
        entry.used_at = now;
        Some(change(&mut entry.value))
    }

    /// The value, if it lives; it is gone then.
    pub(super) fn take(&self, key: &Digest, now: Timestamp) -> Option<V> {
        let entry = self.lock().remove(key)?;
        (!self.has_ended(&entry, now)).then_some(entry.value)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Those that were not used for the longest time are at the front, so the rest need not be looked at.
    fn forget_ended(&self, entries: &mut LruCache<Digest, Entry<V>>, now: Timestamp) {
        while entries.iter().next().is_some_and(|(_, oldest)| self.has_ended(oldest, now)) {
            entries.remove_lru();
        }
    }

    fn has_ended(&self, entry: &Entry<V>, now: Timestamp) -> bool {
        let is_over = |since: Timestamp, time: Duration| since.checked_add(time).is_ok_and(|end| end <= now);
        is_over(entry.begun_at, self.bounds.life) || is_over(entry.used_at, self.bounds.rest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<Digest, Entry<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn three_for_a_minute() -> Expiring<u8> {
        Expiring::new(Bounds { most: 3, life: Duration::from_secs(60), rest: Duration::from_secs(20) })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_entry_ends_with_its_life_however_often_it_is_used() {
        let map = three_for_a_minute();
        map.insert([1; 32], 1, at(0));
        for second in (10..60).step_by(10) {
            assert_eq!(map.get(&[1; 32], at(second)), Some(1), "{second}");
        }
        assert_eq!(map.get(&[1; 32], at(60)), None);
        assert_eq!(map.len(), 0);
    }

    #[test]
    fn an_entry_that_is_not_used_ends_sooner() {
        let map = three_for_a_minute();
        map.insert([1; 32], 1, at(0));
        assert_eq!(map.get(&[1; 32], at(20)), None);
    }

    #[test]
    fn one_too_many_takes_the_place_of_the_one_that_was_not_used_for_the_longest_time() {
        let map = three_for_a_minute();
        (1..=3).for_each(|n| map.insert([n; 32], n, at(0)));
        map.get(&[1; 32], at(1));
        map.insert([4; 32], 4, at(2));
        assert_eq!(map.len(), 3);
        assert_eq!(map.get(&[2; 32], at(2)), None);
        assert_eq!(map.get(&[1; 32], at(2)), Some(1));
    }

    #[test]
    fn what_has_ended_leaves_when_the_next_one_comes() {
        let map = three_for_a_minute();
        (1..=3).for_each(|n| map.insert([n; 32], n, at(0)));
        map.insert([4; 32], 4, at(30));
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn what_is_taken_is_gone() {
        let map = three_for_a_minute();
        map.insert([1; 32], 1, at(0));
        assert_eq!(map.take(&[1; 32], at(1)), Some(1));
        assert_eq!(map.take(&[1; 32], at(1)), None);
        map.insert([2; 32], 2, at(0));
        assert_eq!(map.take(&[2; 32], at(60)), None, "it had ended");
    }
}
