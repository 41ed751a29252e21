//! Which accounts a run is about, and the walk over them.

use std::collections::VecDeque;
use std::time::Duration;

use common::account::{CacheKey, Username};
use common::index::{AccountActivity, ActivityStore, Cursor, Filter, ListError, ListRequest, Query};
use common::retry::{Retry, RetryDelays, Setback};
use jiff::{SignedDuration, Timestamp};

/// How many accounts are held in memory.
const PAGE: usize = 500;
/// How often a page is asked for again before the run is given up.
const MOST_SETBACKS: u32 = 5;

/// Which accounts of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those of a list.
    Listed {
        /// Which list.
        query: Query,
        /// Narrowed by.
        filter: Filter,
        /// How many at most; all of them where this is not set.
        limit: Option<usize>,
    },
    /// The one of this cache key.
    One(CacheKey),
}

impl Selection {
    /// All accounts whose user has not been here for so long, longest idle first.
    pub fn idle_for(duration: Duration) -> Self {
        let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let time = Timestamp::now().checked_sub(duration).unwrap_or(Timestamp::MIN);
        Self::all(Query::IdleSince(time))
    }

    /// All accounts whose user was here since then, newest first.
    pub fn active_since(time: Timestamp) -> Self {
        Self::all(Query::ActiveSince(time))
    }

    /// All accounts of a username, as the index has it.
    pub fn user(username: Username) -> Self {
        Self::all(Query::User(username))
    }

    /// The same, narrowed to those that pass `filter`, and to as many as `limit`. One account stays as it is.
    #[must_use]
    pub fn narrowed(self, filter: Filter, limit: Option<usize>) -> Self {
        match self {
            Self::Listed { query, .. } => Self::Listed { query, filter, limit },
            Self::One(key) => Self::One(key),
        }
    }

    fn all(query: Query) -> Self {
        Self::Listed { query, filter: Filter::default(), limit: None }
    }

    pub(super) fn walk<'a>(&self, index: &'a dyn ActivityStore) -> Walk<'a> {
        let source = match self.clone() {
            Self::One(key) => Source::One(key),
            Self::Listed { query, filter, limit } => {
                let request = ListRequest { query, filter, limit: PAGE, cursor: None };
                Source::List { request: Box::new(request), left: limit.unwrap_or(usize::MAX) }
            }
        };
        Walk { index, source, page: VecDeque::new() }
    }
}

/// Gives one account after the other.
pub(super) struct Walk<'a> {
    index: &'a dyn ActivityStore,
    source: Source,
    page: VecDeque<AccountActivity>,
}

enum Source {
    One(CacheKey),
    List { request: Box<ListRequest>, left: usize },
    Ended,
}

impl Walk<'_> {
    /// The next account; an index that does not answer is asked again a few times.
    pub(super) async fn next(&mut self) -> Result<Option<AccountActivity>, ListError> {
        let mut retry = Retry::new(RetryDelays::default());
        let mut setbacks = 0;
        while self.page.is_empty() {
            if matches!(self.source, Source::Ended) {
                return Ok(None);
            }
            match self.turn_page().await {
                Ok(()) => {}
                Err(ListError::Backend(error)) if error.is_transient() && setbacks < MOST_SETBACKS => {
                    setbacks += 1;
                    tracing::warn!(%error, "the index does not list accounts; trying again");
                    tokio::time::sleep(retry.delay_after(&Setback::from(&error))).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.page.pop_front())
    }

    async fn turn_page(&mut self) -> Result<(), ListError> {
        match &mut self.source {
            Source::Ended => {}
            Source::One(key) => {
                self.page.extend(self.index.get(key).await?);
                self.source = Source::Ended;
            }
            Source::List { left: 0, .. } => self.source = Source::Ended,
            Source::List { request, left } => {
                request.limit = PAGE.min(*left);
                let page = self.index.list(request).await?;
                *left -= page.accounts.len().min(*left);
                self.page.extend(page.accounts);
                self.turn_to(page.next);
            }
        }
        Ok(())
    }

    fn turn_to(&mut self, next: Option<Cursor>) {
        match (&mut self.source, next) {
            (Source::List { request, .. }, Some(cursor)) => request.cursor = Some(cursor),
            _ => self.source = Source::Ended,
        }
    }
}
