//! The comparison as a table.
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

use common::output;

use super::{Comparison, Contender, Verdict};
use crate::measure::Spread;
use crate::report::shown;

const HEADINGS: [&str; 8] =
    ["LOG TO INDEX", "EVENTS", "EVENTS/S", "SPREAD", "x FLOOR", "OURS / IT", "IN ORDER", "SHUFFLED, TWICE, KILLED"];

/// Prints who was measured, and who was not and why.
pub(crate) fn print(comparison: &Comparison) {
    let Comparison { ours, floor, peers, absent } = comparison;
    let all = [ours, floor].into_iter().chain(peers);
    output::table(&HEADINGS, all.map(|contender| row(contender, ours, floor)));
    for line in absent {
        println!("{line}");
    }
    println!();
}

fn row(contender: &Contender, ours: &Contender, floor: &Contender) -> Vec<String> {
    let dash = || "-".to_owned();
    let median = |spread: Option<Spread>| spread.map_or_else(dash, |spread| shown(spread.median));
    let verdict = |verdict: Option<Verdict>| verdict.map_or_else(dash, |verdict| verdict.to_string());
    let rates = Spread::of(contender.rates.iter().copied());
    vec![
        contender.who.clone(),
        contender.events.to_string(),
        median(rates),
        rates.map_or_else(dash, |spread| format!("{} - {}", shown(spread.low), shown(spread.high))),
        median(contender.times(floor)),
        median(ours.times(contender)),
        verdict(contender.in_order),
        verdict(contender.in_disorder),
    ]
}
