//! What the mains of all binaries do alike: stop on a signal, say an error in one line, exit with a code.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::settings::SettingsError;
use crate::telemetry::InvalidFilter;

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked: exit code 0.
    Done,
    /// It checked something and found a difference: exit code 3.
    Difference,
}

/// Turns the end of a command into an exit code, and an error into one line on standard error:
/// 0 done, 1 failed, 2 wrong usage, 3 a check found a difference.
pub fn exit_code(result: Result<Outcome, &(dyn Error + 'static)>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Difference) => ExitCode::from(3),
        Err(error) => {
            // Nobody is left to be told where standard error is closed.
            drop(writeln!(std::io::stderr(), "error: {}", one_line(error)));
            ExitCode::from(if is_wrong_usage(error) { 2 } else { 1 })
        }
    }
}

/// An error with its causes, in one line.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    for cause in causes(error) {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        // Some libraries repeat their cause in their own text.
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line
}

fn is_wrong_usage(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<SettingsError>() || cause.is::<InvalidFilter>() || cause.is::<WrongUsage>())
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Arguments that do not fit together, said in the words of the command.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUsage(pub String);

/// A token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// The process cannot listen for signals.
pub fn shutdown_on_signals() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        token.cancel();
    });
    Ok(shutdown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer\n  text")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner;

    #[test]
    fn an_error_is_one_line_with_its_causes() {
        assert_eq!(one_line(&Outer(Inner)), "outer text: inner");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Repeating(#[source] WrongUsage);

    #[test]
    fn a_cause_that_was_said_already_is_not_said_again() {
        let error = Repeating(WrongUsage("give a number".to_owned()));
        assert_eq!(one_line(&error), "give a number");
        assert!(is_wrong_usage(&error));
    }

    #[test]
    fn wrong_usage_is_told_from_failure() {
        assert!(is_wrong_usage(&WrongUsage("no".to_owned())));
        assert!(!is_wrong_usage(&Outer(Inner)));
    }
}
