//! How a page of due accounts is filled: candidates in the order of their places, those that are due and pass.

use std::future::Future;

use jiff::Timestamp;

use super::{
    AccountActivity, ClaimError, Cursor, DueAccount, DuePage, DuePolicy, DueReason, DueRequest, Filter, Hold, Schedule,
};

/// How many candidates a page may examine for each account it may return, and at least.
const EXAMINED_PER_ROW: usize = 20;
const EXAMINED_AT_LEAST: usize = 2_000;
/// How many candidates are fetched at once, at most, and where some will not pass at least.
const CHUNK: usize = 1_000;
const FILTERED_CHUNK_AT_LEAST: usize = 100;

/// An account that may be due, at one of its places: those by its record, by its schedule, and by its hold.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// When it was due by what gave the place, and what the store orders accounts of one time by.
    pub(crate) place: Cursor,
    /// What gave the place.
    pub(crate) kind: PlaceKind,
    /// The account, where there is one.
    pub(crate) account: Option<AccountActivity>,
    /// What a job asked for.
    pub(crate) schedule: Option<Schedule>,
    /// What holds it back.
    pub(crate) hold: Option<Hold>,
}

/// What gave a candidate its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceKind {
    /// Its record.
    Due,
    /// A job.
    Scheduled,
    /// A hold, which moved its other places away: this one stands for them.
    Held,
}

/// A store's accounts that may be due.
pub(crate) trait Candidates {
    /// Up to `count` candidates that may be due by the request's time, from after `after` on, in the order of their
    /// places. Fewer than `count` mean that there are no more.
    fn candidates(
        &self,
        request: &DueRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> impl Future<Output = Result<Vec<Candidate>, ClaimError>> + Send;
}

/// One page of what `request` asks for.
pub(crate) async fn page(
    store: &impl Candidates,
    policy: &DuePolicy,
    request: &DueRequest,
) -> Result<DuePage, ClaimError> {
    if request.limit == 0 || request.limit > DueRequest::MAX_LIMIT {
        return Err(ClaimError::Limit { given: request.limit, most: DueRequest::MAX_LIMIT });
    }
    let filter = Filter { tenant: request.tenant.clone(), client: request.client.clone(), state: None };
    let mut budget = (request.limit * EXAMINED_PER_ROW).max(EXAMINED_AT_LEAST);
    let mut accounts = Vec::new();
    let mut place = request.cursor.clone();
    loop {
        let count = chunk(&filter, request.limit - accounts.len()).min(budget);
        let found = store.candidates(request, place.as_ref(), count).await?;
        let is_last = found.len() < count;
        budget -= found.len();
        for candidate in found {
            if accounts.len() == request.limit {
                return Ok(DuePage { accounts, next: place });
            }
            place = Some(candidate.place.clone());
            accounts.extend(candidate.shown(policy, request.until, &filter));
        }
        if is_last {
            return Ok(DuePage { accounts, next: None });
        }
        if budget == 0 {
            return Ok(DuePage { accounts, next: place });
        }
    }
}

fn chunk(filter: &Filter, room: usize) -> usize {
    let is_filtered = *filter != Filter::default();
    let count = if is_filtered { (2 * room).max(FILTERED_CHUNK_AT_LEAST) } else { room + 1 };
    count.min(CHUNK + 1)
}

impl Candidate {
    /// The account, if it is due by then, and shown at this place of its places.
    fn shown(self, policy: &DuePolicy, until: Timestamp, filter: &Filter) -> Option<DueAccount> {
        let account = self.account?;
        let due = policy.due_or_scheduled(&account, self.schedule.as_ref())?;
        let is_here = match self.kind {
            PlaceKind::Held => true,
            PlaceKind::Scheduled => due.reason == DueReason::Scheduled,
            PlaceKind::Due => due.reason != DueReason::Scheduled,
        };
        let is_shown = is_here && due.at <= until && filter.lets_through(&account);
        is_shown.then_some(DueAccount { account, due, hold: self.hold })
    }
}
