//! Reads a partition ahead of what is applied, within a budget of bytes and messages.

use std::sync::Arc;
use std::time::Duration;

use common::event::MAX_BODY_BYTES;
use common::log::{LogError, LogMessage, LogReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::status::Noted;

/// The most messages of one call.
const MOST: usize = 512;
/// How long one call waits: how soon it is noticed that the log has nothing more.
const WAIT: Duration = Duration::from_secs(1);

/// A message with its share of the budget, which is given back when it is applied.
pub(super) struct Received {
    pub(super) message: LogMessage,
    pub(super) share: Option<OwnedSemaphorePermit>,
}

pub(super) struct ReadAhead {
    pub(super) reader: Box<dyn LogReader>,
    /// Bytes of message bodies that may be read.
    pub(super) budget: Arc<Semaphore>,
    pub(super) received: mpsc::Sender<Received>,
    pub(super) noted: Noted,
    pub(super) stop: CancellationToken,
}

impl ReadAhead {
    /// Reads until `stop`, or until the reader fails. What it has received by then is with the receiver.
    pub(super) async fn run(mut self) -> Result<(), LogError> {
        let stop = self.stop.clone();
        while let Some(read) = stop.run_until_cancelled(self.read()).await {
            let (messages, share) = read?;
            self.noted.read(&messages);
            if !self.hand_on(messages, share).await {
                break;
            }
        }
        Ok(())
    }

    /// The next messages, as many as there is budget for even if each were as long as can be.
    async fn read(&mut self) -> Result<(Vec<LogMessage>, OwnedSemaphorePermit), LogError> {
        let share = self.reserve().await;
        let most = (share.num_permits() / MAX_BODY_BYTES).min(self.received.capacity());
        Ok((self.reader.next(most.max(1), WAIT).await?, share))
    }

    async fn reserve(&mut self) -> OwnedSemaphorePermit {
        let Ok(mut share) = Arc::clone(&self.budget).acquire_many_owned(as_permits(MAX_BODY_BYTES)).await else {
            // The budget is never closed.
            return std::future::pending().await;
        };
        let more = (self.budget.available_permits() / MAX_BODY_BYTES).min(MOST - 1) * MAX_BODY_BYTES;
        if let Ok(more) = Arc::clone(&self.budget).try_acquire_many_owned(as_permits(more)) {
            share.merge(more);
        }
        share
    }

    /// Says whether there is still somebody to hand on to.
    async fn hand_on(&mut self, messages: Vec<LogMessage>, mut share: OwnedSemaphorePermit) -> bool {
        // A body that is longer than any may be is refused soon; it counts for what is left.
        let mut split = |bytes: usize| share.split(bytes.min(share.num_permits()));
        let shares: Vec<_> = messages.iter().map(|message| split(message.body_bytes())).collect();
        drop(share);
        for (message, share) in messages.into_iter().zip(shares) {
            if self.received.send(Received { message, share }).await.is_err() {
                return false;
            }
        }
        true
    }
}

fn as_permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
