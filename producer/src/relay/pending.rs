//! What was taken and is not on its way yet, and when it has to go.

use std::collections::VecDeque;

use common::event::SealedEvent;
use common::token_cache::{EntryId, OutboxEntry};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::RelaySettings;
use super::take::Taken;

/// Events for one append, and what confirms them.
pub(super) struct Batch {
    pub(super) ids: Vec<EntryId>,
    pub(super) events: Vec<SealedEvent>,
    pub(super) room: OwnedSemaphorePermit,
}

/// Entries in the order they came, each with the time it came at.
#[derive(Default)]
pub(super) struct Pending {
    entries: VecDeque<(Instant, OutboxEntry)>,
    room: Option<OwnedSemaphorePermit>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, taken: Taken, now: Instant) {
        self.entries.extend(taken.entries.into_iter().map(|entry| (now, entry)));
        self.keep(taken.room);
    }

    /// Takes back a batch that the log did not confirm. It is the oldest there is, so it goes first.
    pub(super) fn take_back(&mut self, batch: Batch, now: Instant) {
        let entries = batch.ids.into_iter().zip(batch.events).map(|(id, event)| OutboxEntry { id, event });
        for entry in entries.rev() {
            self.entries.push_front((now, entry));
        }
        self.keep(batch.room);
    }

    fn keep(&mut self, room: OwnedSemaphorePermit) {
        match &mut self.room {
            Some(kept) => kept.merge(room),
            None => self.room = Some(room),
        }
    }

    /// When the oldest entry has waited long enough.
    pub(super) fn due_at(&self, settings: &RelaySettings) -> Option<Instant> {
        self.entries.front().map(|(came_at, _)| *came_at + settings.max_age)
    }

    /// The next batch, where one has to go now: nothing is under way, or it is full, or its oldest entry has waited
    /// long enough.
    pub(super) fn next_due(&mut self, now: Instant, outstanding: usize, settings: &RelaySettings) -> Option<Batch> {
        if outstanding >= settings.outstanding_batches {
            return None;
        }
        let is_full = self.entries.len() >= settings.batch_events;
        let is_old = self.due_at(settings)? <= now;
        if outstanding == 0 || is_full || is_old { self.next_batch(settings.batch_events) } else { None }
    }

    /// Up to `most` of the oldest entries.
    pub(super) fn next_batch(&mut self, most: usize) -> Option<Batch> {
        let count = self.entries.len().min(most);
        if count == 0 {
            return None;
        }
        let room = match count == self.entries.len() {
            true => self.room.take(),
            false => self.room.as_mut().and_then(|room| room.split(count)),
        }?;
        let (ids, events) = self.entries.drain(..count).map(|(_, entry)| (entry.id, entry.event)).unzip();
        Some(Batch { ids, events, room })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use common::account::CacheKey;
    use common::event::{AccountHint, Activity, EventDraft, EventSource};
    use jiff::Timestamp;
    use tokio::sync::Semaphore;

    use super::*;

    const SETTINGS: RelaySettings = RelaySettings {
        max_age: Duration::from_millis(2),
        batch_events: 10,
        outstanding_batches: 3,
        held_events: 100,
        visibility: Duration::from_secs(30),
        grace: Duration::from_secs(600),
        trim_every: Duration::from_secs(30),
        rewind_every: Duration::from_secs(30),
        look_every: Duration::from_secs(10),
        shutdown_grace: Duration::from_secs(10),
        retry: common::retry::RetryDelays {
            first: Duration::from_millis(50),
            longest: Duration::from_secs(2),
            refused: Duration::from_secs(15),
        },
    };

    fn taken(count: usize, room: &Arc<Semaphore>) -> Taken {
        let source = EventSource::new("/apps/test").unwrap();
        let key = CacheKey::new("key").unwrap();
        let entry = |number: usize| OutboxEntry {
            id: EntryId::new(number.to_string()),
            event: SealedEvent::of(
                &EventDraft::new(source.clone(), key.clone(), Activity::Removed(AccountHint::default()))
                    .at(Timestamp::UNIX_EPOCH),
            ),
        };
        let room = Arc::clone(room).try_acquire_many_owned(u32::try_from(count).unwrap()).unwrap();
        Taken { entries: (0..count).map(entry).collect(), room }
    }

    fn sizes(pending: &mut Pending, now: Instant, outstanding: usize) -> Vec<usize> {
        let mut sizes = Vec::new();
        while let Some(batch) = pending.next_due(now, outstanding + sizes.len(), &SETTINGS) {
            sizes.push(batch.ids.len());
        }
        sizes
    }

    #[test]
    fn what_comes_while_nothing_is_under_way_goes_at_once() {
        let (room, now) = (Arc::new(Semaphore::new(100)), Instant::now());
        let mut pending = Pending::default();
        pending.push(taken(3, &room), now);
        assert_eq!(sizes(&mut pending, now, 0), [3]);
        assert!(pending.is_empty());
        assert_eq!(room.available_permits(), 100, "the room went with the batch");
    }

    #[test]
    fn what_comes_while_an_append_is_under_way_waits_for_others_but_not_long() {
        let (room, now) = (Arc::new(Semaphore::new(100)), Instant::now());
        let mut pending = Pending::default();
        pending.push(taken(3, &room), now);
        assert_eq!(sizes(&mut pending, now, 1), [0; 0]);
        pending.push(taken(4, &room), now + SETTINGS.max_age / 2);
        assert_eq!(pending.due_at(&SETTINGS), Some(now + SETTINGS.max_age));
        assert_eq!(sizes(&mut pending, now + SETTINGS.max_age, 1), [7]);
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let (room, now) = (Arc::new(Semaphore::new(100)), Instant::now());
        let mut pending = Pending::default();
        pending.push(taken(23, &room), now);
        assert_eq!(sizes(&mut pending, now, 1), [10, 10], "the rest is not full and not old");
        assert_eq!(sizes(&mut pending, now, 0), [3], "and goes when nothing is under way");
    }

    #[test]
    fn no_more_go_than_may_be_outstanding() {
        let (room, now) = (Arc::new(Semaphore::new(100)), Instant::now());
        let mut pending = Pending::default();
        pending.push(taken(60, &room), now);
        assert_eq!(sizes(&mut pending, now, 0), [10, 10, 10]);
        assert_eq!(sizes(&mut pending, now + Duration::from_secs(1), 3), [0; 0]);
    }

    #[test]
    fn a_batch_that_failed_goes_first_and_keeps_its_room() {
        let (room, now) = (Arc::new(Semaphore::new(100)), Instant::now());
        let mut pending = Pending::default();
        pending.push(taken(4, &room), now);
        let failed = pending.next_batch(2).unwrap();
        let ids = failed.ids.clone();
        pending.take_back(failed, now);
        assert_eq!(room.available_permits(), 96);
        let again = pending.next_batch(10).unwrap();
        assert_eq!((&again.ids[..2], again.ids.len()), (&ids[..], 4));
        drop(again);
        assert_eq!(room.available_permits(), 100);
    }
}
