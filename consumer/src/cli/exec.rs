//! A program as the job of a worker: a process for each account, with the token on its standard input.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use common::identity::AccessToken;
use common::index::AccountActivity;
use consumer::view::AccountView;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Runs one program for each account.
#[derive(Debug)]
pub(super) struct Exec {
    program: PathBuf,
}

/// What the program reads: one JSON document.
#[derive(Serialize)]
struct Input<'a> {
    account: AccountView<'a>,
    access_token: &'a str,
    expires_on: i64,
}

/// The program did not do its job.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecError {
    /// It cannot be run.
    #[error("{program} cannot be run")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    /// What it reads cannot be written down.
    #[error("an account cannot be written as JSON")]
    Input(#[source] serde_json::Error),
    /// It says no.
    #[error("the program ended with {0}")]
    Failed(ExitStatus),
    /// It cannot be waited for.
    #[error("the program cannot be waited for")]
    Wait(#[source] io::Error),
}

impl Exec {
    /// # Errors
    /// [`ExecError::Start`] where there is no such file.
    pub(super) fn new(program: PathBuf) -> Result<Self, ExecError> {
        match std::fs::metadata(&program) {
            Ok(_) => Ok(Self { program }),
            Err(source) => Err(ExecError::Start { program: program.display().to_string(), source }),
        }
    }

    /// Runs the program for one account.
    ///
    /// # Errors
    /// [`ExecError`].
    ///
    /// # Cancel safety
    /// When it is dropped, the process is killed.
    pub(super) async fn run(&self, account: Arc<AccountActivity>, token: AccessToken) -> Result<(), ExecError> {
        let input = Input {
            account: AccountView::of(&account),
            access_token: token.expose(),
            expires_on: token.expires_on().as_second(),
        };
        let input = serde_json::to_vec(&input).map_err(ExecError::Input)?;
        let start = |source| ExecError::Start { program: self.program.display().to_string(), source };
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(start)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program need not read what it is told.
            drop(stdin.write_all(&input).await);
        }
        let status = child.wait().await.map_err(ExecError::Wait)?;
        if status.success() { Ok(()) } else { Err(ExecError::Failed(status)) }
    }
}
