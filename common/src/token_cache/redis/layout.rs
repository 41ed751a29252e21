//! The two ways a blob is laid out in Redis, and how each notes an expiry.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use crate::token_cache::port::{Expiry, ExpiryChange};

/// How a blob is stored under its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// A hash of `absexp`, `sldexp` and `data`, as Microsoft.Extensions.Caching.StackExchangeRedis keeps it. The two
    /// expiries are .NET ticks (100 ns), the absolute one since the year 1; `-1` is none. The key's TTL is what is
    /// left of the shorter one, and a read starts the sliding window anew.
    ///
    /// As in .NET the TTL alone ends a blob: one that has outlived `absexp`, because its key has no TTL, is still read;
    /// with a sliding window it is read once, and starting the window anew ends it. Unlike there, a TTL is exact to the
    /// millisecond, and an overwrite without expiry leaves no old TTL standing.
    #[default]
    Aspnet,
    /// A plain value, as MSAL Node and Python apps keep it. The key's TTL is the expiry. It has no place to note a
    /// sliding window, so a write with one is refused.
    String,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aspnet => "aspnet",
            Self::String => "string",
        })
    }
}

/// A text is not the name of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a layout of the token cache; give `aspnet` or `string`")]
pub struct UnknownLayout;

impl FromStr for Layout {
    type Err = UnknownLayout;

    fn from_str(text: &str) -> Result<Self, UnknownLayout> {
        match text {
            "aspnet" => Ok(Self::Aspnet),
            "string" => Ok(Self::String),
            _ => Err(UnknownLayout),
        }
    }
}

/// The ticks of the Unix epoch, from <https://learn.microsoft.com/dotnet/api/system.datetime.unixepoch>.
const UNIX_EPOCH_TICKS: i128 = 621_355_968_000_000_000;
/// What .NET writes where there is no expiry.
const NO_TICKS: &str = "-1";
/// A longer window would leave what Redis can count; nobody will notice.
const LONGEST_SLIDING: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// An expiry as the scripts want it: .NET ticks for the hash, milliseconds for the TTL; empty texts are none. Without
/// ticks the stored expiry is kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenExpiry {
    pub(super) absolute_ticks: String,
    pub(super) sliding_ticks: String,
    pub(super) absolute_ms: String,
    pub(super) sliding_ms: String,
}

impl From<Expiry> for WrittenExpiry {
    fn from(expiry: Expiry) -> Self {
        let sliding = expiry.sliding.map(|sliding| sliding.min(LONGEST_SLIDING));
        Self {
            absolute_ticks: expiry.absolute.map_or_else(|| NO_TICKS.to_owned(), ticks_of_time),
            sliding_ticks: sliding.map_or_else(|| NO_TICKS.to_owned(), ticks_of_duration),
            absolute_ms: expiry.absolute.map(|time| time.as_millisecond().to_string()).unwrap_or_default(),
            sliding_ms: sliding.map(|sliding| sliding.as_millis().to_string()).unwrap_or_default(),
        }
    }
}

impl From<ExpiryChange> for WrittenExpiry {
    fn from(change: ExpiryChange) -> Self {
        match change {
            ExpiryChange::To(expiry) => expiry.into(),
            ExpiryChange::Kept => Self::default(),
        }
    }
}

fn ticks_of_time(time: Timestamp) -> String {
    (UNIX_EPOCH_TICKS + time.as_nanosecond() / 100).to_string()
}

fn ticks_of_duration(duration: Duration) -> String {
    (duration.as_nanos() / 100).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_written_as_dotnet_writes_it() {
        let absolute: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let expiry = Expiry { absolute: Some(absolute), sliding: Some(Duration::from_secs(90)) };
        // new DateTimeOffset(2026, 11, 22, 10, 0, 0, TimeSpan.Zero).Ticks
        let absolute_ticks = "639309384000000000";
        let written = WrittenExpiry::from(expiry);
        assert_eq!((written.absolute_ticks.as_str(), written.sliding_ticks.as_str()), (absolute_ticks, "900000000"));
        assert_eq!((written.absolute_ms.as_str(), written.sliding_ms.as_str()), ("1795341600000", "90000"));
    }

    #[test]
    fn no_expiry_is_minus_one() {
        let written = WrittenExpiry::from(Expiry::default());
        assert_eq!((written.absolute_ticks.as_str(), written.sliding_ticks.as_str()), ("-1", "-1"));
        assert_eq!((written.absolute_ms.as_str(), written.sliding_ms.as_str()), ("", ""));
    }

    #[test]
    fn a_layout_is_read_from_its_name() {
        for layout in [Layout::Aspnet, Layout::String] {
            assert_eq!(layout.to_string().parse::<Layout>().unwrap(), layout);
        }
        assert_eq!("hash".parse::<Layout>(), Err(UnknownLayout));
    }
}
