//! Dead letters of the embedded log: a table. Nothing is ever unrouted here: an append to a partition that is not there
//! is an error.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use super::SqliteLog;
use crate::log::{
    DeadLetter, DeadLetterError, DeadLetters, LetterQueue, LetterRound, LetterTicket, LogError, ParkLetters,
    ParkedLetter,
};

#[async_trait]
impl ParkLetters for SqliteLog {
    async fn park(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError> {
        let mut transaction = self.database.begin().await.map_err(LogError::from)?;
        for letter in letters {
            insert(&mut transaction, letter).await.map_err(|e| self.failed(e))?;
        }
        transaction.commit().await.map_err(|e| self.failed(e))?;
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for SqliteLog {
    async fn open(&self, queue: LetterQueue) -> Result<Box<dyn LetterRound>, DeadLetterError> {
        let after = match queue {
            LetterQueue::Dead => 0,
            LetterQueue::Unrouted => i64::MAX,
        };
        Ok(Box::new(SqliteRound { log: self.clone(), after }))
    }
}

/// Parks a letter unless it is there. The bytes belong to the comparison: a log that was made anew gives old ids to
/// new letters.
async fn insert(transaction: &mut Transaction<'static, Sqlite>, letter: &DeadLetter) -> Result<(), sqlx::Error> {
    let insert = "INSERT INTO log_letter
                      (id, partition, message_offset, event_index, reason, detail, parked_at, content_type, raw)
                  SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
                  WHERE NOT EXISTS (SELECT 1 FROM log_letter WHERE id = ?1 AND raw = ?9)";
    sqlx::query(insert)
        .bind(letter.id())
        .bind(letter.partition)
        .bind(letter.offset.cast_signed())
        .bind(letter.refused.index.map(|index| i64::try_from(index).unwrap_or(i64::MAX)))
        .bind(letter.refused.error.code())
        .bind(letter.refused.error.to_string())
        .bind(Timestamp::now().as_microsecond())
        .bind(letter.content_type.as_deref())
        .bind(letter.refused.raw.as_slice())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Two may go through at once: what one has taken out, the other does not come to, or takes out once more.
struct SqliteRound {
    log: SqliteLog,
    after: i64,
}

#[async_trait]
impl LetterRound for SqliteRound {
    async fn next(&mut self) -> Result<Option<(LetterTicket, ParkedLetter)>, DeadLetterError> {
        let query = "SELECT letter, id, partition, message_offset, event_index, reason, detail, parked_at,
                            content_type, raw
                     FROM log_letter WHERE letter > ? ORDER BY letter LIMIT 1";
        let row = sqlx::query(query).bind(self.after).fetch_optional(self.log.database.readers()).await;
        let Some(row) = row.map_err(|e| self.log.failed(e))? else { return Ok(None) };
        let (place, letter) = parked(&row).map_err(|e| self.log.failed(e))?;
        self.after = place;
        Ok(Some((LetterTicket(place.cast_unsigned()), letter)))
    }

    async fn take_out(&mut self, ticket: LetterTicket) -> Result<(), DeadLetterError> {
        let delete = sqlx::query("DELETE FROM log_letter WHERE letter = ?").bind(ticket.0.cast_signed());
        delete.execute(self.log.database.writer()).await.map_err(|e| self.log.failed(e))?;
        Ok(())
    }

    async fn close(&mut self) -> Result<(), DeadLetterError> {
        Ok(())
    }
}

fn parked(row: &SqliteRow) -> Result<(i64, ParkedLetter), sqlx::Error> {
    let index: Option<i64> = row.try_get(4)?;
    let letter = ParkedLetter {
        id: row.try_get(1)?,
        partition: row.try_get(2)?,
        offset: row.try_get::<i64, _>(3)?.cast_unsigned(),
        index: index.and_then(|index| usize::try_from(index).ok()),
        reason: row.try_get(5)?,
        detail: row.try_get(6)?,
        parked_at: Timestamp::from_microsecond(row.try_get(7)?).ok(),
        content_type: row.try_get(8)?,
        raw: row.try_get(9)?,
    };
    Ok((row.try_get(0)?, letter))
}
