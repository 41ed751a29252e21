//! Standard output: a table for people, one JSON document for machines. Nothing else prints there.
#![expect(clippy::print_stdout, reason = "this is the one place that prints")]

use comfy_table::{Table, presets};
use serde::Serialize;

/// Prints one JSON document.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn json<T: Serialize>(value: &T) -> serde_json::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints one JSON document in one line, for commands that say how far they have come.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn json_line<T: Serialize>(value: &T) -> serde_json::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Prints a table under its headings.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    println!("{table}");
}

/// Prints names and values, a line each.
pub fn fields(fields: &[(&str, String)]) {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        println!("{name:width$}  {value}");
    }
}

/// Prints one line.
pub fn line(text: &str) {
    println!("{text}");
}
