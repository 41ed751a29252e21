//! The one place here that reads the environment.

/// The variable's value, unless it is absent or no text.
#[expect(clippy::disallowed_methods, reason = "where the servers are is told to tests by the environment")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
