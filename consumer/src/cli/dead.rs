//! `consumer dead`: what could not be applied, looked at, sent again, dropped.

use std::num::NonZeroU32;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use common::account::TenantId;
use common::backends::{Backends, Log};
use common::log::{LetterQueue, ParkedLetter};
use common::output;
use common::program::{Outcome, WrongUsage};
use common::settings::moment;
use consumer::dead_letters::{
    Dropping, LetterFilter, RedriveReport, RedriveSettings, Summary, drop_letters, find, first, masked, readable,
    redrive, summarize,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Look at events that could not be applied, send them again, or drop them
#[derive(Args)]
pub(super) struct Dead {
    #[command(subcommand)]
    what: What,
    /// Which letters: what the projector refused, or what was published and no stream took
    #[arg(long, default_value = "dead", global = true)]
    queue: Queue,
    /// One JSON document instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Queue {
    Dead,
    Unrouted,
}

impl From<Queue> for LetterQueue {
    fn from(queue: Queue) -> Self {
        match queue {
            Queue::Dead => Self::Dead,
            Queue::Unrouted => Self::Unrouted,
        }
    }
}

#[derive(Subcommand)]
enum What {
    /// Letters by reason; with a reason or a limit the letters themselves, oldest first
    List {
        /// Only letters with this reason
        #[arg(long)]
        reason: Option<String>,
        /// How many letters at most [default: 100]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: Option<u32>,
    },
    /// One letter with its body; what names a person is hidden
    Show {
        /// The letter's id
        id: String,
        /// Show the body as it is, personal data and all
        #[arg(long)]
        unmasked: bool,
    },
    /// Read letters again by today's rules, and bring back into the log what is good now
    Redrive(Redrive),
    /// Drop letters for good
    Drop(DropLetters),
}

#[derive(Args)]
struct Redrive {
    /// Only letters with this reason
    #[arg(long)]
    reason: Option<String>,
    /// Only letters of this home tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Only letters parked since a time (2026-11-22T10:00:00Z), or so long ago (2h, 7d)
    #[arg(long, value_parser = moment)]
    since: Option<Timestamp>,
    /// How many letters at most
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// How many letters per second at most
    #[arg(long)]
    rate: Option<NonZeroU32>,
    /// Only tell what would become of them
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
struct DropLetters {
    /// The letter's id
    #[arg(required_unless_present_any = ["reason", "all"])]
    id: Option<String>,
    /// All letters with this reason
    #[arg(long, conflicts_with_all = ["id", "all"])]
    reason: Option<String>,
    /// All letters
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Yes, they shall be gone
    #[arg(long)]
    yes: bool,
}

impl Dead {
    pub(super) async fn run(self, backends: &Backends) -> anyhow::Result<Outcome> {
        let log = backends.log().await?;
        let queue = self.queue.into();
        match self.what {
            What::List { reason: None, limit: None } => list_reasons(&log, queue, self.json).await?,
            What::List { reason, limit } => list_letters(&log, queue, reason, limit.unwrap_or(100), self.json).await?,
            What::Show { id, unmasked } => show(&log, queue, &id, unmasked, self.json).await?,
            What::Redrive(arguments) => arguments.run(&log, queue, self.json).await?,
            What::Drop(arguments) => arguments.run(&log, queue, self.json).await?,
        }
        Ok(Outcome::Done)
    }
}

async fn list_reasons(log: &Log, queue: LetterQueue, json: bool) -> anyhow::Result<()> {
    let summary = summarize(log.dead_letters.as_ref(), queue).await?;
    if json {
        output::json(&summary)?;
    } else {
        print_reasons(&summary);
    }
    Ok(())
}

fn print_reasons(summary: &Summary) {
    if summary.letters == 0 {
        return output::line("no letters");
    }
    let rows = summary.reasons.iter().map(|reason| {
        vec![
            readable(reason.reason.as_bytes()),
            reason.letters.to_string(),
            reason.bytes.to_string(),
            when(reason.oldest),
            when(reason.newest),
            readable(reason.newest_id.as_bytes()),
        ]
    });
    output::table(&["REASON", "LETTERS", "BYTES", "OLDEST", "NEWEST", "THE NEWEST"], rows);
    if summary.copies > 0 {
        output::line(&format!("{} of them were parked more than once and are counted once", summary.copies));
    }
    if !summary.is_complete {
        output::line("there are more letters than one look can tell apart");
    }
}

/// A letter without its body.
#[derive(Serialize)]
struct LetterView<'a> {
    id: &'a str,
    reason: &'a str,
    detail: &'a str,
    partition: u32,
    offset: u64,
    index: Option<usize>,
    parked_at: Option<Timestamp>,
    content_type: Option<&'a str>,
    bytes: usize,
}

impl<'a> LetterView<'a> {
    fn of(letter: &'a ParkedLetter, bytes: usize) -> Self {
        Self {
            id: &letter.id,
            reason: &letter.reason,
            detail: &letter.detail,
            partition: letter.partition,
            offset: letter.offset,
            index: letter.index,
            parked_at: letter.parked_at,
            content_type: letter.content_type.as_deref(),
            bytes,
        }
    }

    fn row(&self) -> Vec<String> {
        let texts = [self.id, self.reason, self.detail].map(|text| readable(text.as_bytes()));
        let [id, reason, detail] = texts;
        vec![id, reason, when(self.parked_at), self.bytes.to_string(), detail]
    }
}

async fn list_letters(
    log: &Log,
    queue: LetterQueue,
    reason: Option<String>,
    limit: u32,
    json: bool,
) -> anyhow::Result<()> {
    let filter = LetterFilter { reason, ..LetterFilter::default() };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let letters = first(log.dead_letters.as_ref(), queue, &filter, limit).await?;
    let views = letters.iter().map(|(letter, bytes)| LetterView::of(letter, *bytes));
    if json {
        output::json(&views.collect::<Vec<_>>())?;
    } else if letters.is_empty() {
        output::line("no letters");
    } else {
        output::table(&["ID", "REASON", "PARKED", "BYTES", "DETAIL"], views.map(|view| view.row()));
    }
    Ok(())
}

#[derive(Serialize)]
struct ShownLetter<'a> {
    #[serde(flatten)]
    letter: LetterView<'a>,
    /// The body: masked JSON, or with `--unmasked` its text.
    body: Value,
}

