//! One message of the log: its bytes, and the events in it, each read for itself.

use super::MessageDigest;
use crate::event::{self, ActivityEvent, ContractError, Refused};

/// One message of a partition: a micro-batch of events.
#[derive(Debug, Clone, PartialEq)]
pub struct LogMessage {
    /// The partition it is in.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Its events, each read for itself.
    pub events: Vec<Result<ActivityEvent, Refused>>,
    content_type: Option<Box<str>>,
    body: Vec<u8>,
}

impl LogMessage {
    /// Reads the events of a message. The bytes are kept: what is refused later is parked as it came.
    pub fn decode(partition: u32, offset: u64, content_type: Option<&str>, body: Vec<u8>) -> Self {
        let events = event::decode(content_type, &body);
        Self { partition, offset, events, content_type: content_type.map(Box::from), body }
    }

    /// The length of its body in bytes: what a reader that is bounded counts.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// What tells it from another message at its offset.
    pub fn digest(&self) -> MessageDigest {
        MessageDigest::of(&self.body)
    }

    /// The content type it came with.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The event at `index` of [`events`](Self::events) as refused, with the bytes it was read from.
    pub fn refuse(&self, index: usize, error: ContractError) -> Refused {
        event::refuse(self.content_type.as_deref(), &self.body, index, error)
    }
}
