//! `consumer snapshot`: the index as a file, and back.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use common::backends::Backends;
use common::output;
use common::program::Outcome;
use consumer::snapshot::{Into, SnapshotReport, restore, write};
use tokio::fs::{File, OpenOptions};

/// Write the index to one file, or restore it from one
#[derive(Args)]
pub(super) struct Snapshot {
    #[command(subcommand)]
    what: What,
    /// One JSON document instead of lines
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Write the live index to a file, with the offsets of the log it stands at
    Write {
        /// The file, which is replaced when it is complete; - for standard output
        file: PathBuf,
    },
    /// Restore an index that is empty; a projector then goes on at the snapshot's offsets
    Restore {
        /// The file
        file: PathBuf,
        /// Join it to what the index holds
        #[arg(long)]
        force: bool,
    },
}

impl Snapshot {
    pub(super) async fn run(self, backends: &Backends) -> anyhow::Result<Outcome> {
        match self.what {
            What::Write { file } if file == Path::new("-") => write_to_standard_output(backends).await?,
            What::Write { file } => print(&write_file(backends, &file).await?, self.json)?,
            What::Restore { file, force } => {
                let into = if force { Into::Any } else { Into::Empty };
                print(&restore_file(backends, &file, into).await?, self.json)?;
            }
        }
        Ok(Outcome::Done)
    }
}

async fn write_to_standard_output(backends: &Backends) -> anyhow::Result<()> {
    let (index, partitions) = (backends.index_generations().await?, backends.log().await?.log.partitions().await?);
    write(index.as_ref(), partitions, &mut tokio::io::stdout()).await?;
    Ok(())
}

/// Writes beside the file and puts it in its place when it is complete and on the disk.
async fn write_file(backends: &Backends, file: &Path) -> anyhow::Result<SnapshotReport> {
    let (index, partitions) = (backends.index_generations().await?, backends.log().await?.log.partitions().await?);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = tempfile::Builder::new().prefix(".snapshot-").tempfile_in(folder);
    // Such a file may be read and written by its owner alone, and is deleted where this fails.
    let (partial, path) = partial.with_context(|| format!("{} cannot be written", folder.display()))?.into_parts();
    let mut partial = File::from_std(partial);
    let report = write(index.as_ref(), partitions, &mut partial).await?;
    partial.sync_all().await.context("the snapshot cannot be written to the disk")?;
    path.persist(file).with_context(|| format!("{} cannot be put in its place", file.display()))?;
    File::open(folder).await?.sync_all().await.context("the folder cannot be written to the disk")?;
    Ok(report)
}

async fn restore_file(backends: &Backends, file: &Path, into: Into) -> anyhow::Result<SnapshotReport> {
    let opened = OpenOptions::new().read(true).open(file).await;
    let mut opened = opened.with_context(|| format!("{} cannot be read", file.display()))?;
    let (index, generations) = (backends.index().await?, backends.index_generations().await?);
    Ok(restore(index.as_ref(), generations.as_ref(), &mut opened, into).await?)
}

fn print(report: &SnapshotReport, json: bool) -> anyhow::Result<()> {
    if json {
        output::json(report)?;
        return Ok(());
    }
    let offsets = report.checkpoints.iter().map(|(partition, at)| format!("{partition}: {}", at.next_offset));
    output::fields(&[
        ("made at", format!("{:.0}", report.made_at)),
        ("accounts", report.accounts.to_string()),
        ("next offsets", offsets.collect::<Vec<_>>().join(", ")),
    ]);
    Ok(())
}
