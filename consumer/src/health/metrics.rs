//! Metrics in the text format of Prometheus.

use std::fmt::{Display, Write as _};

/// Metrics that are being written down.
#[derive(Debug, Default)]
pub struct Metrics(String);

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows, until the program starts anew.
    Counter,
    /// Counts by upper bound, with a sum and a count.
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

impl Metrics {
    /// One metric: a line for each of its values, with what stands between name and value (`{label="…"}` or nothing).
    pub fn add<V: Display>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        values: impl IntoIterator<Item = (String, V)>,
    ) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
        for (labels, value) in values {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    /// A histogram: each line is what stands behind its name (`_bucket{…}`, `_sum{…}`, `_count{…}`), and its value.
    pub fn add_histogram(&mut self, name: &str, help: &str, lines: impl IntoIterator<Item = (String, String)>) {
        self.add(name, Kind::Histogram, help, lines);
    }

    /// A metric of one value.
    pub fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.add(name, kind, help, [(String::new(), value)]);
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }
}
