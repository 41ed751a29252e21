//! `consumer verify`: holds the index against the fold of the log.

use clap::Args;
use common::account::TenantId;
use common::backends::Backends;
use common::output;
use common::program::Outcome;
use consumer::verify::{Difference, Kind, Verify as Verifying, VerifyReport, VerifySettings};
use serde::Serialize;

use super::bar::Bar;

/// Hold the index against the log while both move; exit code 3 where something differs and was not repaired
#[derive(Args)]
pub(super) struct Verify {
    /// Check about so many accounts, chosen at random; all without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    sample: Option<u64>,
    /// Put right what differs, each account only if it is still as it was found
    #[arg(long)]
    repair: bool,
    /// Only accounts of this home tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    /// What is older than the log counts as wrong too, and --repair takes it away
    #[arg(long)]
    drop_older: bool,
    /// Name the cache keys of the accounts that differ
    #[arg(long)]
    show_keys: bool,
    /// How many accounts are held in memory at once, about; each takes up to a kilobyte
    #[arg(long, default_value_t = 250_000, value_name = "N")]
    accounts_at_once: usize,
    /// A JSON line each second, and one at the end, instead of a bar
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ReportView<'a> {
    #[serde(flatten)]
    report: &'a VerifyReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<DifferenceView<'a>>>,
}

#[derive(Serialize)]
struct DifferenceView<'a> {
    cache_key: &'a str,
    kind: Kind,
    fields: &'a [String],
    is_repaired: bool,
}

impl Verify {
    pub(super) async fn run(self, backends: &Backends) -> anyhow::Result<Outcome> {
        let (log, generations) = (backends.log().await?, backends.index_generations().await?);
        let settings = VerifySettings {
            sample: self.sample,
            tenant: self.tenant,
            repair: self.repair,
            drop_older: self.drop_older,
            accounts_at_once: self.accounts_at_once,
            ..VerifySettings::default()
        };
        let bar = Bar::new(self.json);
        let report = Verifying::new(log.log, generations, settings).run(&|progress| bar.show(progress)).await;
        bar.done();
        let report = report?;
        if self.json {
            let differences = self.show_keys.then(|| report.differences.iter().map(DifferenceView::of).collect());
            output::json_line(&ReportView { report: &report, differences })?;
        } else {
            print(&report, self.show_keys);
        }
        Ok(if report.found() > report.repaired { Outcome::Difference } else { Outcome::Done })
    }
}

impl<'a> DifferenceView<'a> {
    fn of(difference: &'a Difference) -> Self {
        let Difference { cache_key, kind, fields, is_repaired } = difference;
        Self { cache_key: cache_key.as_str(), kind: *kind, fields, is_repaired: *is_repaired }
    }

    fn row(&self) -> Vec<String> {
        let kind = match self.kind {
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::Different => "different",
        };
        let repaired = if self.is_repaired { "yes" } else { "no" };
        vec![self.cache_key.to_owned(), kind.to_owned(), self.fields.join(" "), repaired.to_owned()]
    }
}

fn print(report: &VerifyReport, show_keys: bool) {
    let mut fields = vec![
        ("checked", report.checked),
        ("missing", report.missing),
        ("extra", report.extra),
        ("different", report.different),
        ("repaired", report.repaired),
        ("older than the log", report.older_than_log),
        ("seeded", report.seeded),
    ];
    fields.extend(report.fields.iter().map(|(field, count)| (field.as_str(), *count)));
    let fields: Vec<(&str, String)> = fields.into_iter().map(|(name, count)| (name, count.to_string())).collect();
    output::fields(&fields);
    if show_keys && !report.differences.is_empty() {
        let rows = report.differences.iter().map(|difference| DifferenceView::of(difference).row());
        output::table(&["CACHE KEY", "KIND", "FIELDS", "REPAIRED"], rows);
    }
}
