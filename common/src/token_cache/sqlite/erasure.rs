//! Takes an account out of the outbox in SQLite.

use async_trait::async_trait;
use sqlx::Row as _;

use super::SqliteTokenCache;
use super::clock::time_of;
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::event::{EventId, decode_draft};
use crate::token_cache::erasure::{Forgotten, OutboxErasure, names};

/// Entries read at once.
const PART: i64 = 500;
const OUTBOX: &str = "SELECT time_us, draft FROM token_outbox WHERE time_us > ?1 ORDER BY time_us LIMIT ?2";
const REFUSED: &str = "SELECT time_us, draft FROM token_outbox_refused WHERE time_us > ?1 ORDER BY time_us LIMIT ?2";

#[async_trait]
impl OutboxErasure for SqliteTokenCache {
    async fn forget(&self, key: &CacheKey, removal: &EventId) -> Result<Forgotten, BackendError> {
        let mut forgotten = Forgotten::default();
        let (mut about, mut after) = (Vec::new(), i64::MIN);
        'parts: loop {
            let part = self.part_of(OUTBOX, after).await?;
            let Some((last, _)) = part.last() else { break };
            after = *last;
            for (time_us, draft) in &part {
                let Ok(draft) = decode_draft(draft) else { continue };
                if draft.id == *removal {
                    forgotten.removal = Some(draft.at(time_of(*time_us)));
                    break 'parts;
                }
                if draft.subject == *key {
                    about.push(*time_us);
                }
            }
        }
        if forgotten.removal.is_some() {
            forgotten.entries = self.delete("DELETE FROM token_outbox WHERE time_us = ?1", &about).await?;
        }
        let set_aside = self.set_aside_naming(key).await?;
        forgotten.refused = self.delete("DELETE FROM token_outbox_refused WHERE time_us = ?1", &set_aside).await?;
        Ok(forgotten)
    }
}

impl SqliteTokenCache {
    async fn set_aside_naming(&self, key: &CacheKey) -> Result<Vec<i64>, BackendError> {
        let (mut found, mut after) = (Vec::new(), i64::MIN);
        loop {
            let part = self.part_of(REFUSED, after).await?;
            let Some((last, _)) = part.last() else { return Ok(found) };
            after = *last;
            found.extend(part.iter().filter(|(_, draft)| names(draft, key)).map(|(time_us, _)| time_us));
        }
    }

    async fn part_of(&self, query: &'static str, after: i64) -> Result<Vec<(i64, Vec<u8>)>, BackendError> {
        let rows = sqlx::query(query).bind(after).bind(PART).fetch_all(self.database.readers()).await;
        let rows = rows.map_err(|e| self.error(e))?;
        Ok(rows.iter().map(|row| (row.get("time_us"), row.get("draft"))).collect())
    }

    async fn delete(&self, statement: &'static str, times: &[i64]) -> Result<u64, BackendError> {
        let mut transaction = self.database.begin().await?;
        let mut deleted = 0;
        for time_us in times {
            let done = sqlx::query(statement).bind(time_us).execute(&mut *transaction).await;
            deleted += done.map_err(|e| self.error(e))?.rows_affected();
        }
        self.commit(transaction, false).await?;
        Ok(deleted)
    }
}
