//! `consumer openapi`: the document about the HTTP API.

use common::output;
use common::program::Outcome;
use consumer::api;

/// Prints the document, as `openapi.json` holds it.
pub(super) fn run() -> anyhow::Result<Outcome> {
    output::json(&api::document())?;
    Ok(Outcome::Done)
}
