//! Who is due, in an SQLite file: by the record, and by the schedule.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::SqliteGeneration;
use super::claims::{schedule, time};
use crate::account::TenantId;
use crate::event::to_microseconds;
use crate::index::due_page::{Candidate, Candidates, PlaceKind};
use crate::index::{ClaimError, Cursor, DueRequest, Hold, InvalidCursor, WorkerId};

impl Candidates for SqliteGeneration {
    async fn candidates(
        &self,
        request: &DueRequest,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<Vec<Candidate>, ClaimError> {
        let mut all = Vec::new();
        for kind in [PlaceKind::Due, PlaceKind::Scheduled] {
            let mut query = range(self.generation, kind, request, after)?;
            query.push(" LIMIT ").push_bind(i64::try_from(count).unwrap_or(i64::MAX));
            let rows = query.build().fetch_all(self.database.readers()).await.map_err(|e| self.error(e))?;
            for row in rows {
                all.push(self.candidate(kind, &row)?);
            }
        }
        all.sort_by(|one, other| place(one).cmp(&place(other)));
        all.truncate(count);
        Ok(all)
    }
}

fn place(candidate: &Candidate) -> (i64, &[u8]) {
    (candidate.place.micros, &candidate.place.member)
}

impl SqliteGeneration {
    fn candidate(&self, kind: PlaceKind, row: &SqliteRow) -> Result<Candidate, ClaimError> {
        let error = |e| self.error(e);
        let cache_key: String = row.try_get(1).map_err(error)?;
        let record: Option<Vec<u8>> = row.try_get(2).map_err(error)?;
        Ok(Candidate {
            place: Cursor { micros: row.try_get(0).map_err(error)?, member: cache_key.into_bytes() },
            kind,
            account: record.map(|record| self.decode(&record)).transpose()?,
            schedule: schedule(row).map_err(error)?,
            hold: hold(row).map_err(error)?,
        })
    }
}

fn hold(row: &SqliteRow) -> Result<Option<Hold>, sqlx::Error> {
    let Some(until) = row.try_get::<Option<i64>, _>(5)? else { return Ok(None) };
    let worker: String = row.try_get(6)?;
    Ok(Some(Hold { until: time(until)?, worker: WorkerId::new(worker).ok(), attempts: row.try_get(7)? }))
}

/// The statement for the candidates of one kind after `after`, in order.
fn range<'a>(
    generation: i64,
    kind: PlaceKind,
    request: &'a DueRequest,
    after: Option<&'a Cursor>,
) -> Result<QueryBuilder<'a, Sqlite>, InvalidCursor> {
    let at = match kind {
        PlaceKind::Scheduled => "s.at_us",
        _ => "a.due_at",
    };
    let key = if kind == PlaceKind::Scheduled { "s.cache_key" } else { "a.cache_key" };
    let mut query = QueryBuilder::new("SELECT ");
    query.push(at).push(", ").push(key).push(", a.record, s.at_us, s.reason, h.until_us, h.worker, h.attempts FROM ");
    if kind == PlaceKind::Scheduled {
        query.push("activity_index_schedules s INDEXED BY activity_index_schedules_by_time ");
        query.push("CROSS JOIN activity_index_accounts a ON a.cache_key = s.cache_key");
    } else {
        let index = if request.tenant.is_some() { "activity_index_by_tenant_due" } else { "activity_index_by_due" };
        query.push("activity_index_accounts a INDEXED BY ").push(index);
        query.push(" LEFT JOIN activity_index_schedules s ON s.cache_key = a.cache_key");
    }
    query.push(" LEFT JOIN activity_index_holds h ON h.cache_key = ").push(key).push(" AND h.until_us > ");
    query.push_bind(Timestamp::now().as_microsecond());
    query.push(" WHERE a.generation = ").push_bind(generation);
    query.push(" AND ").push(at).push(" <= ").push_bind(to_microseconds(request.until).as_microsecond());
    if let Some(tenant) = &request.tenant {
        query.push(" AND a.tenant_id = ").push_bind(TenantId::as_str(tenant));
    }
    if let Some(Cursor { micros, member }) = after {
        let cache_key = std::str::from_utf8(member).map_err(|_| InvalidCursor)?;
        query.push(" AND (").push(at).push(", ").push(key).push(") > (").push_bind(*micros);
        query.push(", ").push_bind(cache_key).push(")");
    }
    query.push(" ORDER BY ").push(at).push(", ").push(key);
    Ok(query)
}
