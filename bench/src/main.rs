//! `bench`: measures the pipeline. Each figure stands beside a floor (the plain way to do it) and, where there is one,
//! a limit (what the server can do at best), which the same run measures on the same servers.
//!
//! An absolute figure of a shared machine means little; the ratios are what is held against the targets.

mod cpu;
mod events;
mod floor;
mod measure;
mod memory;
mod peers;
mod project;
mod publish;
mod rebuild;
mod report;
mod scale;
mod space;
mod visible;
mod write;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use url::Url;

use measure::Figure;
use peers::{Comparison, PeersSize};
use space::Space;

/// Measures the pipeline against floors and limits of the same run
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    /// RabbitMQ, with a user who may make a vhost; it works in one of its own and removes it
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f", value_name = "URL")]
    amqp_url: Url,
    /// Redis; it works under a key prefix of its own and removes the keys
    #[arg(long, default_value = "redis://127.0.0.1:6379", value_name = "URL")]
    redis_url: Url,
    /// A minute, and half a minute more with peers: small sizes, one run of each
    #[arg(long)]
    quick: bool,
    /// How often each figure is measured [default: 5, or 1 with --quick]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: Option<u16>,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Where scripts/bench-peers installed what the peers need [default: bench-peers in the target folder]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Write the figures to this file as JSON as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Events published and confirmed
    Publish,
    /// From the log into the index
    Project,
    /// What the event adds to a cache write
    Write,
    /// The index made anew while it is written and asked
    Rebuild,
    /// From a write to its being visible in the index
    Visible,
    /// Pages and bytes per account as the index grows
    Scale,
    /// From the log into an index by projectors in other languages
    Peers,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Size {
    runs: usize,
    events: usize,
    accounts: u64,
    writes: usize,
    seconds: u64,
    rates: &'static [u32],
    index_sizes: &'static [u64],
    rebuild_events: u64,
    rebuild_accounts: u64,
    peers: PeersSize,
}

const FULL: Size = Size {
    runs: 5,
    events: 200_000,
    accounts: 40_000,
    writes: 20_000,
    seconds: 10,
    rates: &[100, 1_000, 5_000],
    index_sizes: &[10_000, 100_000, 1_000_000],
    rebuild_events: 1_000_000,
    rebuild_accounts: 200_000,
    peers: PeersSize { at_defaults: 20_000, all: 100_000, disordered: 20_000 },
};
const QUICK: Size = Size {
    runs: 1,
    events: 40_000,
    accounts: 8_000,
    writes: 3_000,
    seconds: 3,
    rates: &[1_000],
    index_sizes: &[10_000],
    rebuild_events: 100_000,
    rebuild_accounts: 20_000,
    peers: PeersSize { at_defaults: 5_000, all: 20_000, disordered: 5_000 },
};

/// Events and records are many small texts, made in one thread and freed in another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            report::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut size = if arguments.quick { QUICK } else { FULL };
    size.runs = arguments.runs.map_or(size.runs, usize::from);
    let space = Space::make(&arguments.amqp_url, &arguments.redis_url).await?;
    let peers_folder = arguments.peers.map_or_else(peers::standard_folder, Ok)?;
    let (mut figures, mut comparison, mut failure) = (Vec::new(), None, None);
    let is_asked_for = |part: &&Part| arguments.only.is_empty() || arguments.only.contains(part);
    for part in Part::value_variants().iter().filter(is_asked_for) {
        let measured = measure(*part, &space, size, &peers_folder).await;
        match measured.with_context(|| format!("{part:?} was not measured")) {
            Ok(Measured::Figures(measured)) => {
                report::print(&measured);
                figures.extend(measured);
            }
            Ok(Measured::Peers(measured)) => {
                peers::print(&measured);
                comparison = Some(measured);
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    // What was measured before something failed is kept, too.
    if let Some(file) = arguments.json {
        report::write_json(&file, &space, &figures, comparison.as_deref()).await?;
    }
    failure.map_or(Ok(()), Err)
}

/// What a part gives.
enum Measured {
    Figures(Vec<Figure>),
    Peers(Box<Comparison>),
}

async fn measure(part: Part, space: &Space, size: Size, peers_folder: &Path) -> anyhow::Result<Measured> {
    let figures = match part {
        Part::Publish => publish::measure(space, size).await,
        Part::Project => project::measure(space, size).await,
        Part::Write => write::measure(space, size).await,
        Part::Rebuild => rebuild::measure(space, size).await,
        Part::Visible => visible::measure(space, size).await,
        Part::Scale => scale::measure(space, size).await,
        Part::Peers => return Ok(Measured::Peers(Box::new(peers::measure(space, size, peers_folder).await?))),
    };
    Ok(Measured::Figures(figures?))
}
