//! `consumer rebuild`: a new generation of the index, from the log; and what becomes of the old one.

use clap::Args;
use common::account::CacheKey;
use common::backends::Backends;
use common::event::UsernamePolicy;
use common::index::{Building, Generations, IndexGenerations};
use common::output;
use common::program::Outcome;
use consumer::rebuild::{Rebuild as Rebuilding, RebuildReport, RebuildSettings};
use consumer::verify::{Verify, VerifySettings};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::bar::Bar;
use super::due::DuePolicyArgs;
use super::seed::seeding;

/// Make the index anew from the log, beside the live one, and swap it in; goes on with one that was interrupted
#[derive(Args)]
pub(super) struct Rebuild {
    #[command(flatten)]
    instead: Instead,
    /// How many accounts are held in memory at once, about; each takes up to a kilobyte
    #[arg(long, default_value_t = 250_000, value_name = "N")]
    accounts_at_once: usize,
    /// How many accounts of the old and the new index are compared before the swap
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    compare: u64,
    /// Fill the new index up from the token caches before the swap, so that accounts older than the log stay known
    #[arg(long)]
    seed: bool,
    #[command(flatten)]
    due: DuePolicyArgs,
    /// A JSON line each second, and one at the end, instead of a bar
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(multiple = false)]
struct Instead {
    /// Show which generations there are, and do nothing
    #[arg(long)]
    status: bool,
    /// Drop the generation that is being built; whoever builds it ends
    #[arg(long)]
    cancel: bool,
    /// Make the generation before the live one again; it catches up by itself
    #[arg(long)]
    rollback: bool,
    /// Delete the generation that is kept for a rollback
    #[arg(long)]
    drop_old: bool,
    /// Only make this one account of the live index what the log says
    #[arg(long, value_name = "CACHE KEY")]
    account: Option<CacheKey>,
}

impl Rebuild {
    pub(super) async fn run(
        self,
        backends: &Backends,
        usernames: UsernamePolicy,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Outcome> {
        let generations = backends.index_generations().await?;
        if self.instead.status {
            return show(&*generations, self.json).await;
        }
        let log = backends.log().await?.log;
        let bar = Bar::new(self.json);
        if let Some(key) = &self.instead.account {
            let verify = Verify::new(log, generations, VerifySettings::default());
            let found = verify.rebuild_account(key, &|progress| bar.show(progress)).await;
            bar.done();
            return say_account(found?.map(|found| found.fields), self.json);
        }
        let settings = RebuildSettings {
            accounts_at_once: self.accounts_at_once,
            compare: self.compare,
            due_policy: self.due.policy(),
            ..RebuildSettings::default()
        };
        let mut rebuild = Rebuilding::new(log, generations.clone(), settings);
        if self.seed {
            rebuild = rebuild.with_seeding(seeding(backends, usernames).await?);
        }
        if self.instead.cancel {
            rebuild.cancel().await?;
        } else if self.instead.rollback {
            rebuild.roll_back().await?;
        } else if self.instead.drop_old {
            rebuild.drop_kept().await?;
        } else {
            let report = rebuild.run(&|progress| bar.show(progress), shutdown).await;
            bar.done();
            return say(&report?, self.json);
        }
        bar.done();
        show(&*generations, self.json).await
    }
}

fn say(report: &RebuildReport, json: bool) -> anyhow::Result<Outcome> {
    if json {
        output::json_line(report)?;
        return Ok(Outcome::Done);
    }
    let comparison = &report.comparison;
    output::fields(&[
        ("live generation", report.generation.to_string()),
        ("kept for a rollback", report.replaced.to_string()),
        ("events", report.events.to_string()),
        ("events per second", format!("{:.0}", report.events_per_second)),
        ("seconds", format!("{:.1}", report.seconds)),
        ("listed before", comparison.before.listed.to_string()),
        ("listed now", comparison.after.listed.to_string()),
        ("compared", comparison.compared.to_string()),
        ("only before", comparison.only_before.to_string()),
        ("only now", comparison.only_after.to_string()),
        ("different", comparison.different.to_string()),
    ]);
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct AccountReport {
    was_wrong: bool,
    fields: Vec<String>,
}

fn say_account(fields: Option<Vec<String>>, json: bool) -> anyhow::Result<Outcome> {
    let report = AccountReport { was_wrong: fields.is_some(), fields: fields.unwrap_or_default() };
    if json {
        output::json_line(&report)?;
    } else if report.was_wrong {
        output::line(&format!("put right: {}", report.fields.join(" ")));
    } else {
        output::line("it was as the log says");
    }
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct GenerationView {
    generation: u32,
    state: &'static str,
    listed: Option<u64>,
    builder: Option<Builder>,
}

#[derive(Serialize)]
struct Builder {
    builder: String,
    begun_at: jiff::Timestamp,
    beats: u64,
}

async fn show(generations: &dyn IndexGenerations, json: bool) -> anyhow::Result<Outcome> {
    let Generations { live, building, retired, dropping, .. } = generations.generations().await?;
    let mut views = Vec::new();
    let states = [(Some(live), "live"), (building.as_ref().map(|b| b.number), "building"), (retired, "kept")];
    let there = states.into_iter().filter_map(|(number, state)| Some((number?, state)));
    for (number, state) in there.chain(dropping.into_iter().map(|number| (number, "being deleted"))) {
        let listed = generations.generation(number).counts(None).await.ok().map(|counts| counts.listed);
        let builder = building.clone().filter(|building| building.number == number).map(Builder::from);
        views.push(GenerationView { generation: number, state, listed, builder });
    }
    if json {
        output::json_line(&views)?;
    } else {
        output::table(&["GENERATION", "STATE", "LISTED", "BUILDER"], views.into_iter().map(GenerationView::row));
    }
    Ok(Outcome::Done)
}

impl From<Building> for Builder {
    fn from(Building { builder, begun_at, beats, .. }: Building) -> Self {
        Self { builder, begun_at, beats }
    }
}

impl GenerationView {
    fn row(self) -> Vec<String> {
        let builder = self.builder.map_or_else(|| "-".to_owned(), |b| format!("{} since {:.0}", b.builder, b.begun_at));
        let listed = self.listed.map_or_else(|| "-".to_owned(), |listed| listed.to_string());
        vec![self.generation.to_string(), self.state.to_owned(), listed, builder]
    }
}
