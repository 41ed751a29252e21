//! What was taken and is not on its way yet, and when it has to go.

use std::collections::VecDeque;

use common::event::ActivityEvent;
use common::token_cache::{EntryId, OutboxEntry};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::RelaySettings;
use super::take::Taken;

/// Events for one append, and what confirms them.
pub(super) struct Batch {
    pub(super) ids: Vec<EntryId>,
    pub(super) events: Vec<ActivityEvent>,
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