async fn show(log: &Log, queue: LetterQueue, id: &str, unmasked: bool, json: bool) -> anyhow::Result<()> {
    let letter = find(log.dead_letters.as_ref(), queue, id).await?.context("there is no letter of this id")?;
    let view = LetterView::of(&letter, letter.raw.len());
    if json {
        let body =
            if unmasked { String::from_utf8_lossy(&letter.raw).into_owned().into() } else { masked(&letter.raw) };
        output::json(&ShownLetter { letter: view, body })?;
        return Ok(());
    }
    print_letter(&view);
    match unmasked {
        true => output::line(&readable(&letter.raw)),
        false => output::line(&serde_json::to_string_pretty(&masked(&letter.raw))?),
    }
    Ok(())
}

fn print_letter(letter: &LetterView<'_>) {
    let text = |text: &str| readable(text.as_bytes());
    output::fields(&[
        ("id", text(letter.id)),
        ("reason", text(letter.reason)),
        ("detail", text(letter.detail)),
        ("partition", letter.partition.to_string()),
        ("offset", letter.offset.to_string()),
        ("event of the batch", letter.index.map_or_else(|| "-".to_owned(), |index| index.to_string())),
        ("content type", letter.content_type.map_or_else(|| "-".to_owned(), text)),
        ("parked at", when(letter.parked_at)),
        ("bytes", letter.bytes.to_string()),
    ]);
}

impl Redrive {
    async fn run(self, log: &Log, queue: LetterQueue, json: bool) -> anyhow::Result<()> {
        let filter = LetterFilter { id: None, reason: self.reason, tenant: self.tenant, since: self.since };
        let settings =
            RedriveSettings { queue, filter, limit: self.limit, rate: self.rate, is_rehearsal: self.dry_run };
        let report = redrive(log.log.as_ref(), log.dead_letters.as_ref(), &settings).await?;
        if json {
            output::json(&report)?;
        } else {
            print_redrive(&report, self.dry_run);
        }
        Ok(())
    }
}

fn print_redrive(report: &RedriveReport, is_rehearsal: bool) {
    for letter in &report.letters {
        let became = match &letter.refused {
            None if is_rehearsal => "would be redriven".to_owned(),
            None => "redriven".to_owned(),
            Some(why) if letter.events > 0 => format!("{} events redriven; stays for {why}", letter.events),
            Some(why) => format!("stays: {why}"),
        };
        output::line(&format!("{}  {became}", readable(letter.id.as_bytes())));
    }
    let refused: u64 = report.refused.values().sum();
    let mut fields = vec![
        (if is_rehearsal { "would be redriven" } else { "redriven" }, report.redriven.to_string()),
        ("events", report.events.to_string()),
        ("still refused", refused.to_string()),
        ("left", report.left.to_string()),
    ];
    if report.is_limited {
        fields.push(("limit reached", "there are more".to_owned()));
    }
    output::fields(&fields);
}

impl DropLetters {
    async fn run(self, log: &Log, queue: LetterQueue, json: bool) -> anyhow::Result<()> {
        let filter = LetterFilter { id: self.id, reason: self.reason, ..LetterFilter::default() };
        let dropping = if self.yes { Dropping::ForGood } else { Dropping::Rehearsal };
        let report = drop_letters(log.dead_letters.as_ref(), queue, &filter, dropping).await?;
        if !self.yes {
            let told = format!("this drops {} letters for good; say --yes if that is meant", report.dropped);
            return Err(WrongUsage(told).into());
        }
        if json {
            output::json(&report)?;
        } else {
            output::fields(&[("dropped", report.dropped.to_string()), ("left", report.left.to_string())]);
        }
        Ok(())
    }
}

fn when(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"))
}
