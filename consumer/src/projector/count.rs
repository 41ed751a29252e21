//! Counts the partitions of the log, again and again: more may be added at any time.

use std::convert::Infallible;
use std::sync::Arc;

use common::log::ActivityLog;
use common::retry::{Retry, Setback};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{ProjectorSettings, ProjectorStatus};

pub(super) struct Counter {
    pub(super) log: Arc<dyn ActivityLog>,
    pub(super) settings: ProjectorSettings,
    pub(super) status: watch::Sender<ProjectorStatus>,
}

impl Counter {
    /// Tells whenever there are more than there were.
    pub(super) async fn run(self, counted: watch::Sender<u32>) -> Infallible {
        let mut retry = Retry::new(self.settings.retry);
        loop {
            let wait = match self.log.partitions().await {
                Ok(partitions) => {
                    self.note(None);
                    counted.send_if_modified(|count| partitions > std::mem::replace(count, partitions.max(*count)));
                    retry.reset();
                    self.settings.look_every
                }
                Err(error) => {
                    let setback = Setback::from(&error);
                    tracing::warn!(why = %setback, "the partitions of the log are not known; looking again");
                    let wait = retry.delay_after(&setback);
                    self.note(Some(setback.why));
                    wait
                }
            };
            sleep(wait).await;
        }
    }

    fn note(&self, trouble: Option<String>) {
        self.status.send_modify(|status| status.trouble = trouble);
    }
}
