//! How long the embedded log keeps messages: an age that is stored in it, and that every process which appends keeps to.

use std::time::Duration;

use tokio::time::Instant;

use super::{SqliteLog, TRIM_CHUNK};
use crate::backend::BackendError;

/// How often a process that appends looks for what is too old. A change made by another one is seen as late.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl SqliteLog {
    /// How long messages are kept; `None`: for ever.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn retention(&self) -> Result<Option<Duration>, BackendError> {
        let query = sqlx::query_scalar::<_, i64>("SELECT max_age FROM log_retention");
        let micros = query.fetch_optional(self.database.readers()).await.map_err(|e| self.database.error(e))?;
        Ok(micros.map(|micros| Duration::from_micros(micros.unsigned_abs())))
    }

    /// Keeps messages for this long from now on, and forgets at once what is older.
    ///
    /// # Errors
    /// [`BackendError`]; the age may be stored then, and what is older goes with the appends.
    ///
    /// # Cancel safety
    /// As when it fails.
    pub async fn set_retention(&self, max_age: Duration) -> Result<(), BackendError> {
        let store =
            "INSERT INTO log_retention VALUES (1, ?) ON CONFLICT (only_row) DO UPDATE SET max_age = excluded.max_age";
        let micros = i64::try_from(max_age.as_micros()).unwrap_or(i64::MAX);
        let stored = sqlx::query(store).bind(micros).execute(self.database.writer()).await;
        stored.map_err(|e| self.database.error(e))?;
        self.trim(max_age).await.map(drop)
    }

    /// Forgets some of what is too old, if it is time to look. What is left waits for the next append.
    pub(super) async fn keep_to_retention(&self) {
        if !self.is_time_to_look() {
            return;
        }
        match self.trim_some().await {
            Ok(true) => self.look_at(Instant::now()),
            Ok(false) => {}
            // The append is done; the next look tries again.
            Err(error) => tracing::warn!(%error, "the log could not be cut to its retention"),
        }
    }

    /// Says whether there may be more.
    async fn trim_some(&self) -> Result<bool, BackendError> {
        let Some(max_age) = self.retention().await? else { return Ok(false) };
        let trimmed = self.trim_chunk(super::horizon(max_age)).await?;
        Ok(trimmed >= TRIM_CHUNK.unsigned_abs())
    }

    fn is_time_to_look(&self) -> bool {
        let now = Instant::now();
        let mut look_at = self.look_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_due = *look_at <= now;
        if is_due {
            *look_at = now + LOOK_EVERY;
        }
        is_due
    }

    fn look_at(&self, at: Instant) {
        *self.look_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = at;
    }
}
