//! How far a long piece of work has come.

use std::time::{Duration, Instant};

use serde::Serialize;

/// How far a long piece of work has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// What it is doing, in a word or two.
    pub phase: &'static str,
    /// How much of the phase is done: messages of the log, accounts, or keys.
    pub done: u64,
    /// How much there is in all, where it is known.
    pub total: Option<u64>,
    /// Events read so far.
    pub events: u64,
    /// Seconds since it began.
    pub seconds: f64,
    /// How much of the phase is done per second.
    pub per_second: f64,
    /// Seconds until the phase is done, at this rate.
    pub remaining_seconds: Option<f64>,
}

/// Who wants to know. It is called often, and has to be quick.
pub type Reporter<'a> = &'a (dyn Fn(&Progress) + Send + Sync);

/// Counts and reports.
pub(crate) struct Meter<'a> {
    report: Reporter<'a>,
    began: Instant,
    phase: &'static str,
    phase_began: Instant,
    done: u64,
    total: Option<u64>,
    pub(crate) events: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(report: Reporter<'a>) -> Self {
        let now = Instant::now();
        Self { report, began: now, phase: "", phase_began: now, done: 0, total: None, events: 0 }
    }

    pub(crate) fn begin(&mut self, phase: &'static str, total: Option<u64>) {
        self.phase = phase;
        self.total = total;
        self.done = 0;
        self.phase_began = Instant::now();
        self.tell();
    }

    pub(crate) fn add(&mut self, done: u64, events: u64) {
        self.done += done;
        self.events += events;
        self.tell();
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn tell(&self) {
        let per_second = self.done as f64 / self.phase_began.elapsed().as_secs_f64().max(1e-3);
        let left = self.total.map(|total| total.saturating_sub(self.done) as f64);
        (self.report)(&Progress {
            phase: self.phase,
            done: self.done,
            total: self.total,
            events: self.events,
            seconds: self.elapsed().as_secs_f64(),
            per_second,
            remaining_seconds: left.filter(|_| self.done > 0).map(|left| left / per_second),
        });
    }
}
