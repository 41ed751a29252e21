//! The log: the events in order of arrival, kept in partitions, read from an offset again and again.

mod amqp;
mod message;
mod port;
mod sqlite;

pub use amqp::{InvalidMaxAge, MaxAge, RabbitMqLog, RabbitMqOptions, TopologyOptions, TopologyState};
pub use message::LogMessage;
pub use port::{
    ActivityLog, AppendError, Bounds, DeadLetter, DeadLetterError, DeadLetters, LetterQueue, LetterRound, LetterTicket,
    LogError, LogReader, ParkedLetter, Position,
};
pub use sqlite::SqliteLog;
