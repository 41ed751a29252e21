//! Times and durations as people type them: `2h`, `7d`, `90s`, `2026-11-22T10:00:00Z`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo, Timestamp};

/// A text is neither a duration nor a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoment {
    /// Not a duration.
    #[error("give a duration such as 90s, 2h or 7d")]
    Span,
    /// Neither a duration nor a time.
    #[error("give a time such as 2026-11-22T10:00:00Z, or how long ago, such as 2h or 7d")]
    Moment,
}

/// Reads a duration. A day is 24 hours.
///
/// # Errors
/// [`InvalidMoment::Span`].
pub fn span(text: &str) -> Result<Duration, InvalidMoment> {
    let span: Span = text.parse().map_err(|_| InvalidMoment::Span)?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| InvalidMoment::Span)?;
    duration.try_into().map_err(|_| InvalidMoment::Span)
}

/// Reads a time, or a duration that is taken for so long before now.
///
/// # Errors
/// [`InvalidMoment::Moment`].
pub fn moment(text: &str) -> Result<Timestamp, InvalidMoment> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = span(text).map_err(|_| InvalidMoment::Moment)?;
    Timestamp::now().checked_sub(ago).map_err(|_| InvalidMoment::Moment)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_type_them() {
        for (text, seconds) in [("90s", 90), ("2h", 7200), ("7d", 604_800), ("1h 30m", 5400), ("0s", 0)] {
            assert_eq!(span(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "soon", "-2h", "5", "1 month"] {
            assert_eq!(span(text), Err(InvalidMoment::Span), "{text}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        assert_eq!(moment("2026-11-22T10:00:00Z").unwrap().to_string(), "2026-11-22T10:00:00Z");
        let ago = Timestamp::now().duration_since(moment("2h").unwrap());
        assert!((7199..=7201).contains(&ago.as_secs()));
        assert_eq!(moment("yesterday"), Err(InvalidMoment::Moment));
    }
}
