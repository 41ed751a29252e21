//! How the API says that it is ready: the index answers.

use std::time::Duration;

use common::program::one_line;
use tokio::time::timeout;

use super::Api;
use crate::health::{Health, Metrics, Readiness};

/// How long the index may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

impl Health for Api {
    async fn readiness(&self) -> Readiness {
        if self.inner.shutdown.is_cancelled() {
            return Readiness::Not("stopping\n".to_owned());
        }
        match timeout(PATIENCE, self.inner.stores.index.checkpoint(0)).await {
            Ok(Ok(_)) => Readiness::Ready("ok"),
            Ok(Err(error)) => Readiness::Not(format!("{}\n", one_line(&error))),
            Err(_) => Readiness::Not(format!("the index did not answer within {PATIENCE:?}\n")),
        }
    }

    fn metrics(&self, metrics: &mut Metrics) {
        self.inner.counters.write_down(metrics);
    }
}
