//! The log: the events in order of arrival, kept in partitions, read from an offset again and again.

mod amqp;
mod digest;
mod grow;
mod message;
mod port;
mod sqlite;

pub use amqp::{
    InvalidMaxAge, MaxAge, RabbitMqLog, RabbitMqManagement, RabbitMqOptions, TopologyOptions, TopologyState,
    retention_command,
};
pub use digest::{InvalidMessageDigest, MessageDigest};
pub use grow::{GrowError, Grown};
pub use message::LogMessage;
pub use port::{
    ActivityLog, AppendError, Bounds, DeadLetter, DeadLetterError, DeadLetters, LetterQueue, LetterRound, LetterTicket,
    LogError, LogReader, MAX_PARTITIONS, ParkLetters, ParkedLetter, Position,
};
pub use sqlite::SqliteLog;
