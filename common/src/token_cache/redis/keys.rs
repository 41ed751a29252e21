//! The names of the keys; no other module knows them.

use super::RedisTokenCacheOptions;
use crate::account::CacheKey;

#[derive(Debug)]
pub(super) struct Keys {
    instance_name: String,
    /// The stream of the events.
    pub(super) outbox: String,
    /// The stream of what is no event.
    pub(super) refused: String,
}

impl Keys {
    pub(super) fn new(options: &RedisTokenCacheOptions) -> Self {
        let outbox = format!("{}{}", options.instance_name, options.outbox_name);
        Self { instance_name: options.instance_name.clone(), refused: format!("{outbox}.refused"), outbox }
    }

    pub(super) fn blob(&self, key: &CacheKey) -> String {
        format!("{}{key}", self.instance_name)
    }

    /// Who refreshes the blob just now.
    pub(super) fn refresh_lock(&self, key: &CacheKey) -> String {
        format!("{}.refresh:{key}", self.outbox)
    }
}
