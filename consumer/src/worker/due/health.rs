//! What a worker on due accounts says of itself to an orchestrator and a metrics collector.

use tokio::sync::watch;

use super::status::DueWorkerStatus;
use crate::health::{Health, Kind, Metrics, Readiness};

/// Ready while accounts are given out to it, and what it does with them ends.
impl Health for watch::Receiver<DueWorkerStatus> {
    async fn readiness(&self) -> Readiness {
        match self.borrow().ready() {
            Ok(()) => Readiness::Ready("ok"),
            Err(why) => Readiness::Not(format!("{why}\n")),
        }
    }

    fn metrics(&self, metrics: &mut Metrics) {
        write_down(&self.borrow(), metrics);
    }
}

fn write_down(status: &DueWorkerStatus, metrics: &mut Metrics) {
    let ready = u8::from(status.ready().is_ok());
    metrics.one("worker_ready", Kind::Gauge, "1 while accounts can be claimed and what is begun ends.", ready);
    metrics.one("worker_accounts_in_flight", Kind::Gauge, "Accounts that are worked on.", status.in_flight);
    metrics.one("worker_accounts_claimed_total", Kind::Counter, "Accounts claimed.", status.claimed);
    let untold = status.report.untold;
    metrics.one("worker_failures_untold_total", Kind::Counter, "Failures that the outbox did not take.", untold);
    let outcomes = status.report.outcomes.iter();
    let outcomes = outcomes.map(|(outcome, accounts)| (format!("{{outcome=\"{outcome}\"}}"), *accounts));
    metrics.add("worker_accounts_total", Kind::Counter, "Accounts by what became of them.", outcomes);
}
