//! One thing that was found.

use serde::Serialize;

/// One thing that was found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// What to do; nothing where all is well.
    pub advice: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// It is no obstacle now, and may become one.
    Note,
    /// It passes by itself.
    Wait,
    /// It stands in the way of a token.
    Obstacle,
}

impl Finding {
    pub(super) fn good(text: impl Into<String>) -> Self {
        Self { level: Level::Good, text: text.into(), advice: None }
    }

    pub(super) fn new(level: Level, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level, text: text.into(), advice: Some(advice.into()) }
    }
}
