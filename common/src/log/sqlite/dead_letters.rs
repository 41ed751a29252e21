//! Dead letters of the embedded log: a table.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use super::SqliteLog;
use crate::log::{DeadLetter, DeadLetterError, DeadLetters, LogError, ParkedLetter};

#[async_trait]
impl DeadLetters for SqliteLog {
    async fn park(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError> {
        let mut transaction = self.database.begin().await.map_err(LogError::from)?;
        for letter in letters {
            insert(&mut transaction, letter).await.map_err(|e| self.failed(e))?;
        }
        transaction.commit().await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    async fn peek(&self, max: usize) -> Result<Vec<ParkedLetter>, DeadLetterError> {
        let query = "SELECT id, partition, message_offset, event_index, reason, detail, raw
                     FROM log_dead_letter ORDER BY letter LIMIT ?";
        let rows = sqlx::query(query)
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .fetch_all(self.database.readers())
            .await
            .map_err(|e| self.failed(e))?;
        let letters: Result<Vec<_>, sqlx::Error> = rows.iter().map(parked).collect();
        Ok(letters.map_err(|e| self.failed(e))?)
    }
}

/// Parks a letter unless it is there. The bytes belong to the comparison: a log that was made anew gives old ids to
/// new letters.
async fn insert(transaction: &mut Transaction<'static, Sqlite>, letter: &DeadLetter) -> Result<(), sqlx::Error> {
    let insert = "INSERT INTO log_dead_letter (id, partition, message_offset, event_index, reason, detail, raw)
                  SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
                  WHERE NOT EXISTS (SELECT 1 FROM log_dead_letter WHERE id = ?1 AND raw = ?7)";
    sqlx::query(insert)
        .bind(letter.id())
        .bind(letter.partition)
        .bind(letter.offset.cast_signed())
        .bind(letter.refused.index.map(|index| i64::try_from(index).unwrap_or(i64::MAX)))
        .bind(letter.refused.error.code())
        .bind(letter.refused.error.to_string())
        .bind(letter.refused.raw.as_slice())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn parked(row: &SqliteRow) -> Result<ParkedLetter, sqlx::Error> {
    let index: Option<i64> = row.try_get(3)?;
    Ok(ParkedLetter {
        id: row.try_get(0)?,
        partition: row.try_get(1)?,
        offset: row.try_get::<i64, _>(2)?.cast_unsigned(),
        index: index.and_then(|index| usize::try_from(index).ok()),
        reason: row.try_get(4)?,
        detail: row.try_get(5)?,
        raw: row.try_get(6)?,
    })
}
