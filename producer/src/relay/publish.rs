//! Appends what was taken to the log: coalesced, over all partitions, bounded, again and again until it is confirmed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use common::log::{ActivityLog, AppendError};
use common::retry::{Retry, Setback};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::pending::{Batch, Pending};
use super::status::{RelayStatus, Server, note_failure, note_success};
use super::take::Taken;
use super::{RelaySettings, Shared};

pub(super) struct Publisher {
    log: Arc<dyn ActivityLog>,
    settings: RelaySettings,
    status: watch::Sender<RelayStatus>,
    published: mpsc::Sender<Batch>,
    shared: Shared,
    pending: Pending,
    outstanding: JoinSet<Answer>,
    next_partition: u32,
    retry: Retry,
    /// While the log fails: when it is tried again, with one batch.
    probe_at: Option<Instant>,
}

struct Answer {
    batch: Batch,
    result: Result<(), AppendError>,
}

impl Publisher {
    pub(super) fn new(
        log: Arc<dyn ActivityLog>,
        settings: RelaySettings,
        status: watch::Sender<RelayStatus>,
        published: mpsc::Sender<Batch>,
        shared: Shared,
    ) -> Self {
        Self {
            log,
            settings,
            status,
            published,
            shared,
            pending: Pending::default(),
            outstanding: JoinSet::new(),
            next_partition: 0,
            retry: Retry::new(settings.retry),
            probe_at: None,
        }
    }

    /// Publishes until there is nothing more to come and all is answered. When the log fails then, what is left is
    /// left: it comes back by itself.
    pub(super) async fn run(mut self, mut taken: mpsc::Receiver<Taken>, shutdown: CancellationToken) {
        if shutdown.run_until_cancelled(self.learn_partitions()).await.is_none() {
            return;
        }
        let mut is_closed = false;
        loop {
            self.send_what_is_due();
            if is_closed && self.is_done() {
                return;
            }
            let wake_at = self.wake_at();
            tokio::select! {
                more = taken.recv(), if !is_closed => match more {
                    Some(more) => self.pending.push(more, Instant::now()),
                    None => is_closed = true,
                },
                Some(answer) = self.outstanding.join_next() => self.settle(answer).await,
                () = until(wake_at) => {}
            }
        }
    }

    async fn learn_partitions(&mut self) {
        loop {
            match self.log.partitions().await {
                Ok(partitions) => {
                    self.shared.partitions.store(partitions.max(1), Relaxed);
                    self.retry.reset();
                    note_success(&self.status, Server::Log);
                    return self.shared.lost.notify_one();
                }
                Err(error) => {
                    let setback = Setback::from(&error);
                    note_failure(&self.status, Server::Log, &setback);
                    sleep(self.retry.delay_after(&setback)).await;
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        self.outstanding.is_empty() && (self.pending.is_empty() || self.probe_at.is_some())
    }

    fn wake_at(&self) -> Option<Instant> {
        match self.probe_at {
            Some(probe_at) => self.outstanding.is_empty().then_some(probe_at),
            None if self.outstanding.len() < self.settings.outstanding_batches => self.pending.due_at(&self.settings),
            None => None,
        }
    }

    fn send_what_is_due(&mut self) {
        let now = Instant::now();
        while let Some(batch) = self.next_due(now) {
            self.send(batch);
        }
    }

    fn next_due(&mut self, now: Instant) -> Option<Batch> {
        match self.probe_at {
            None => self.pending.next_due(now, self.outstanding.len(), &self.settings),
            Some(probe_at) if probe_at <= now && self.outstanding.is_empty() => {
                self.pending.next_batch(self.settings.batch_events)
            }
            Some(_) => None,
        }
    }

    fn send(&mut self, batch: Batch) {
        let partition = self.next_partition % self.shared.partitions.load(Relaxed).max(1);
        self.next_partition = self.next_partition.wrapping_add(1);
        let log = Arc::clone(&self.log);
        self.outstanding.spawn(async move {
            let result = log.append_sealed(partition, &batch.events).await;
            Answer { batch, result }
        });
        self.status.send_modify(|status| status.outstanding_batches = self.outstanding.len());
    }

    async fn settle(&mut self, answer: Result<Answer, JoinError>) {
        let outstanding = self.outstanding.len();
        self.status.send_modify(|status| status.outstanding_batches = outstanding);
        match answer {
            Ok(Answer { batch, result: Ok(()) }) => self.confirmed(batch).await,
            Ok(Answer { batch, result: Err(error) }) => self.failed(batch, &error),
            // Its batch is gone with it, and comes back by itself; that a backend panics has to be seen.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }

    async fn confirmed(&mut self, batch: Batch) {
        if self.probe_at.take().is_some() {
            self.retry.reset();
            self.shared.lost.notify_one();
        }
        note_success(&self.status, Server::Log);
        self.status.send_modify(|status| {
            status.batches += 1;
            status.events_published += u64::try_from(batch.events.len()).unwrap_or(u64::MAX);
        });
        // Only a relay that is being dropped has nobody who confirms.
        let _ = self.published.send(batch).await;
    }

    fn failed(&mut self, batch: Batch, error: &AppendError) {
        if let AppendError::NoSuchPartition { partitions, .. } = error {
            self.shared.partitions.store((*partitions).max(1), Relaxed);
        }
        self.pending.take_back(batch, Instant::now());
        self.pause(&Setback::from(error));
    }

    fn pause(&mut self, setback: &Setback) {
        note_failure(&self.status, Server::Log, setback);
        // Appends that fail together are one failure: they do not wait longer for it.
        let now = Instant::now();
        if self.probe_at.is_none_or(|probe_at| probe_at <= now) {
            self.probe_at = Some(now + self.retry.delay_after(setback));
        }
    }
}

/// Waits until then, or for ever.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}
