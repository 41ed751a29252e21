//! `consumer`: projects, queries and looks after the activity index.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

/// Events and records are many small texts, made in one thread and freed in another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let result = cli::Cli::parse().run().await;
    common::program::exit_code(result.as_ref().copied().map_err(|error| error.as_ref()))
}
