//! Takes an account out of the outbox in Redis: reads the streams in parts, deletes entry by entry.

use async_trait::async_trait;

use super::RedisTokenCache;
use super::outbox::{GROUP, entry};
use crate::account::CacheKey;
use crate::backend::BackendError;
use crate::event::EventId;
use crate::token_cache::erasure::{Forgotten, OutboxErasure, names};

/// Entries read at once.
const PART: usize = 500;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

#[async_trait]
impl OutboxErasure for RedisTokenCache {
    async fn forget(&self, key: &CacheKey, removal: &EventId) -> Result<Forgotten, BackendError> {
        let mut forgotten = Forgotten::default();
        let (outbox, refused) = (&self.shared.keys.outbox, &self.shared.keys.refused);
        let mut about = Vec::new();
        let mut after = "-".to_owned();
        'parts: loop {
            let part = self.part_of(outbox, &after).await?;
            let Some((last, _)) = part.last() else { break };
            after = format!("({last}");
            for (id, fields) in &part {
                let opened = entry(id, Some(fields)).ok().and_then(|entry| entry.event.open().ok());
                let Some(event) = opened else { continue };
                if event.id == *removal {
                    forgotten.removal = Some(event);
                    break 'parts;
                }
                if event.subject == *key {
                    about.push(id.clone());
                }
            }
        }
        if forgotten.removal.is_some() {
            forgotten.entries = self.delete(outbox, &about).await?;
        }
        let set_aside = self.set_aside_naming(key).await?;
        forgotten.refused = self.delete(refused, &set_aside).await?;
        Ok(forgotten)
    }
}

impl RedisTokenCache {
    async fn set_aside_naming(&self, key: &CacheKey) -> Result<Vec<String>, BackendError> {
        let mut found = Vec::new();
        let mut after = "-".to_owned();
        loop {
            let part = self.part_of(&self.shared.keys.refused, &after).await?;
            let Some((last, _)) = part.last() else { return Ok(found) };
            after = format!("({last}");
            let naming = part.iter().filter(|(_, fields)| fields.iter().any(|(_, value)| names(value, key)));
            found.extend(naming.map(|(id, _)| id.clone()));
        }
    }

    async fn part_of(&self, stream: &str, from: &str) -> Result<Vec<(String, Fields)>, BackendError> {
        let mut connection = self.connection().await?;
        let query = redis::cmd("XRANGE").arg(stream).arg(from).arg("+").arg("COUNT").arg(PART).to_owned();
        query.query_async(&mut *connection).await.map_err(|e| self.error(e))
    }

    /// Deletes entries, and with them that they are pending.
    async fn delete(&self, stream: &str, ids: &[String]) -> Result<u64, BackendError> {
        let mut deleted = 0;
        for some in ids.chunks(PART) {
            let mut deletion = redis::pipe();
            deletion.atomic().cmd("XACK").arg(stream).arg(GROUP).arg(some).ignore();
            deletion.cmd("XDEL").arg(stream).arg(some);
            let mut connection = self.connection().await?;
            let (count,): (u64,) = deletion.query_async(&mut *connection).await.map_err(|e| self.error(e))?;
            deleted += count;
        }
        Ok(deleted)
    }
}
