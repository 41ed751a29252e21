//! Projectors in other languages, on the same events and to an index that says the same, beside ours and the floor.
//!
//! Each runs at its libraries' defaults and tuned; over a log in order, for its rate, and over one that is shuffled, has
//! events twice and is read by a process that is killed half-way, for whether its index is the fold even then.

mod disorder;
mod index;
mod ours;
mod process;
mod table;
mod theirs;
mod verdict;
mod who;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::Size;
use crate::events::events;
use crate::floor::project_one_by_one;
use crate::measure::Spread;
use crate::space::Space;
use disorder::disordered;
use ours::Ours;
use theirs::{Prefilled, Theirs};
use verdict::Verdict;
use who::{Mode, Peer};

pub(crate) use table::print;

const EVENTS_PER_ACCOUNT: usize = 5;

/// How much is measured, in events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeersSize {
    /// Of the log in order, by those at their defaults: they are slow.
    pub(crate) at_defaults: usize,
    /// The same by all others.
    pub(crate) all: usize,
    /// Of the shuffled log, not counting those that come again.
    pub(crate) disordered: usize,
}

/// Everybody who was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    ours: Contender,
    floor: Contender,
    peers: Vec<Contender>,
    /// Who was not, and what to do about it.
    absent: Vec<String>,
}

/// One of them.
#[derive(Debug, Serialize)]
struct Contender {
    who: String,
    /// Of the log in order.
    events: usize,
    /// Events per second, one entry per run.
    rates: Vec<f64>,
    in_order: Option<Verdict>,
    in_disorder: Option<Verdict>,
}

impl Contender {
    fn new(who: String, events: usize) -> Self {
        Self { who, events, rates: Vec::new(), in_order: None, in_disorder: None }
    }

    fn has_run(&mut self, rate: f64, verdict: Verdict) {
        self.rates.push(rate);
        let so_far = self.in_order.unwrap_or(Verdict::EqualsTheFold);
        self.in_order = Some(if so_far == Verdict::EqualsTheFold { verdict } else { so_far });
    }

    /// Run by run, so that what slows the machine down slows both.
    fn times(&self, other: &Self) -> Option<Spread> {
        let ratios = self.rates.iter().zip(&other.rates).map(|(mine, theirs)| mine / theirs);
        Spread::of(ratios.filter(|ratio| ratio.is_finite()))
    }
}

/// Where `scripts/bench-peers` installs what the peers need: beside the folder of this program.
pub(crate) fn standard_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("the place of this program is unknown")?;
    let target = program.parent().and_then(Path::parent).context("this program is in no target folder")?;
    Ok(target.join("bench-peers"))
}

pub(crate) async fn measure(space: &Space, size: Size, folder: &Path) -> anyhow::Result<Comparison> {
    let (here, absent) = find(space, folder).await;
    let contender = |theirs: &Theirs<'_>| {
        let events = if theirs.mode == Mode::Tuned { size.peers.all } else { size.peers.at_defaults };
        Contender::new(format!("{}, {}", theirs.peer, theirs.mode), events)
    };
    let mut comparison = Comparison {
        ours: Contender::new("this project".to_owned(), size.peers.all),
        floor: Contender::new("floor".to_owned(), size.peers.all),
        peers: here.iter().map(contender).collect(),
        absent,
    };
    in_order(space, size, &here, &mut comparison).await?;
    in_disorder(space, size, &here, &mut comparison).await?;
    Ok(comparison)
}

/// Who can be run, in both modes, and what is to be said of the others.
async fn find<'a>(space: &'a Space, folder: &'a Path) -> (Vec<Theirs<'a>>, Vec<String>) {
    let (mut here, mut absent) = (Vec::new(), Vec::new());
    for peer in Peer::ALL {
        if peer.is_here(folder).await {
            here.extend([Mode::Defaults, Mode::Tuned].map(|mode| Theirs { space, folder, peer, mode }));
        } else {
            absent.push(format!(
                "peer {peer} is not here: scripts/bench-peers installs it; looked in {}",
                folder.display()
            ));
        }
    }
    (here, absent)
}

async fn in_order(space: &Space, size: Size, here: &[Theirs<'_>], comparison: &mut Comparison) -> anyhow::Result<()> {
    let events = events(size.peers.all, (size.peers.all / EVENTS_PER_ACCOUNT) as u64)?;
    let all = Prefilled::publish(space, "bench.peers.all", &events).await?;
    let few = Prefilled::publish(space, "bench.peers.few", &events[..size.peers.at_defaults]).await?;
    let log = space.log(1).await?;
    let ours = Ours::prefill(space, &log, &events).await?;
    for _ in 0..size.runs {
        let prefix = space.prefix();
        let floor = project_one_by_one(&all.stream, events.len(), &space.pool, prefix.as_str()).await?;
        comparison.floor.rates.push(floor);
        comparison.ours.has_run(ours.run().await?, Verdict::EqualsTheFold);
        for (theirs, contender) in here.iter().zip(&mut comparison.peers) {
            let (rate, verdict) = theirs.run(if theirs.mode == Mode::Tuned { &all } else { &few }).await?;
            contender.has_run(rate, verdict);
        }
    }
    log.close().await;
    Ok(())
}

async fn in_disorder(
    space: &Space,
    size: Size,
    here: &[Theirs<'_>],
    comparison: &mut Comparison,
) -> anyhow::Result<()> {
    let events = disordered(size.peers.disordered, (size.peers.disordered / EVENTS_PER_ACCOUNT) as u64)?;
    let stream = Prefilled::publish(space, "bench.peers.disordered", &events).await?;
    let log = space.log(1).await?;
    Ours::prefill(space, &log, &events).await?.run_stopped_half_way().await?;
    comparison.ours.in_disorder = Some(Verdict::EqualsTheFold);
    for (theirs, contender) in here.iter().zip(&mut comparison.peers) {
        contender.in_disorder = Some(theirs.run_killed_half_way(&stream).await?);
    }
    log.close().await;
    Ok(())
}
