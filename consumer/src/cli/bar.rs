//! Progress: a bar on standard error for people, a JSON line on standard output for machines.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::output;
use consumer::progress::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};

/// How often a machine is told.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Shows how far a command has come.
pub(super) enum Bar {
    People(ProgressBar),
    Machines(Mutex<Option<Instant>>),
}

impl Bar {
    pub(super) fn new(json: bool) -> Self {
        if json {
            return Self::Machines(Mutex::new(None));
        }
        let bar = ProgressBar::no_length();
        bar.enable_steady_tick(Duration::from_millis(200));
        Self::People(bar)
    }

    pub(super) fn show(&self, progress: &Progress) {
        match self {
            Self::People(bar) => show_people(bar, progress),
            Self::Machines(last) => {
                let Ok(mut last) = last.lock() else { return };
                if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                    *last = Some(Instant::now());
                    // Nobody is left to be told where standard output is closed.
                    drop(output::json_line(&Line { progress }));
                }
            }
        }
    }

    pub(super) fn done(&self) {
        if let Self::People(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn show_people(bar: &ProgressBar, progress: &Progress) {
    let style = match progress.total {
        Some(_) => "{prefix:12} {wide_bar} {pos}/{len} {msg}",
        None => "{prefix:12} {spinner} {pos} {msg}",
    };
    // The templates are those above, which are right.
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_prefix(progress.phase);
    bar.set_length(progress.total.unwrap_or_default());
    bar.set_position(progress.done);
    bar.set_message(words(progress));
}

fn words(progress: &Progress) -> String {
    let rate = format!("{:.0}/s", progress.per_second);
    let Some(left) = progress.remaining_seconds.and_then(|left| SignedDuration::try_from_secs_f64(left).ok()) else {
        return rate;
    };
    let Ok(end) = Timestamp::now().checked_add(left) else { return rate };
    format!("{rate}, {} s left, done at {end:.0}", left.as_secs())
}

#[derive(serde::Serialize)]
struct Line<'a> {
    progress: &'a Progress,
}
