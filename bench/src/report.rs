//! The figures as a table for people and as JSON for comparing runs.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the figures are what this program is for")]

use std::path::Path;

use anyhow::Context as _;
use common::output;
use jiff::Timestamp;
use serde::Serialize;

use crate::measure::{Figure, Spread, Target};
use crate::peers::Comparison;
use crate::space::{Space, Versions};

const HEADINGS: [&str; 8] = ["WHAT", "OURS", "SPREAD", "FLOOR", "x FLOOR", "x LIMIT", "TARGET", "MET"];

/// Prints one part's figures.
pub(crate) fn print(figures: &[Figure]) {
    output::table(&HEADINGS, figures.iter().map(row));
    println!();
}

/// Says on standard error what went wrong.
pub(crate) fn complain(text: &str) {
    eprintln!("error: {text}");
}

fn row(figure: &Figure) -> Vec<String> {
    let dash = || "-".to_owned();
    let median = |spread: Option<Spread>| spread.map_or_else(dash, |spread| shown(spread.median));
    vec![
        figure.what.clone(),
        format!("{} {}", median(figure.ours()), figure.unit),
        figure.ours().map_or_else(dash, |spread| format!("{} - {}", shown(spread.low), shown(spread.high))),
        median(figure.floor()),
        median(figure.times_floor()),
        median(figure.times_limit()),
        figure.target.map_or_else(dash, in_words),
        figure.is_met().map_or_else(dash, |met| if met { "yes" } else { "NO" }.to_owned()),
    ]
}

fn in_words(target: Target) -> String {
    match target {
        Target::TimesFloor(times) => format!(">= {times} x floor"),
        Target::AtMostTimesFloor(times) => format!("<= {times} x floor"),
        Target::AtMost(most) => format!("<= {most}"),
    }
}

/// A number, as exactly as it is worth.
pub(crate) fn shown(number: f64) -> String {
    match number {
        number if number >= 1000.0 => format!("{number:.0}"),
        number if number >= 10.0 => format!("{number:.1}"),
        number => format!("{number:.2}"),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    measured_at: Timestamp,
    machine: Machine,
    versions: &'a Versions,
    figures: &'a [Figure],
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<&'a Comparison>,
}

#[derive(Serialize)]
struct Machine {
    cores: usize,
    processor: Option<String>,
    memory_kib: Option<u64>,
}

/// Writes the figures with what they were measured on.
pub(crate) async fn write_json(
    file: &Path,
    space: &Space,
    figures: &[Figure],
    peers: Option<&Comparison>,
) -> anyhow::Result<()> {
    let (measured_at, versions) = (Timestamp::now(), &space.versions);
    let document = Document { measured_at, machine: machine().await?, versions, figures, peers };
    let text = serde_json::to_string_pretty(&document)?;
    tokio::fs::write(file, text).await.with_context(|| format!("{} cannot be written", file.display()))
}

async fn machine() -> anyhow::Result<Machine> {
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = tokio::fs::read_to_string("/proc/cpuinfo").await.ok().and_then(|text| field(&text, "model name"));
    let memory = tokio::fs::read_to_string("/proc/meminfo").await.ok().and_then(|text| field(&text, "MemTotal"));
    let memory_kib = memory.and_then(|text| text.trim_end_matches(" kB").parse().ok());
    Ok(Machine { cores: std::thread::available_parallelism()?.get(), processor, memory_kib })
}
