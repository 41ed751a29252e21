//! Figures: what was measured in each run, beside the floor and the limit of the same run.

use serde::Serialize;

/// One thing that was measured, over several runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// What.
    pub(crate) what: String,
    /// In which unit.
    pub(crate) unit: &'static str,
    /// One entry per run.
    pub(crate) runs: Vec<Run>,
    /// What is promised, where something is.
    pub(crate) target: Option<Target>,
}

/// One run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Run {
    /// What this project does.
    pub(crate) ours: f64,
    /// The plain way to do the same.
    pub(crate) floor: Option<f64>,
    /// What the server can do at best.
    pub(crate) limit: Option<f64>,
}

/// What is promised of a figure.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) enum Target {
    /// At least so many times the floor.
    TimesFloor(f64),
    /// At most so many times the floor.
    AtMostTimesFloor(f64),
    /// At most so much, in the figure's unit.
    AtMost(f64),
}

/// The middle and the ends of what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) low: f64,
    /// The largest.
    pub(crate) high: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Some(Self { median: *values.get(values.len() / 2)?, low: *values.first()?, high: *values.last()? })
    }
}

impl Run {
    /// A figure that stands alone.
    pub(crate) fn alone(ours: f64) -> Self {
        Self { ours, floor: None, limit: None }
    }

    /// A figure beside its floor.
    pub(crate) fn beside(ours: f64, floor: f64) -> Self {
        Self { ours, floor: Some(floor), limit: None }
    }
}

impl Figure {
    pub(crate) fn ours(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().map(|run| run.ours))
    }

    pub(crate) fn floor(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| run.floor))
    }

    /// Run by run, so that what slows the machine down slows both.
    pub(crate) fn times_floor(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| Some(run.ours / run.floor?)))
    }

    pub(crate) fn times_limit(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| Some(run.ours / run.limit?)))
    }

    /// Whether the medians hold the target; nothing where there is none.
    pub(crate) fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::TimesFloor(times) => self.times_floor()?.median >= times,
            Target::AtMostTimesFloor(times) => self.times_floor()?.median <= times,
            Target::AtMost(most) => self.ours()?.median <= most,
        })
    }
}

/// The value that this share of `sorted` values is within.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn figure(runs: &[(f64, f64)], target: Target) -> Figure {
        let runs = runs.iter().map(|(ours, floor)| Run::beside(*ours, *floor)).collect();
        Figure { what: "rate".to_owned(), unit: "1/s", runs, target: Some(target) }
    }

    #[test]
    fn ratios_are_taken_run_by_run() {
        let figure = figure(&[(10.0, 1.0), (40.0, 10.0), (90.0, 10.0)], Target::TimesFloor(8.0));
        assert_eq!(figure.times_floor().unwrap(), Spread { median: 9.0, low: 4.0, high: 10.0 });
        assert_eq!(figure.is_met(), Some(true));
    }

    #[test]
    fn a_target_that_is_missed_is_said_to_be() {
        assert_eq!(figure(&[(12.0, 10.0)], Target::AtMostTimesFloor(1.15)).is_met(), Some(false));
        assert_eq!(figure(&[(3.0, 1.0)], Target::AtMost(2.0)).is_met(), Some(false));
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.999), percentile(&[], 0.5)), (501.0, 1000.0, 0.0));
    }
}
